"""The filter of bodies that are passed through: errors lose their secrets, and all else is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translator.reader.upstream_errors import for_client
from translator.service.base.redaction import Redaction
from translator.service.http.error_filter import MAX_HELD_BYTES, ErrorFilter
from translator.wire.errors import AccountEmpty, UpstreamError

from .chat_bodies import COMPLETION, HELLO, chunk, frame

KEY = "sk-planted/operator+key"
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in KEY)
SAYS_THE_KEY = chunk({"content": KEY})
COMMENT = b": processing\n\n"

ORDINARY: dict[str, bytes] = {
    "the key": SAYS_THE_KEY,
    "the word": chunk({"content": "error"}, "error"),
    "json": chunk({"content": json.dumps({"error": KEY})}),
    "escapes": chunk({"content": f"\u00e9 \\u00e9 {KEY}"}),
    "arguments": chunk({"tool_calls": [{"function": {"arguments": f'{{"error": "{KEY}"}}'}}]}),
    "null": chunk({"content": KEY}, error=None),
    "usage": frame({"choices": [], "usage": {"total_tokens": 3}}),
    "no choices": frame({"usage": {"total_tokens": 3}, "model": "m"}),
    "two lines": b'data: {"choices":[\ndata: ]}\n\n',
    "carriage returns": SAYS_THE_KEY.replace(b"\n", b"\r\n"),
    "lone carriage returns": SAYS_THE_KEY.replace(b"\n", b"\r"),
    "no JSON": b'data: {"choices":[{"delta":{"content":"' + KEY.encode() + b"\n\n",
    "comment": COMMENT,
    "blank": b"\n\n",
}

ERRORS: dict[str, bytes] = {
    "object": frame({"error": {"message": f"Bad key {KEY}", "code": KEY, "type": KEY, KEY: 1}}),
    "text": frame({"error": f"Bad key {KEY}"}),
    "spring": frame({"message": f"Bad key {KEY}", "error": "Unauthorized", "status": 401}),
    "detail": frame({"detail": [{"loc": ["header"], "msg": KEY}]}),
    "minimax": frame({"base_resp": {"status_code": 1004, "status_msg": KEY}}),
    "true": frame({"error": True, "reason": KEY}),
    "escaped": b'data: {"error":{"message":"' + ESCAPED.encode() + b'"}}\n\n',
    "escaped name": b'data: {"\\u0065rro\\u0072":{"message":"' + KEY.encode() + b'"}}\n\n',
    "in capital digits": b'data: {"err\\u006Fr" : "' + KEY.encode() + b'"}\n\n',
    "slashes": b'data: {"error":"' + KEY.replace("/", "\\/").encode() + b'"}\n\n',
    "twice": b'data: {"error":"' + KEY.encode() + b'","error":null}\n\n',
    "named": b'event: error\ndata: {"text":"' + KEY.encode() + b'"}\n\n',
    "two lines": b'data: {"error":\ndata: "' + KEY.encode() + b'"}\n\n',
    "carriage returns": frame({"error": KEY}).replace(b"\n", b"\r\n"),
    "comment": b": " + KEY.encode() + b"\n\n",
    "no JSON": b"data: Bad key " + KEY.encode() + b"\n\n",
    "cut JSON": b'data: {"error":{"message":"' + KEY.encode() + b"\n\n",
    "list": frame([{"error": {"message": KEY}}]),
    "beside choices": chunk({"content": "Hi"}, "error", error={"message": KEY}),
    "before choices": frame({"error": {"message": KEY}, "choices": [{"delta": {"content": ""}}]}),
    "twice beside choices": b'data: {"error":"'
    + KEY.encode()
    + b'","choices":[],"error":null}\n\n',
    "in a choice": frame({"choices": [{"delta": {"content": "Hi"}, "error": {"message": KEY}}, 7]}),
    "in a field beside": chunk({}, error="Unauthorized", message=KEY),
    "comment beside": b": " + KEY.encode() + b"\n" + chunk({}, error="Unauthorized"),
    "cut JSON with choices": b'data: {"choices":[],"error":{"message":"' + KEY.encode() + b"\n\n",
}


def passed(chunks: Iterable[bytes], *, streamed: bool = True, own: bool = False) -> bytes:
    judge = partial(for_client, own_credential=own)
    errors = ErrorFilter(Redaction([KEY]), judge, streamed=streamed)
    return b"".join([*map(errors.feed, chunks), errors.end()])


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@pytest.mark.parametrize("event", ORDINARY.values(), ids=ORDINARY)
def test_what_is_no_error_keeps_its_bytes(event: bytes) -> None:
    """Even where the model says the key, and wherever the network cuts it."""
    body = HELLO[0] + event + HELLO[1]
    assert passed([HELLO[0], event, HELLO[1]]) == body
    for size in (1, 2, 7, 50, 10_000):
        assert passed(pieces(body, size)) == body


@pytest.mark.parametrize("event", ERRORS.values(), ids=ERRORS)
def test_no_error_tells_the_key(event: bytes) -> None:
    """Wherever it is cut; and what the model says around it is not changed."""
    body = SAYS_THE_KEY + event + SAYS_THE_KEY
    whole = passed([SAYS_THE_KEY, event, SAYS_THE_KEY])
    assert whole.startswith(SAYS_THE_KEY)
    assert whole.endswith(SAYS_THE_KEY)
    clean = whole[len(SAYS_THE_KEY) : -len(SAYS_THE_KEY)]
    assert b"[removed]" in clean or b"null" in clean
    assert KEY not in Redaction([KEY]).text(clean.decode()).replace("[removed]", "")
    cut = [passed([body[:at], body[at:]]) for at in range(len(body))]
    for found in (*cut, *(passed(pieces(body, size)) for size in (1, 2, 3, 16, 64, 10_000))):
        inside = found[len(SAYS_THE_KEY) : -len(SAYS_THE_KEY)]
        assert found.startswith(SAYS_THE_KEY)
        assert found.endswith(SAYS_THE_KEY)
        assert Redaction([KEY]).spans(inside) == [], inside


@pytest.mark.parametrize("event", ERRORS.values(), ids=ERRORS)
def test_what_belongs_to_the_model_stays_in_an_error(event: bytes) -> None:
    if b'"content": "Hi"' in event:
        [payload] = [line for line in passed([event]).splitlines() if line.startswith(b"data:")]
        assert json.loads(payload[5:])["choices"][0]["delta"] == {"content": "Hi"}


def test_an_error_without_a_secret_keeps_its_bytes() -> None:
    for event in ERRORS.values():
        plain = event.replace(KEY.encode(), b"no").replace(ESCAPED.encode(), b"no")
        plain = plain.replace(KEY.replace("/", "\\/").encode(), b"no")
        assert passed([plain]) == plain
        assert passed(pieces(plain, 3)) == plain


@pytest.mark.parametrize(
    "value",
    [
        {"error": {"message": KEY}},
        {"detail": KEY},
        {"message": KEY, "code": 1},
        COMPLETION | {"error": {"message": KEY}},
        {"error": {"message": KEY}} | COMPLETION,
    ],
)
def test_a_body_that_is_no_stream(value: dict[str, Any]) -> None:
    body = json.dumps(value, indent=1).encode()
    for size in (1, 7, 10_000):
        found = passed(pieces(body, size), streamed=False)
        assert KEY.encode() not in found
        assert json.loads(found).keys() == value.keys()


@pytest.mark.parametrize(
    "value",
    [
        COMPLETION,
        COMPLETION | {"error": None},
        {"object": "list", "data": [{"id": KEY}]},
        {"choices": [{"message": {"content": KEY}}]},
        {"choices": [{"message": {"content": f'"error": "{KEY}"'}}]},
        {"choices": [{"message": {"content": "x" * 200_000 + KEY}}]},
        {"object": "list", "data": [{"id": "x" * 100} for _ in range(2000)]},
    ],
)
def test_a_whole_answer_keeps_its_bytes(value: dict[str, Any]) -> None:
    body = json.dumps(value, indent=1).encode()
    for size in (999, 10_000, 10_000_000):
        assert passed(pieces(body, size), streamed=False) == body


# --- delays, and bounds ---------------------------------------------------------------------------


def test_a_text_is_not_held() -> None:
    """A cut event goes on from its choices; only the beginning of the word may wait."""
    errors = ErrorFilter(Redaction([KEY]), lambda error: error, streamed=True)
    assert errors.feed(SAYS_THE_KEY) == SAYS_THE_KEY
    assert errors.feed(b'data: {"id":"x","cho') == b""
    assert errors.feed(b'ices":[{"delta":{"content":"Hel') == (
        b'data: {"id":"x","choices":[{"delta":{"content":"Hel'
    )
    assert errors.feed(b"lo, err") == b"lo, err"
    assert errors.feed(b'or"') == b"or"
    assert errors.feed(b"}}],") == b'"}}],'
    assert errors.feed(b'"er') == b""
    assert errors.feed(b'a":1,"err') == b'"era":1,'
    assert errors.feed(b'or":{"message":"') == b""
    assert errors.feed(KEY.encode()) == b""
    assert errors.feed(b'"}}\n\n') == b'"error":{"message":"[removed]"}}\n\n'


def test_what_is_held_is_bounded() -> None:
    """A longer error comes in parts, none of which tells the key."""
    filler = "x" * 1000
    message = "".join(f"{filler}{spelled}" for spelled in (KEY, ESCAPED) * 200)
    for event in (
        b'data: {"error":{"message":"%b"}}\n\n' % message.encode(),
        b'data: {"choices":[],"error":{"message":"%b"}}\n\n' % message.encode(),
        b'data: {"message":"%b"}\n\n' % message.encode(),
        b": %b\n\n" % message.encode(),
    ):
        errors = ErrorFilter(Redaction([KEY]), lambda error: error, streamed=True)
        found = b""
        given = 0
        for part in pieces(event, 1009):
            given += len(part)
            found += errors.feed(part)
            held = given - len(found.replace(b"[removed]", KEY.encode()))
            assert held < MAX_HELD_BYTES + 400 * len(ESCAPED) + 2000
        found += errors.end()
        assert found.count(b"[removed]") == 400
        assert Redaction([KEY]).spans(found) == []
        assert found.count(filler.encode()) == 400
        assert errors.feed(SAYS_THE_KEY) == SAYS_THE_KEY


@pytest.mark.parametrize("begin", [b'data: {"message":"', b'data: {"choices":[],"error":"'])
def test_small_chunks_are_not_searched_again_and_again(begin: bytes) -> None:
    """Twice as many cost about twice as much."""

    def seconds(size: int) -> float:
        errors = ErrorFilter(Redaction([KEY]), lambda error: error, streamed=True)
        errors.feed(begin)
        began = time.process_time()
        for _ in range(size):
            errors.feed(b'"x')
        return time.process_time() - began

    few = min(seconds(4_000) for _ in range(3))
    assert seconds(24_000) < 20 * few


def test_a_comment_beside_an_ordinary_event_tells_no_key() -> None:
    event = b": %b\n" % KEY.encode() + SAYS_THE_KEY
    for chunks in ([event], [HELLO[0], event], [HELLO[0], event + HELLO[1]], pieces(event, 9)):
        found = passed(chunks)
        assert b": [removed]\n" + SAYS_THE_KEY in found


def test_a_stream_is_known_by_its_first_line() -> None:
    body = SAYS_THE_KEY + ERRORS["text"] + SAYS_THE_KEY
    for size in (10, 10_000):
        clean = passed(pieces(body, size), streamed=False)
        assert clean == SAYS_THE_KEY + frame({"error": "Bad key [removed]"}) + SAYS_THE_KEY


def test_an_error_behind_white_space_is_found() -> None:
    for event in (
        b'data: {"error"%b:"%b","choices":[]}\n\n' % (b" " * 999, KEY.encode()),
        b'data: {"choices":[],"error"%b:"%b"}\n\n' % (b" " * 999, KEY.encode()),
    ):
        for size in (1, 7, 300, 10_000):
            assert KEY.encode() not in passed(pieces(event, size))


@given(st.lists(st.sampled_from([*ORDINARY.values(), *ERRORS.values()]), max_size=5), st.data())
def test_the_cuts_make_no_difference_to_what_is_ordinary(
    parts: list[bytes], data: st.DataObject
) -> None:
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
    if all(part in ORDINARY.values() for part in parts):
        assert passed(chunks) == body
    else:
        events = [part for part in parts if part in ORDINARY.values()]
        assert passed(chunks).count(KEY.encode()) <= sum(one.count(KEY.encode()) for one in events)


# --- errors of the operator -------------------------------------------------------------------------

EMPTY: dict[str, Any] = {"error": {"message": "Insufficient credits", "code": 402}}


@pytest.mark.parametrize(
    "event", [frame(EMPTY), frame({"choices": []} | EMPTY), frame(EMPTY | {"choices": []})]
)
@pytest.mark.parametrize("size", [1, 20, 10_000])
def test_an_error_that_is_the_operators_is_replaced(event: bytes, size: int) -> None:
    found = passed(pieces(HELLO[0] + event, size), own=True)
    assert found.startswith(HELLO[0])
    error = json.loads(found[len(HELLO[0]) :].removeprefix(b"data: "))["error"]
    assert error == AccountEmpty().envelope()["error"]
    assert passed(pieces(event, size)) == event


def test_it_is_told_which_error_was_replaced() -> None:
    def judge(error: UpstreamError) -> UpstreamError:
        return for_client(error, own_credential=True)

    errors = ErrorFilter(Redaction([KEY]), judge, streamed=True)
    assert errors.feed(COMMENT) == COMMENT
    assert (errors.ordinary, errors.private) == (False, None)
    errors.feed(frame(EMPTY))
    assert isinstance(errors.private, AccountEmpty)
    errors.feed(HELLO[0])
    assert errors.ordinary
