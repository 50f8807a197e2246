"""A text run gives the bytes, the response and the accounts that `receive` gives."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.replaying import REQUEST, chunk, sse, translation
from translator import Event, Options, Translation, encode_json, text_run
from translator.writer import sse as writer

TOOLS: dict[str, Any] = {
    **REQUEST,
    "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
}
PADS = ("", "abcdef", "ab")


def arguments(text: str, index: int | None = 0, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": text}, **more}]}


def named(name: str, key: int) -> dict[str, Any]:
    function = {"name": name, "arguments": ""}
    return {"tool_calls": [{"index": key, "id": f"call_{key}", "function": function}]}


def frame(delta: dict[str, Any], *, ascii_only: bool = True, **more: Any) -> bytes:
    return f"data: {json.dumps(chunk(delta, **more), ensure_ascii=ascii_only)}\n\n".encode()


texts = st.sampled_from(
    [
        "a",
        " there",
        '"',
        "\\",
        "\n",
        "\x1f",
        "\x7f",
        "é",
        "😀",
        "\u2028",
        "\u00a0",
        "null",
        "-text-",
        "{}",
    ]
)
frames = st.one_of(
    st.builds(
        lambda text, ascii_only, pad: frame(
            {"content": text}, ascii_only=ascii_only, obfuscation=pad
        ),
        texts,
        st.booleans(),
        st.sampled_from(PADS),
    ),
    st.builds(lambda text: frame({"content": text}), texts),
    st.builds(lambda text: frame({"content": text}), texts),
    st.builds(lambda text: frame({"reasoning_content": text}), texts),
    st.builds(lambda text: frame({"reasoning": text}), texts),
    st.builds(lambda text: frame({"refusal": text}), texts),
    st.builds(
        lambda text, index: frame(arguments(text, index)),
        st.sampled_from(['{"input":"', "a", "\\n", '"}', "n", "ull", '{"input":"a"}', "{}"]),
        st.sampled_from([0, 1, None]),
    ),
    st.builds(
        lambda name, key: frame(named(name, key)),
        st.sampled_from(["f", "patch"]),
        st.integers(0, 1),
    ),
    st.sampled_from(
        [
            b": keep-alive\n\n",
            b"\n\n",
            b"data:\n\n",
            b"data: {\n\n",
            b'data: {"choices":[{"delta":{"content":"\x00"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\xed\xa0\x80"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"a"}}],"content":"b"}\n\n',
            b'data: {"choices":[{"delta":{"content":"a"}}],"id":"a"}\n\n',
            b'data: {"choices":[{"delta":{"content":"a","content":"b"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"c"}}]}\r\n\r\n',
            b'data: {"choices":[{"delta":{"content":"d"}}]}\n',
            b'data:{"choices":[{"delta":{"content":"e"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n',
            sse(chunk({"content": " ok"}, "stop"), "[DONE]"),
            sse(chunk({"content": " ok"}, usage={"prompt_tokens": 1, "completion_tokens": 2})),
            sse({"error": {"message": "No"}}),
        ]
    ),
)
reads = st.lists(st.one_of(frames, frames, frames, st.tuples(frames, frames).map(b"".join)))


def encodings(name: str) -> tuple[Callable[[Event], bytes], Callable[[Sequence[Event]], bytes]]:
    if name == "sse":
        return writer.encode, writer.encode_all
    return encode_json, lambda events: b"".join(map(encode_json, events))


CHUNKED = text_run.Framing(text_run.Lines(b"%x\r\n"), b"\r\n")


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain(t: Translation, body: Sequence[bytes], encoding: str) -> list[bytes]:
    _, encode = encodings(encoding)
    return [encode(t.start()), *(encode(t.receive(read)) for read in body), encode(t.close())]


def with_runs(
    t: Translation, body: Sequence[bytes], encoding: str, framed: Iterator[bool] | None = None
) -> list[bytes]:
    """The same, with runs; `framed` says which reads come in chunked coding, and all go so."""
    encode_one, encode = encodings(encoding)
    written = [encode(t.start())]
    run = None
    for read in body:
        if run is None:
            one = None
        elif framed is not None and next(framed):
            one = run.framed(chunked(read), b"%x\r\n" % len(read), len(read))
        else:
            one = run.frame(read)
        if one is None:
            one = encode(t.receive(read))
            run = t.text_run(encode_one, *(() if framed is None else (CHUNKED, b"\r\n")))
        elif framed is not None:
            size, _, rest = one.partition(b"\r\n")
            assert chunked(rest[:-2]) == one, size
            one = rest[:-2]
        written.append(one)
    return [*written, encode(t.close())]


def state(t: Translation) -> tuple[object, ...]:
    return t.response, t.progress, t.written, t.held, t.finished, t._received


@given(
    reads,
    st.sampled_from(["sse", "json"]),
    st.sampled_from(["summary", "text", "both", "none"]),
    st.sampled_from([400, 2_000, 16 * 2**20]),
    st.sampled_from(["base", "fireworks", "minimax", "gemini"]),
)
@example([frame({"content": "a"}), frame({"content": '"a"'})] * 4, "sse", "summary", 400, "base")
def test_a_run_changes_nothing(
    body: list[bytes], encoding: str, family: Any, limit: int, dialect: str
) -> None:
    options = Options(reasoning_events=family, max_answer_bytes=limit)
    one = translation(TOOLS, options=options, dialect=dialect)
    other = translation(TOOLS, options=options, dialect=dialect)
    assert with_runs(one, body, encoding) == plain(other, body, encoding)
    assert state(one) == state(other)


@given(
    st.lists(st.one_of(frames, frames, frames)),
    st.randoms(use_true_random=False),
    st.sampled_from([400, 2_000, 16 * 2**20]),
)
@example([frame({"content": "a"}), frame({"content": "\n"})] * 9, random.Random(1), 16 * 2**20)
def test_a_run_in_a_framing_changes_nothing(
    body: list[bytes], some: random.Random, limit: int
) -> None:
    options = Options(max_answer_bytes=limit)
    one = translation(TOOLS, options=options)
    other = translation(TOOLS, options=options)
    framed = iter(lambda: some.random() < 0.7, None)
    assert with_runs(one, body, "sse", framed) == plain(other, body, "sse")
    assert state(one) == state(other)


def running(first: bytes, request: dict[str, Any] = TOOLS) -> tuple[Translation, text_run.TextRun]:
    t = translation(request)
    t.start()
    t.receive(first)
    run = t.text_run(writer.encode)
    assert run is not None
    return t, run


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (frame({"content": "Hello"}), frame({"content": " there"})),
        (frame({"reasoning_content": "Hm"}), frame({"reasoning_content": ", well"})),
        (frame({"reasoning": "Hm"}), frame({"reasoning": ", well"})),
        (
            frame(named("f", 0)) + frame(arguments('{"a"')) + frame(arguments(":")),
            frame(arguments("1}")),
        ),
    ],
    ids=["text", "reasoning_content", "reasoning", "arguments"],
)
def test_what_only_adds_to_a_text_is_a_run(first: bytes, more: bytes) -> None:
    _, run = running(first)
    written = run.frame(more)
    assert written is not None
    assert b"delta" in written
    assert run.chunks == 1


@pytest.mark.parametrize(
    "first",
    [
        frame({"role": "assistant", "content": ""}),
        frame({"content": " "}),
        frame({"content": "Hello"}) + frame({"content": " the"})[:-1],
        frame(named("patch", 0)) + frame(arguments('{"input":"')) + frame(arguments("a")),
        frame({"refusal": "No"}),
        sse(chunk({"content": "Hello"}, "stop"), "[DONE]"),
    ],
    ids=["nothing", "blank", "half a frame", "free-form input", "refusal", "the end"],
)
def test_what_may_be_more_is_no_run(first: bytes) -> None:
    t = translation(TOOLS)
    t.start()
    t.receive(first)
    assert t.text_run(writer.encode) is None


def test_a_compaction_is_no_run() -> None:
    t = translation(
        {**REQUEST, "input": [{"role": "user", "content": "Hi"}, {"type": "compaction_trigger"}]}
    )
    t.start()
    t.receive(frame({"content": "Hello"}) + frame({"content": " there"}))
    assert t.text_run(writer.encode) is None


class Counting:
    """Counts the chunks that are decoded."""

    def __init__(self, run: text_run.TextRun) -> None:
        self.count = 0
        self._read = run._read_text
        run._read_text = self

    def __call__(self, payload: bytes) -> str:
        self.count += 1
        return self._read(payload)


def test_of_a_chunk_between_bytes_that_are_known_only_the_text_is_decoded() -> None:
    _, run = running(frame({"content": "Hello"}))
    decoded = Counting(run)
    for number in range(100):
        assert run.frame(frame({"content": f" word {number}"})) is not None
    assert decoded.count == 2, "the first one, and one to see that another text is read there, too"
    for text in ('"', "\\", "\n", "é", "\U0001f600"):
        assert run.frame(frame({"content": text}, ascii_only=False)) is not None
    assert decoded.count == 2
    for more, text in enumerate(("é", "\U0001f600", ""), 3):
        taken = run.frame(frame({"content": text}))
        assert (taken is None) == (not text)
        assert decoded.count == more, "what is escaped as we do not, and what is no text"


def test_framed_and_unframed_frames_are_known_alike() -> None:
    t = translation()
    t.receive(frame({"content": "Hello"}))
    run = t.text_run(writer.encode, CHUNKED, b"\r\n")
    assert run is not None
    decoded = Counting(run)
    for number in range(20):
        data = frame({"content": f" word {number}"})
        if number % 2:
            taken = run.frame(data)
        else:
            taken = run.framed(chunked(data), b"%x\r\n" % len(data), len(data))
        assert taken is not None
    assert decoded.count == 2


def test_a_string_without_a_frame_is_no_text() -> None:
    t = translation()
    t.receive(frame({"content": "Hello"}))
    run = t.text_run(writer.encode, CHUNKED, b"\r\n")
    assert run is not None
    for data in (b'8\r\n-"abcdefg"', b'9\r\n"abcdefg"\r\n', b'8\r\n-"abcdef"-'):
        assert run.framed(data, data[:3], int(data[:1])) is None


def test_a_place_that_holds_the_stand_in_is_not_learned() -> None:
    """Else the id of the second chunk would be its text."""
    _, run = running(frame({"content": "Hello"}))
    for name in (b"-text-", b"foo"):
        data = frame({"content": "-text-"}).replace(b"-text-", b"\\u002dtext-")
        data = data.replace(b"chatcmpl-1", name)
        assert b'"%b"' % name in data
        assert b'"-text-"' in (run.frame(data) or b"")


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("line", "behind"),
    [(b"%X\r\n", b"\r\n"), (b"%x \r\n", b"\r\n"), (b"%x\r\n", b"\n\n"), (b"%x\r\n", b"")],
    ids=["capitals", "a space", "no end", "cut"],
)
def test_what_is_not_in_the_framing_is_left_alone(line: bytes, behind: bytes, known: bool) -> None:
    t = translation()
    t.receive(frame({"content": "Hello"}))
    run = t.text_run(writer.encode, CHUNKED, b"\r\n")
    assert run is not None
    data = frame(
        {"content": " there"}, obfuscation="x" * (0xAA - len(frame({"content": " there"})))
    )
    whole = chunked(data)
    if known:
        assert run.framed(whole, b"%x\r\n" % len(data), len(data)) is not None
    before = state(t)
    odd = line % len(data) + data + behind
    assert odd != whole
    assert run.framed(odd, b"%x\r\n" % len(data), len(data)) is None
    assert state(t) == before


def test_bytes_that_change_now_and_then_are_learned_anew() -> None:
    """Such as the time, in `created`."""
    _, run = running(frame({"content": "Hello"}))
    run.left = 10**6
    decoded = Counting(run)
    for second in range(20):
        for number in range(50):
            assert run.frame(frame({"content": f" {number} words"}, created=second)) is not None
    assert decoded.count == 40


def test_bytes_that_always_change_are_given_up() -> None:
    _, run = running(frame({"content": "Hello"}))
    decoded = Counting(run)
    for number in range(100):
        assert run.frame(frame({"content": f" word {number}"}, obfuscation="x" * number))
    assert decoded.count <= 100 + text_run.LESSONS


def test_a_run_ends_with_what_it_leaves_to_others() -> None:
    """It takes no more until it is asked for again: nothing is counted by what has changed."""
    t, run = running(frame({"content": "Hello"}))
    more = frame({"content": " there"})
    assert run.frame(more) is not None
    t.receive(b": keep-alive\n\n")
    assert run.frame(more) is None
    assert t.text_run(writer.encode) is run
    assert run.frame(more) is not None
    t.close()
    assert run.frame(more) is None


def test_a_run_takes_no_more_than_is_accounted_for() -> None:
    t, run = running(frame({"content": "Hello"}))
    more = frame({"content": "x" * 1000})
    taken = 0
    while run.frame(more) is not None:
        taken += 1
    assert taken == (64 * 1024 - t._received) // len(more)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":"a","choices":[{"delta":{"content":"\\u0061"}}]}',
        b'{"a":1,"choices":[{"delta":{"content":"\\u0061"}}]}',
        b'{"choices":[{"delta":{"content":"\\u0063hoices"}}]}',
        b'{"id":"a","choices":[{"delta":{"content":"a"}}]}',
    ],
    ids=["another value", "another key", "a key that is needed", "two of them"],
)
def test_only_the_text_itself_is_a_place_for_another(payload: bytes) -> None:
    """The same string may stand elsewhere in the chunk, while the text is escaped."""
    _, run = running(frame({"content": "Hello"}))
    decoded = Counting(run)
    data = b"data: %b\n\n" % payload
    text = json.loads(payload)["choices"][0]["delta"]["content"]
    for _ in range(3):
        before = decoded.count
        assert json.dumps(text).encode() in (run.frame(data) or b"")
        assert decoded.count > before


def test_bytes_that_are_no_utf_8_are_not_text() -> None:
    t, run = running(frame({"content": "Hello"}))
    assert run.frame(frame({"content": " there"})) is not None
    broken = frame({"content": "?"}).replace(b"?", b"\xff")
    assert run.frame(broken) is None
    assert b"\xef\xbf\xbd" in writer.encode_all(t.receive(broken))


def test_what_is_kept_of_numbers_and_sizes_is_bounded() -> None:
    """Large ones are made each time."""
    t = translation()
    t.receive(frame({"content": "Hello"}))
    framing = text_run.Framing(text_run.Lines(b"%x\r\n"), b"\r\n")
    run = t.text_run(writer.encode, framing, b"\r\n")
    assert run is not None
    run.left = 2**30
    many, one = 5000, None
    for size in range(many):
        data = frame({"content": "x" * (1 + size)})
        one = run.framed(chunked(data), b"%x\r\n" % len(data), len(data))
        assert one is not None
        length, _, rest = one.partition(b"\r\n")
        assert int(length, 16) == len(rest) - len(b"\r\n")
    assert one is not None
    assert b'"sequence_number":%d,' % (many + 4) in one
    assert len(framing.lines) <= 1024 < len(text_run._digits) <= 4096
