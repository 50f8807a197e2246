"""Every fixture, replayed: the request that goes up, the answer that comes down, however it is cut.

`fixtures/README.md` tells what a fixture is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import translator
from tests import test_framing
from tests.fixture_cases import Case, all_cases, as_json, disagreements, error_answer, run
from tests.fixture_table import FRAMINGS, README, TESTS, readme_with_table
from tests.invariants import check_events, check_response_types
from tests.replaying import cut
from tests.whole_bodies import completion_of
from translator import TranslatorError
from translator.captures.fixture_text import text_of
from translator.captures.notation import summary_of

TESTS_FOLDER = Path(__file__).parent
CASES = all_cases()
STREAMED = [name for name, case in CASES.items() if case.streamed]
STREAMS = [name for name in STREAMED if (CASES[name].folder / "upstream.sse").is_file()]


def _repeats_prefill(case: Case) -> bool:
    last = case.expected()["chat.json"]["messages"][-1]
    return case.dialect.repeats_prefill and last["role"] == "assistant"


BODIES = {
    name: body
    for name in STREAMS
    if (events := CASES[name].expected().get("events.jsonl"))
    and (body := completion_of(events[-1]["response"])) is not None
    and not _repeats_prefill(CASES[name])  # a whole answer then has more text than the stream
}
INPUTS = {"request.json", "upstream.sse", "upstream.json", "upstream.http", "source.toml"}


def _encoded(case: Case, pieces: list[bytes]) -> list[bytes]:
    events, _ = case.events(pieces)
    return [translator.encode_json(event) for event in events]


@pytest.mark.parametrize("name", CASES)
def test_outcome(name: str) -> None:
    """What the fact says, in a few words, and what the files say in full."""
    case = CASES[name]
    outcome = run(case)
    assert not disagreements(case, outcome)
    assert outcome.files() == case.expected()
    assert {path.name for path in case.folder.iterdir()} <= INPUTS | outcome.files().keys()


def test_every_file_of_events_is_as_short_as_it_is_written() -> None:
    """The first two events are one line, whether the file was made by hand or by a command."""
    for case in CASES.values():
        if events := case.expected().get("events.jsonl"):
            text = (case.folder / "events.jsonl").read_bytes()
            assert text == text_of("events.jsonl", events), case.name
            assert text.startswith(b'{"first_response":{"model":'), case.name


@pytest.mark.parametrize("name", STREAMED)
def test_rules_of_events(name: str) -> None:
    """No event breaks a rule, and the final response is the one that was told."""
    case = CASES[name]
    events, t = case.events([case.body or b""])
    assert check_events(events) == as_json(t.response)


@pytest.mark.parametrize("name", STREAMED)
def test_byte_by_byte(name: str) -> None:
    """A network that delivers single bytes changes nothing."""
    case = CASES[name]
    body = case.body or b""
    single = [body[place : place + 1] for place in range(len(body))]
    assert _encoded(case, single) == _encoded(case, [body])


@pytest.mark.parametrize("name", STREAMED)
@settings(max_examples=10, deadline=None)
@given(places=st.lists(st.integers(0, 1_000_000), max_size=12))
def test_random_cuts(name: str, places: list[int]) -> None:
    """However the network cuts the body, the client sees the same events."""
    case = CASES[name]
    body = case.body or b""
    pieces = cut(body, [place % (len(body) + 1) for place in places])
    assert _encoded(case, pieces) == _encoded(case, [body])


@pytest.mark.parametrize("name", STREAMS)
def test_line_ends_and_comments(name: str) -> None:
    """CRLF line ends, and comments between the lines, change nothing."""
    case = CASES[name]
    body = case.body or b""
    crlf = body.replace(b"\n", b"\r\n")
    assert _encoded(case, [crlf]) == _encoded(case, [body])
    commented = b": ping\n" + body.replace(b"\n\n", b"\n: ping\n\n: ping\n\n")
    assert _encoded(case, [commented]) == _encoded(case, [body])


@pytest.mark.parametrize("name", STREAMED)
def test_whole_body_at_once(name: str) -> None:
    """Asked for without a stream, the same body gives the same response, or the same error."""
    case = CASES[name]
    body = case.body or b""
    _, streamed = case.events([body])
    try:
        response = case.translation().complete(body)
    except TranslatorError as error:
        assert error_answer(error) == case.expected()["error.json"]
        return
    assert as_json(response) == as_json(streamed.response)


@pytest.mark.parametrize("name", BODIES)
def test_json_body_equals_stream(name: str) -> None:
    """The answer as one JSON body gives the response that the stream gave."""
    case, body = CASES[name], BODIES[name]
    final = case.expected()["events.jsonl"][-1]["response"]
    again = as_json(case.translation().complete(json.dumps(body).encode()))
    expected, actual = summary_of(final, []), summary_of(again, [])
    assert (actual.items, actual.status) == (expected.items, expected.status)
    assert actual.usage == expected.usage


@pytest.mark.parametrize("name", sorted(set(CASES) - set(STREAMED)))
def test_types_of_responses(name: str) -> None:
    """The body of an answer that is not streamed has the types of the `openai` package."""
    response = run(CASES[name]).response
    if response is not None:
        case = CASES[name]
        check_response_types(as_json(case.translation().complete(case.body or b"")))


def test_sources_say_where_they_come_from() -> None:
    """Every case names a fact, in a sentence, with the time when it was seen."""
    for case in CASES.values():
        source = case.source
        assert source.title and source.title[0].isupper(), case.name
        assert re.search(r"20\d\d", source.fact), case.name
        assert source.fact.endswith("."), case.name


def test_readme_has_every_scenario() -> None:
    """The table in the README is the one that the fixtures make: `python -m tests.fixture_table`."""
    assert README.read_text(encoding="utf-8") == readme_with_table(CASES.values())
    for test in TESTS.values():
        path, function = test.split("::")
        assert f"def {function}(" in (TESTS_FOLDER / f"{path}.py").read_text(encoding="utf-8")
    assert set(FRAMINGS.values()) <= set(test_framing.FRAMINGS)
