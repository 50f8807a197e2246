"""Responses in the background: what the core says of them, where a service produces them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, sse, translation
from translator import InvalidRequest, Translation
from translator.request.store_context import StoreContext
from translator.wire.events import Created, InProgress, Queued

IN_BACKGROUND = StoreContext(keeps=True, runs_in_background=True)


def translate(**fields: Any) -> Translation:
    return translation({**REQUEST, "background": True} | fields, store=IN_BACKGROUND)


def test_it_is_queued_before_it_is_in_progress() -> None:
    t = translate()
    events = t.start()
    assert [type(event) for event in events] == [Created, Queued, InProgress]
    events += t.receive(sse(chunk({"content": "Hello"}), chunk({}, "stop"))) + t.close()
    final = check_events(events)
    assert (final["status"], final["background"], final["store"]) == ("completed", True, True)


def test_others_are_not() -> None:
    t = translation({**REQUEST, "background": False}, store=IN_BACKGROUND)
    assert [type(event) for event in t.start()] == [Created, InProgress]
    assert not t.response.background


def test_it_needs_a_service_that_produces_it() -> None:
    with pytest.raises(InvalidRequest) as refused:
        translation({**REQUEST, "background": True}, store=StoreContext(keeps=True))
    assert (refused.value.param, refused.value.code) == ("background", "unsupported_parameter")


@pytest.mark.parametrize(
    "options", [None, {}, {"completion_window": None}, {"completion_window": "soonest"}]
)
def test_it_begins_at_once(options: Any) -> None:
    assert translate(background_options=options).notices == ()


@pytest.mark.parametrize("window", ["2h", "8h"])
def test_it_does_not_wait_for_a_cheaper_hour(window: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        translate(background_options={"completion_window": window})
    found = refused.value
    assert (found.param, found.code) == (
        "background_options.completion_window",
        "unsupported_value",
    )


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ("x", "background_options"),
        ({"completion_window": 2}, "background_options.completion_window"),
    ],
)
def test_options_of_another_type(options: object, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translate(background_options=options)
    assert (caught.value.param, caught.value.code) == (path, "invalid_type")
