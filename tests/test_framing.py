"""One stream in every framing that was ever seen: what the client gets does not change.

Each framing rewrites the body of a few fixtures; the events must stay the fixture's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

import msgspec
import pytest

import translator
from tests.fixture_cases import Case, all_cases, as_json
from tests.invariants import check_events
from tests.replaying import chunk, cut, replay, sse
from translator.captures.notation import summary_of
from translator.dialects.think_tags import Tags

CASES = {
    name: all_cases()[name]
    for name in (
        "deepseek/two_calls_in_tokens",
        "llama_cpp/unicode",
        "openrouter/refusal",
        "minimax/cumulative",
    )
}
BOM = b"\xef\xbb\xbf"
JSON_LINE = re.compile(rb"^data: (\{.*)$", re.MULTILINE)

Framing = Callable[[bytes], bytes]


def _pretty(body: bytes) -> bytes:
    def lines(found: re.Match[bytes]) -> bytes:
        text = json.dumps(json.loads(found[1]), indent=1)
        return "\n".join(f"data: {line}" for line in text.split("\n")).encode()

    return JSON_LINE.sub(lines, body)


def _escaped(body: bytes) -> bytes:
    """Every character beyond ASCII as JSON escapes, surrogate pairs and all."""
    return JSON_LINE.sub(lambda found: b"data: " + json.dumps(json.loads(found[1])).encode(), body)


def _paired(body: bytes) -> bytes:
    """Two payloads in each block."""
    blocks = body.strip(b"\n").split(b"\n\n")
    pairs = [blocks[place : place + 2] for place in range(0, len(blocks), 2)]
    return b"".join(b"\n".join(pair) + b"\n\n" for pair in pairs)


def _commented(body: bytes) -> bytes:
    inside = body.replace(b"\n\n", b"\n: inside\n\n: between\n\n")
    return b": OPENROUTER PROCESSING\n\n" * 17 + b": ping\n" + inside


LATE = b"data: " + json.dumps(chunk({"content": "too late"}, "length")).encode() + b"\n\n"

FRAMINGS: dict[str, Framing] = {
    "line ends CRLF": lambda body: body.replace(b"\n", b"\r\n"),
    "line ends CR": lambda body: body.replace(b"\n", b"\r"),
    "no space behind data": lambda body: body.replace(b"data: ", b"data:"),
    "a space before data": lambda body: body.replace(b"data: ", b" data: "),
    "a byte order mark": lambda body: BOM + body,
    "comments everywhere": _commented,
    "event, id and retry lines": lambda body: body.replace(
        b"data: ", b"event: message\nid: 7\nretry: 1000\ndata: "
    ),
    "two payloads in a block": _paired,
    "one payload over many lines": _pretty,
    "blank data": lambda body: b"data:\n\n" + body.replace(b"\n\n", b"\n\ndata: \n\n"),
    "escapes for all beyond ASCII": _escaped,
    "no blank line at the end": lambda body: body.rstrip(b"\n"),
    "no [DONE]": lambda body: body.replace(b"data: [DONE]\n\n", b""),
    "[DONE] twice, and more behind it": lambda body: body + b"data: [DONE]\n\n" + LATE,
    "no space before [DONE]": lambda body: body.replace(b"data: [DONE]", b"data:[DONE]"),
}


def _encoded(case: Case, pieces: Sequence[bytes]) -> list[bytes]:
    events, _ = case.events(list(pieces))
    return [translator.encode_json(event) for event in events]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", CASES)
def test_framing(name: str, framing: str) -> None:
    """The framing changes nothing, whole and byte by byte."""
    case = CASES[name]
    assert case.body is not None
    expected = _encoded(case, [case.body])
    body = FRAMINGS[framing](case.body)
    assert body != case.body or framing == "escapes for all beyond ASCII"
    assert _encoded(case, [body]) == expected
    assert _encoded(case, [body[place : place + 1] for place in range(len(body))]) == expected


@pytest.mark.parametrize("rewrite", [bytes, _escaped], ids=["UTF-8", "escapes"])
def test_cut_at_every_place(rewrite: Framing) -> None:
    """A cut inside a character of four bytes, or inside its escapes, changes nothing."""
    case = CASES["llama_cpp/unicode"]
    body = rewrite(case.body or b"")
    expected = _encoded(case, [body])
    for place in range(len(body)):
        assert _encoded(case, [body[:place], body[place:]]) == expected


@pytest.mark.parametrize("name", CASES)
def test_connection_breaks(name: str) -> None:
    """A body that breaks off anywhere is a failure that tells why, and ends what was begun."""
    case = CASES[name]
    body = case.body or b""
    for place in range(0, len(body), 97):
        t = case.translation()
        events = t.start() + t.receive(body[:place])
        events += t.close("The connection to the upstream broke.")
        final = check_events(events)
        assert final["status"] == "failed"
        assert final["error"]["code"] == "server_error"
        assert final["error"]["message"] == "The connection to the upstream broke."


def test_one_megabyte_in_one_event() -> None:
    """A whole file in the arguments of one call."""
    arguments = json.dumps({"text": "0123456789abcdef" * 65536})
    body = sse(
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": arguments}}
                ]
            }
        ),
        chunk({}, "tool_calls"),
        "[DONE]",
    )
    whole, response = replay(body)
    check_events(whole)
    assert summary_of(as_json(response), []).items == [f"F f call_1 {arguments}"]
    pieces, _ = replay(cut(body, range(0, len(body), 1400)))
    assert pieces == whole


@pytest.mark.parametrize("tags", [Tags(), Tags(stray_close=True)], ids=["tags", "stray close"])
def test_think_tags_cut_at_every_place(tags: Tags) -> None:
    """However deltas cut the tags, the reasoning and the text are the same."""
    dialect = msgspec.structs.replace(translator.DIALECTS["base"], think_tags=tags)
    text = "<think>ab</think>\n\nHi"
    for first in range(len(text)):
        for second in range(first, len(text)):
            pieces = [text[:first], text[first:second], text[second:]]
            body = sse(*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"))
            events, response = replay(body, dialect=dialect)
            check_events(events)
            assert summary_of(as_json(response), []).items == ["R ab", "M Hi"]
