"""The state of a turn, without a loop: chunks, times and failures in, events and attempts out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.invariants import check_wire
from tests.replaying import chunk, numbered_ids, sse
from translator import (
    UpstreamError,
    UpstreamTimeout,
    encode_json,
    parse_request,
    read_upstream_error,
)
from translator.service.base.errors import InternalError, Stopping
from translator.service.config.loading import read_options
from translator.service.config.settings import Server
from translator.service.models.table import ModelTable
from translator.service.turns.adaptive import AdaptiveRequest
from translator.service.turns.learned import LearnedFacts
from translator.service.turns.state import TurnState
from translator.wire.events import Event

SERVER = Server(headers_grace_s=5, heartbeat_s=15, progress_timeout_s=100)
ASK = {"model": "m", "input": "Hi", "stream": True, "temperature": 0.5}
ROLE = sse(chunk({"role": "assistant", "content": ""}))
HELLO = sse(chunk({"content": "Hello"}))
MORE = sse(chunk({"content": " there"}))
STOP = sse(chunk({}, "stop"), "[DONE]")
COMMENT = b": keep-alive\n\n"
OVERLOADED = sse({"error": {"message": "Overloaded.", "code": 503}})


def new_state(**request: Any) -> TurnState:
    """The state of a turn that begins at time 0."""
    settings = read_options(upstream="http://127.0.0.1:9/v1", environ={})
    adaptive = AdaptiveRequest(
        parse_request(json.dumps(ASK | request).encode()),
        ModelTable(settings, created=0).route("m"),
        LearnedFacts(60.0, lambda: 0.0),
        model="m",
        may_retry=True,
        clock=lambda: 0,
        new_id=numbered_ids(),
    )
    adaptive.write()
    return TurnState(adaptive, SERVER, 0.0)


def rejected() -> UpstreamError:
    """The error of an upstream that rejects `temperature`."""
    return read_upstream_error(400, b'{"error":{"message":"Unknown parameter: \'temperature\'."}}')


def check(events: list[Event]) -> None:
    """Check all events of a turn; heartbeats count, and are no part of the grammar."""
    wire = [json.loads(encode_json(event)) for event in events]
    assert [event["sequence_number"] for event in wire] == list(range(len(wire)))
    heartbeats = [event for event in wire[2:] if event["type"] == "response.in_progress"]
    others = [event for event in wire if event not in heartbeats]
    check_wire([event | {"sequence_number": place} for place, event in enumerate(others)])


def types(events: list[Event]) -> list[str]:
    return [str(event.__struct_config__.tag).removeprefix("response.") for event in events]


def test_the_first_events_wait_for_the_answer() -> None:
    state = new_state()
    assert state.feed(ROLE, 1.0) == []
    assert state.due == 5.0
    first = state.feed(HELLO, 2.0)
    assert types(first)[:3] == ["created", "in_progress", "output_item.added"]
    assert state.due == 17.0
    last = state.feed(STOP, 3.0)
    assert types(last)[-1] == "completed"
    assert state.over
    check(first + last)


def test_they_wait_no_longer_than_the_grace_time() -> None:
    state = new_state()
    assert state.tick(4.9) == []
    first = state.tick(5.0)
    assert types(first) == ["created", "in_progress"]
    assert (state.due, state.tick(19.9)) == (20.0, [])
    assert types(state.tick(20.0)) == ["in_progress"]
    assert state.due == 35.0


def test_a_failure_before_the_first_events_is_raised() -> None:
    """So the client gets a status; an error in the body of a 200 is one, too."""
    for failure in (rejected(), Stopping(), InternalError()):
        state = new_state(temperature=None)
        with pytest.raises(type(failure)):
            state.fail(failure, 1.0)
        assert not state.over
    state = new_state()
    with pytest.raises(UpstreamError, match="Overloaded"):
        state.feed(OVERLOADED, 1.0)


def test_a_failure_after_them_ends_the_stream() -> None:
    state = new_state()
    first = state.feed(HELLO, 1.0)
    last = state.fail(UpstreamError("The connection broke."), 2.0)
    assert types(last) == ["error", "failed"]
    assert state.over
    check(first + last)


def test_a_failure_after_the_end_is_nothing() -> None:
    """As when the upstream's connection breaks while it is closed: one terminal event is enough."""
    state = new_state()
    state.feed(HELLO, 1.0)
    assert types(state.feed(STOP, 2.0))[-1] == "completed"
    assert state.fail(UpstreamError("The connection broke."), 3.0) == []


def test_a_failure_takes_the_events_along_that_were_held() -> None:
    state = new_state()
    first = state.tick(5.0)
    with pytest.raises(UpstreamError):
        state.feed(OVERLOADED, 6.0)
    last = state.fail(UpstreamError("Overloaded."), 6.0)
    assert types(last) == ["error", "failed"]
    check(first + last)


def test_another_attempt_begins_where_the_client_is() -> None:
    """With the numbers that follow on the events that were sent, heartbeats included."""
    state = new_state()
    sent = state.tick(5.0) + state.tick(20.0) + state.tick(35.0)
    before = state.translation
    assert state.fail(rejected(), 36.0) == []
    assert not state.over
    assert state.translation is not before
    assert b"temperature" not in state._request.attempt.body
    sent += state.feed(HELLO, 37.0) + state.feed(STOP, 38.0)
    assert types(sent)[:5] == [
        "created",
        "in_progress",
        "in_progress",
        "in_progress",
        "output_item.added",
    ]
    check(sent)


def test_there_is_no_other_attempt_once_an_item_was_announced() -> None:
    state = new_state()
    state.feed(HELLO, 1.0)
    assert types(state.fail(rejected(), 2.0)) == ["error", "failed"]


def test_the_request_is_released_with_the_first_item() -> None:
    state = new_state()
    state.tick(5.0)
    assert state.translation.chat_body
    state.feed(HELLO, 6.0)
    assert not state.translation.chat_body


def test_the_end_of_the_body_is_an_empty_chunk() -> None:
    state = new_state()
    state.feed(HELLO, 1.0)
    assert types(state.feed(b"", 2.0)) == ["error", "failed"]
    assert state.over


def test_keep_alives_are_no_progress() -> None:
    state = new_state()
    state.feed(HELLO, 1.0)
    state.feed(COMMENT, 100.0)
    with pytest.raises(UpstreamTimeout, match="did not progress"):
        state.feed(COMMENT, 101.5)


def test_a_sink_hands_over_its_unsent_events() -> None:
    """The next heartbeat is due that long after what it wrote last."""
    state = new_state()
    state.feed(HELLO, 1.0)
    state.translation.receive(MORE)
    assert state.resume([], sent_at=4.0, now=5.0) == []
    assert state.due == 19.0
    unsent = state.translation.receive(STOP)
    assert state.resume(unsent, sent_at=4.0, now=6.0) == unsent
    assert state.over


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([ROLE, HELLO, MORE, COMMENT, STOP, b"", OVERLOADED, "tick", "fail"]),
            st.floats(0, 30),
        ),
        max_size=12,
    )
)
def test_every_order_is_legal(steps: list[tuple[bytes | str, float]]) -> None:
    """Whatever happens when: the events follow the grammar, or an error is raised before them."""
    state = new_state()
    sent: list[Event] = []
    now = 0.0
    for step, wait in steps:
        now += wait
        try:
            if step == "tick":
                sent += state.tick(now)
            elif isinstance(step, bytes):
                sent += state.feed(step, now)
            else:
                sent += state.fail(rejected(), now)
        except UpstreamError as error:
            try:
                sent += state.fail(error, now)
            except UpstreamError:
                assert sent == []
                return
        if state.over:
            break
    if sent and not state.over:
        sent += state.fail(UpstreamError("It broke."), now)
        if not state.over:
            sent += state.fail(UpstreamError("It broke again."), now)
    if sent:
        check(sent)
