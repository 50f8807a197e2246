"""Events and responses against OpenAI's published JSON Schema, where it lies beside the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import mcp_rounds, rounds
from tests.fixture_cases import all_cases
from tests.invariants import SCHEMA, check_schema
from tests.replaying import REQUEST, translation
from tests.rounds import play
from translator.common.hosted import McpListing
from translator.request.store_context import StoreContext

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

pytestmark = pytest.mark.skipif(
    not SCHEMA.is_file(), reason="OpenAI's JSON Schema is not beside the project"
)


def _as_sent(value: dict[str, Any]) -> dict[str, Any]:
    """Fixtures show sealed reasoning opened; on the wire it is a string."""
    if isinstance(value.get("encrypted_content"), dict):
        return {**value, "encrypted_content": "sealed"}
    return value


def _events() -> dict[str, list[dict[str, Any]]]:
    """The events of all fixtures by their type; of deltas, which are alike, a few."""
    by_type: dict[str, list[dict[str, Any]]] = {}
    for case in all_cases().values():
        for value in case.expected().get("events.jsonl", ()):
            event = json.loads(json.dumps(value), object_hook=_as_sent)
            known = by_type.setdefault(event["type"], [])
            if not event["type"].endswith(".delta") or len(known) < 20:
                known.append(event)
    return by_type


QUEUED = translation(
    {**REQUEST, "background": True}, store=StoreContext(runs_in_background=True)
).start()[1]
"""Fixtures show the answers of an upstream, and this event does not come from one."""

ROUNDS = play(
    rounds.REQUEST | {"include": ["web_search_call.action.sources"]},
    [
        rounds.turn(
            rounds.search("a"),
            rounds.call("open_page", url="https://site.test/1"),
            rounds.call("find_in_page", url="https://site.test/1", pattern="x"),
            rounds.search(""),
        ),
        rounds.says("So [1]."),
    ],
)
"""Nor do those of tools that are run between its answers."""

SERVERS = play(
    mcp_rounds.REQUEST,
    [
        rounds.turn(
            rounds.call("math__add", a=1, b=2),
            rounds.call("math__write", a=1),
        ),
        rounds.says("3."),
    ],
    mcp_rounds.adds,
    hosted=mcp_rounds.hosted(),
)
WITHOUT_LIST = play(
    mcp_rounds.REQUEST,
    [rounds.says("Hm.")],
    hosted=mcp_rounds.hosted(McpListing((), mcp_rounds.LISTED, "It is away.")),
)
ASKING = play(
    mcp_rounds.REQUEST | {"tools": [mcp_rounds.ASKING]},
    [rounds.turn(rounds.call("math__add", a=1, b=2))],
    hosted=mcp_rounds.hosted(),
)


def _of_rounds() -> dict[str, list[dict[str, Any]]]:
    by_type: dict[str, list[dict[str, Any]]] = {}
    played = (ROUNDS, SERVERS, WITHOUT_LIST, ASKING)
    for one in (event for response in played for event in response.events):
        event = json.loads(msgspec.json.encode(one))
        by_type.setdefault(event["type"], []).append(event)
    return by_type


def _with_rounds() -> dict[str, list[dict[str, Any]]]:
    events = _events() | {"response.queued": [json.loads(msgspec.json.encode(QUEUED))]}
    for kind, more in _of_rounds().items():
        events[kind] = [*events.get(kind, ()), *more]
    return events


EVENTS = _with_rounds()


def test_the_fixtures_show_every_kind_of_event_that_is_sent() -> None:
    from translator.wire import events

    sent = {str(kind.__struct_config__.tag) for kind in events.Event.__args__}
    assert sent == EVENTS.keys()


@pytest.mark.parametrize("kind", sorted(EVENTS))
def test_events_agree_with_the_schema(kind: str) -> None:
    for event in EVENTS[kind]:
        check_schema(event)


def test_responses_agree_with_the_schema() -> None:
    """A response that came as a body of its own is the one of a terminal event."""
    bodies = sorted(FIXTURES.glob("*/*/response.json"))
    assert bodies
    for path in bodies:
        response = json.loads(path.read_bytes(), object_hook=_as_sent)
        kind = f"response.{response['status']}"
        check_schema({"type": kind, "sequence_number": 0, "response": response})
