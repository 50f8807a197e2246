"""Framing: payloads out of bytes cut anywhere, and errors out of what is no stream."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.replaying import cut, replay, sse
from translator import Event, UpstreamError, encode_sse
from translator.reader import sse as sse_decoder
from translator.reader.sse import MAX_STRAY_BYTES, Decoder
from translator.wire.events import Created, InProgress, OutputTextDelta
from translator.wire.responses import Response
from translator.writer import sse as sse_encoder
from translator.writer.sse import encode_all


def payloads(*pieces: bytes) -> list[bytes]:
    decoder = Decoder()
    return [payload for piece in pieces for payload in decoder.feed(piece)] + decoder.end()


BODY = b'data: {"a": 1}\n\n: comment\n\ndata: {"b":\ndata: 2}\n\ndata: [DONE]\n\n'
PAYLOADS = [b'{"a": 1}', b'{"b":\n2}', b"[DONE]"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_cut_of_every_line_end(end: bytes) -> None:
    body = BODY.replace(b"\n", end)
    for place in range(len(body) + 1):
        assert payloads(*cut(body, [place])) == PAYLOADS
    assert payloads(*(body[n : n + 1] for n in range(len(body)))) == PAYLOADS


def test_a_line_separator_inside_json_is_no_line_end() -> None:
    assert payloads('data: {"t": "a\u2028b"}\n\n'.encode()) == ['{"t": "a\u2028b"}'.encode()]


def test_the_end_of_the_body_ends_the_event() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1") == []
    assert decoder.end() == [b"1"]


def test_lines_of_other_fields_are_skipped_and_text_is_kept() -> None:
    decoder = Decoder()
    body = b"event: error\nid: 1\nretry: 9\nupstream error: read ECONNRESET\n  \nfoo\n"
    assert decoder.feed(body) == []
    assert decoder.stray == "upstream error: read ECONNRESET\nfoo"


def test_stray_text_is_bounded() -> None:
    decoder = Decoder()
    for _ in range(100):
        decoder.feed(b"x" * 50 + b"\n")
    assert len(decoder.stray) <= 600


def test_an_error_field_is_an_error_object() -> None:
    """llama.cpp before 2025 wrote the error under a field name of its own."""
    assert payloads(b'error: {"message": "no"}\n\n') == [b'{"error": {"message": "no"}}']
    assert payloads(b"error: no\n\n") == []


@pytest.mark.parametrize("pieces", [[b"data: 123456\n\n"], [b"data: 12", b"3456"], [b"x" * 20]])
def test_an_event_over_the_bound_is_an_error(pieces: list[bytes]) -> None:
    decoder = Decoder(max_event_bytes=5)
    with pytest.raises(UpstreamError, match="more than 5 bytes"):
        for piece in pieces:
            decoder.feed(piece)


def test_a_bound_is_per_event() -> None:
    decoder = Decoder(max_event_bytes=8)
    body = b"data: 1234\n\n" * 20
    assert decoder.feed(body[:50]) + decoder.feed(body[50:]) == [b"1234"] * 20


def test_a_line_in_two_reads_counts_once() -> None:
    decoder = Decoder(max_event_bytes=10)
    assert decoder.feed(b"data: 123") + decoder.feed(b"4\n") == []
    assert decoder.feed(b"data: 5\n\n") == [b"1234\n5"]


def test_a_huge_event_in_small_pieces() -> None:
    text = "x" * 1_000_000
    body = sse({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]})
    _, response = replay(body[n : n + 1000] for n in range(0, len(body), 1000))
    assert response.output[0].content[0].text == text  # type: ignore[union-attr]


def test_a_frame_is_a_name_and_one_line_of_json() -> None:
    frame = encode_sse(OutputTextDelta(7, "msg_1", 0, 0, "a\nb", []))
    assert frame == (
        b"event: response.output_text.delta\n"
        b'data: {"type":"response.output_text.delta","sequence_number":7,"item_id":"msg_1",'
        b'"output_index":0,"content_index":0,"delta":"a\\nb","logprobs":[]}\n\n'
    )


def test_an_event_without_data_is_none() -> None:
    """However many whole frames one read brings."""
    assert payloads(b"data: \n\n") == []
    assert payloads(b"data: 1\n\ndata: \n\ndata: 2\n\n") == [b"1", b"2"]
    assert payloads(b"data: 1\n\ndata: 2\n\ndata: 3\n\n") == [b"1", b"2", b"3"]


FRAME, FRAMES = b"data: 12\n\n", b"data: 12\n\ndata: 34\n\ndata: 56\n\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"data: 1\n\n", [b"1"]), (FRAME, [b"12"]), (FRAMES, [b"12", b"34", b"56"])],
)
def test_whole_frames_take_the_fast_path(
    data: bytes, expected: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any place of the body, up to the bound, and as often as they come."""
    decoder = Decoder(max_event_bytes=len(data))
    assert decoder.feed(b": comment\r\n\r\n") == []
    monkeypatch.delattr(Decoder, "_read_line")
    if len(expected) == 1:
        monkeypatch.delattr(Decoder, "_frames")
    for _ in range(3):
        assert decoder.feed(data) == expected


@pytest.mark.parametrize(
    ("data", "rest", "expected"),
    [
        (b"data: 1\ndata: 2\n\n", b"", [b"1\n2"]),
        (b"data: 1\n\ndata: 2\n", b"\n", [b"1", b"2"]),
        (b"data: 1\n\n\ndata: 2\n\n", b"", [b"1", b"2"]),
        (b"data: 1\n\ndata: 2\n\nx", b"\n", [b"1", b"2"]),
        (b"data: 1\r\n\r\n", b"", [b"1"]),
        (b"data: 1\n\ndata: 2\r\n\r\n", b"", [b"1", b"2"]),
        (b"data: 1\n", b"\n", [b"1"]),
        (b"data: 1\n", b"data: 2\n\n", [b"1\n2"]),
        (b"data: ", b"data: 2\n\n", [b"data: 2"]),
        (b"x", b"data: 2\n\n", []),
        (b"data:1\n\n", b"data: 2\n\n", [b"1", b"2"]),
        (b"\r", b"\ndata: 2\n\n", [b"2"]),
        (b"data: 1\n\r", b"\ndata: 2\n\n", [b"1", b"2"]),
        (b"data: 1\r", b"data: 2\n\n", [b"1\n2"]),
        (b"data: 1\rdata: 2\n\n", b"", [b"1\n2"]),
        (b"data: 1\n\ndata: 2\rdata: 3\n\n", b"", [b"1", b"2\n3"]),
        (b"data: 1\nd", b"ata: 2\n\n", [b"1\n2"]),
        (b"data: \n", b"\n", []),
        (b"data: 1\n\nevent: x\n\n", b"", [b"1"]),
    ],
)
def test_any_other_data_is_read_line_by_line(
    data: bytes, rest: bytes, expected: list[bytes]
) -> None:
    assert payloads(data, rest) == expected


def test_only_one_line_feed_belongs_to_a_carriage_return() -> None:
    assert payloads(b"data: 1\r", b"\n", b"\ndata: 2\n\n") == [b"1", b"2"]


def test_a_byte_order_mark_counts_at_the_beginning_alone() -> None:
    bom = b"\xef\xbb\xbf"
    assert payloads(bom + FRAME) == [b"12"]
    assert payloads(FRAME, bom + FRAME) == [b"12"]
    assert payloads(FRAMES, bom + FRAME) == [b"12", b"34", b"56"]


def test_events_are_encoded_one_after_the_other() -> None:
    events = [OutputTextDelta(number, "msg_1", 0, 0, "a", []) for number in range(3)]
    for count in range(4):
        assert encode_all(events[:count]) == b"".join(map(encode_sse, events[:count]))


def begun(*numbers: int, same: bool = True, text: str = "Be brief.") -> list[Event]:
    """The first events of an answer, numbered so."""
    response = Response("resp_1", 5, "m", instructions=text)
    others = [response if same else replace(response) for _ in numbers[1:]]
    created = [Created(number, response) for number in numbers[:1]]
    return [*created, *map(InProgress, numbers[1:], others)]


DELTA = OutputTextDelta(7, "msg_1", 0, 0, "a", [])


@pytest.mark.parametrize(
    "events",
    [
        begun(0),
        begun(0, 1),
        begun(0, 1, text='"é\n\u2028'),
        begun(9, 10),
        begun(0, 1, same=False),
        begun(0, 1, 2),
        [*begun(0, 1), DELTA],
        [*begun(0), DELTA],
        [*begun(0), DELTA, *begun(0, 1)[1:]],
        begun(0, 1)[::-1],
        begun(0, 1)[1:] * 2,
    ],
)
def test_first_events_are_encoded_like_others(events: list[Event]) -> None:
    assert encode_all(events) == b"".join(map(encode_sse, events))


def test_what_the_first_events_repeat_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    encoder = msgspec.json.Encoder(enc_hook=encoded.append)
    monkeypatch.setattr(sse_encoder, "_encoder", encoder)
    response = Response("resp_1", 5, "m", metadata=object())  # type: ignore[arg-type]
    encode_all([Created(0, response), InProgress(1, response), DELTA])
    assert len(encoded) == 1


IDLE = {
    "comments": b":\n",
    "comments with text": b": wait\r\n",
    "indented comments": b" \t:\n",
    "blank lines": b"\n",
    "blank lines with CRLF": b"\r\n",
    "comments and blank lines": b":\n\n",
    "names of events": b"event: x\n",
    "names of events without a colon": b"event\r",
    "ids": b"id: 1\n",
    "retries": b"retry\n",
    "empty data": b"data:\n",
    "empty data with a space": b"data: \n",
    "white space": b" \n",
    "much white space": b" " * 8000 + b"x\n",
    "stray text": b"x\n",
    "errors that are no objects": b"error: no\n",
    "all of them": b"event: x\n\n:\n \nx\ndata:\n",
}
"""Lines without a payload."""


@pytest.mark.parametrize("name", IDLE)
def test_lines_without_a_payload_are_not_read_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of them costs less than a thousand lines in Python, behind the first ones."""
    decoder = Decoder()
    decoder.feed(b"data: 1\n\n")
    unit = IDLE[name]
    if b"x" in unit or b"no" in unit:
        decoder.feed(b"x" * MAX_STRAY_BYTES + b"\n")
    read: list[bytes] = []
    read_line = Decoder._read_line
    monkeypatch.setattr(
        Decoder, "_read_line", lambda self, *rest: (read.append(b""), read_line(self, *rest))
    )
    body = unit * (2**20 // len(unit))
    for place in range(0, len(body), 65536):
        assert decoder.feed(body[place : place + 65536]) == []
    assert len(read) < 1000
    assert decoder.feed(b"\ndata: 2\n\n") == [b"2"]


@pytest.mark.parametrize("name", [*IDLE, "data"])
def test_lines_without_a_payload_cost_linear_time(name: str) -> None:
    unit = IDLE.get(name, b"data: 1\n")

    def seconds(size: int) -> float:
        decoder = Decoder()
        body = b"data: 1\n\n" + unit * (size // len(unit))
        began = time.process_time()
        for place in range(0, len(body), 65537):
            decoder.feed(body[place : place + 65537])
        return time.process_time() - began

    small, large = (min(seconds(size) for _ in range(3)) for size in (2**16, 2**19))
    assert large / small <= 8 * 2.5


UNITS = [b":", b"x", b"event: e", b"id", b"retry:3", b"data: 1", b"data:2", b"data:", b"data: "]
UNITS += [b" data: 3", b" ", b"\t\v", b"", b'error: {"a":1}', b"error: no", b"error", b"data"]
UNITS += [b"\xef\xbb\xbfdata: 4", b"ident: 1", b"data:  ", b"  data:", b" :c"]
LINES = st.tuples(st.sampled_from(UNITS), st.sampled_from([b"\n", b"\r\n", b"\r"])).map(b"".join)


@given(
    lines=st.lists(LINES, max_size=14),
    end=st.sampled_from(UNITS),
    cuts=st.lists(st.integers(0, 60), max_size=3).map(sorted),
    bulk=st.integers(1, 40),
    full=st.booleans(),
)
def test_data_in_bulk_means_the_same(
    lines: list[bytes], end: bytes, cuts: list[int], bulk: int, full: bool
) -> None:
    """As read line by line, wherever it is cut, before and after the kept text is full."""
    body = b"".join(lines) + end

    def read(bulk_bytes: int) -> tuple[list[bytes], str]:
        decoder = Decoder()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sse_decoder, "BULK_BYTES", bulk_bytes)
            if full:
                decoder.feed(b"s" * (MAX_STRAY_BYTES + 1) + b"\n")
            found = [payload for part in cut(body, cuts) for payload in decoder.feed(part)]
            return found + decoder.end(), decoder.stray

    assert read(bulk) == read(10_000)


PARTS = [b"data: 1\n\n"] * 6 + [
    b"data: 22\n\n",
    b"data: 3\n",
    b"\n",
    b": c\n\n",
    b"data:4\n\n",
    b"\r",
]


@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 90), max_size=3).map(sorted),
    start=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_frames_that_reads_cut_mean_the_same(
    parts: list[bytes], cuts: list[int], start: bytes
) -> None:
    """As read line by line: whole frames between two cuts, and whatever stands among them."""
    body = start + b"".join(parts)

    def read(bulk_bytes: int) -> list[bytes]:
        decoder = Decoder()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sse_decoder, "BULK_BYTES", bulk_bytes)
            found = [payload for part in cut(body, cuts) for payload in decoder.feed(part)]
            return found + decoder.end()

    assert read(1) == read(10_000)


def test_reads_that_cut_frames_are_not_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that is ahead fills each read: of its frames, only those at a cut are parted."""
    body = b"\xef\xbb\xbf: hello\n\n" + b"".join(
        b"data: %d\n\n" % n for n in range(10**4, 10**4 + 9000)
    )
    read_line, lines = Decoder._read_line, []

    def counted(self: Decoder, line: bytes, found: list[bytes]) -> None:
        lines.append(line)
        read_line(self, line, found)

    decoder = Decoder()
    assert decoder.feed(body[:12]) == []
    monkeypatch.setattr(Decoder, "_read_line", counted)
    monkeypatch.delattr(Decoder, "_without_idle_lines")
    reads = [body[place : place + 20_011] for place in range(12, len(body), 20_011)]
    found = [payload for data in reads for payload in decoder.feed(data)]
    assert [int(payload) for payload in found] == list(range(10**4, 10**4 + 9000))
    assert len(lines) <= 4 * len(reads)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_large_event_among_idle_lines(end: bytes) -> None:
    """Its lines, cut anywhere by the parts, are whole; a line end is not taken for two."""
    idle = (b": wait" + end + b"event: x" + end) * 2000
    lines = b"".join(b"data: %d" % number * 99 + end for number in range(200))
    expected = b"\n".join((b"data: %d" % number * 99)[6:] for number in range(200))
    body = b"data: 0" + end + end + idle + lines + idle + end + idle + b"data: 1" + end + end
    for size in (8191, 20_000, len(body)):
        pieces = [body[place : place + size] for place in range(0, len(body), size)]
        assert payloads(*pieces) == [b"0", expected, b"1"]
