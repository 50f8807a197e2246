"""A request that goes on from a previous response, one that only prepares, and a judged error."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

import translator
from translator import InvalidRequest, Translation, UpstreamError

from .replaying import chunk, sse

CALL = {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "a.txt"}
EARLIER: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}, CALL]


def translate(request: dict[str, Any], **more: Any) -> Translation:
    count = itertools.count()
    return Translation(
        {"model": "m", **request},
        response_id="resp_2",
        created_at=3,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        **more,
    )


def raw(*items: dict[str, Any]) -> list[Raw]:
    return [Raw(msgspec.json.encode(item)) for item in items]


@pytest.mark.parametrize("new", [[OUTPUT], [OUTPUT, {"role": "user", "content": "And?"}]])
def test_earlier_items_stand_before_the_new_ones(new: list[dict[str, Any]]) -> None:
    """The same chat request as for the whole conversation; only the response tells them apart."""
    request = {"previous_response_id": "resp_1", "input": new}
    short = translate(request, earlier=raw(*EARLIER))
    whole = translate({"input": [*EARLIER, *new]})
    assert short.chat_body == whole.chat_body
    assert short.response.previous_response_id == "resp_1"
    assert whole.response.previous_response_id is None


def test_a_text_can_follow_too() -> None:
    short = translate({"previous_response_id": "r", "input": "And?"}, earlier=raw(*EARLIER[:1]))
    assert [one["content"] for one in json.loads(short.chat_body)["messages"]] == ["Hi", "And?"]


def test_nothing_new_is_enough_where_something_came_before() -> None:
    short = translate({"previous_response_id": "r"}, earlier=raw(*EARLIER, OUTPUT))
    assert json.loads(short.chat_body)["messages"][-1]["content"] == "a.txt"


def test_an_unknown_response_cannot_be_gone_on_from() -> None:
    with pytest.raises(InvalidRequest) as refused:
        translate({"previous_response_id": "resp_1", "input": "x"})
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


def test_a_conversation_is_not_a_previous_response() -> None:
    request = {"previous_response_id": "r", "conversation": "conv_1", "input": "x"}
    with pytest.raises(InvalidRequest) as refused:
        translate(request, earlier=[])
    assert refused.value.param == "conversation"


def test_a_faulty_item_is_found_where_the_client_sent_it() -> None:
    """The index is that of the client's own input; what came before has a path of its own."""
    with pytest.raises(InvalidRequest) as refused:
        request = {"previous_response_id": "r", "input": [OUTPUT | {"call_id": "c9"}]}
        translate(request, earlier=raw(*EARLIER))
    assert refused.value.param == "input[0].call_id"
    short = translate(
        {"previous_response_id": "r", "input": "x"},
        earlier=raw(*EARLIER[:1], {"type": "web_search_call", "id": "ws_1"}),
    )
    assert [notice.path for notice in short.notices] == ["previous_response_id[1]"]


# --- a request that only prepares -----------------------------------------------------------------


def test_a_request_that_wants_no_answer_has_an_empty_one() -> None:
    prepared = translate({"input": "Hi", "generate": False})
    assert not prepared.wants_answer
    events = prepared.skip()
    assert [type(event).__name__ for event in events] == ["Created", "InProgress", "Completed"]
    assert prepared.finished
    assert prepared.response.status == "completed"
    assert prepared.response.output == []
    assert prepared.receive(sse(chunk({"content": "no"}))) == []


@pytest.mark.parametrize("generate", [True, None])
def test_only_such_a_request_may_be_empty(generate: bool | None) -> None:
    assert translate({"input": "Hi", "generate": generate}).wants_answer
    assert translate({"input": [], "generate": False}).skip()
    with pytest.raises(InvalidRequest) as refused:
        translate({"input": [], "generate": generate})
    assert refused.value.param == "input"


def test_it_is_checked_like_any_other() -> None:
    with pytest.raises(InvalidRequest):
        translate({"input": [OUTPUT], "generate": False})


# --- an error that is judged ----------------------------------------------------------------------

REFUSED = sse({"error": {"message": "bad key sk-1", "code": 401}})


def whose(error: UpstreamError) -> UpstreamError:
    return UpstreamError("It is not your key.") if error.status_hint == 401 else error


def test_an_error_in_the_body_is_judged_before_it_is_shown() -> None:
    translation = translate({"input": "Hi", "stream": True}, judge=whose)
    events = translation.receive(sse(chunk({"content": "Hello"})) + REFUSED)
    shown = b"".join(map(translator.encode_sse, events))
    assert b"It is not your key." in shown
    assert b"sk-1" not in shown
    assert translation.error is not None
    assert translation.error.status_hint == 502


def test_so_is_the_one_that_is_raised() -> None:
    with pytest.raises(UpstreamError) as refused:
        translate({"input": "Hi"}, judge=whose).complete(REFUSED)
    assert (refused.value.status_hint, refused.value.message) == (502, "It is not your key.")
    with pytest.raises(UpstreamError) as plain:
        translate({"input": "Hi"}).complete(REFUSED)
    assert plain.value.status_hint == 401
