"""Which functions are mutated, which tests must notice, and which mutants change nothing.

A target's tests are the fewest that should hold it: files, or single tests, as pytest names them.
"""

from __future__ import annotations

from msgspec import Struct

FAST = "tests/test_fast_chunks.py"
WRITER = "tests/test_fast_writer.py"
SSE = "tests/test_sse.py"
CHAT = "tests/test_from_chat.py"
FACADE = "tests/test_translation.py"
COMPACTION = "tests/test_compaction.py::test_progress_shows_while_nothing_can_be_announced"
CONNECTION = "tests/service/test_connection.py"
SINK = "tests/service/test_sink.py"


class Target(Struct, frozen=True):
    """A function, or a class by its fields, and the tests that must fail on each mutant of it."""

    file: str
    name: str
    tests: tuple[str, ...]


class Equivalent(Struct, frozen=True):
    """A mutant that behaves the same: `now` is the line that differs, as the mutant has it."""

    name: str
    now: str
    reason: str


TARGETS = [
    # decoder: body to payloads
    Target("translator/reader/sse.py", "Decoder.feed", (SSE, FACADE)),
    Target("translator/reader/sse.py", "Decoder._read_lines", (SSE, FACADE)),
    Target("translator/reader/sse.py", "Decoder._frames", (SSE,)),
    Target("translator/reader/sse.py", "Decoder._cut_frames", (SSE,)),
    # reader: payloads to deltas
    Target("translator/reader/from_chat.py", "ChatReader.read", (FAST, CHAT)),
    Target("translator/reader/from_chat.py", "ChatReader._fast_reader", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_EmptyDelta", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_TextDelta", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_ReasoningContentDelta", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_ReasoningDelta", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_Arguments", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_CallDelta", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_CallsDelta", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_Choice", (FAST,)),
    Target("translator/reader/fast_chunks.py", "_Chunk", (FAST,)),
    Target("translator/reader/call_assembler.py", "CallAssembler.append_arguments", (FAST,)),
    Target("translator/reader/call_assembler.py", "_append", (FAST, CHAT)),
    Target("translator/reader/call_assembler.py", "_is_repeat", (FAST, CHAT)),
    # writer: deltas to events
    Target("translator/writer/stream.py", "ResponseStream.feed", (WRITER, FACADE)),
    Target("translator/writer/stream.py", "ResponseStream._choose_fast_path", (WRITER, FACADE)),
    Target("translator/writer/segments.py", "CallSegment.append", (WRITER, FACADE)),
    Target("translator/writer/open_items.py", "OpenMessage.fast_type", (WRITER,)),
    Target("translator/writer/open_items.py", "OpenMessage.append", (WRITER, CHAT)),
    Target("translator/writer/open_items.py", "OpenReasoning.fast_type", (WRITER,)),
    Target("translator/writer/open_items.py", "OpenReasoning.append", (WRITER, FACADE)),
    Target("translator/writer/sse.py", "encode_all", (SSE,)),
    # facade: bytes to events
    Target("translator/translation.py", "Translation.receive", (FACADE,)),
    Target("translator/translation.py", "Translation._read", (FACADE,)),
    Target("translator/translation.py", "Translation._write", (FACADE, COMPACTION)),
    # service: the connection's reads to its sink
    Target("translator/service/upstreams/connection.py", "ReceiveBuffer.feed_data", (CONNECTION,)),
    Target("translator/service/upstreams/connection.py", "Pump.push", (CONNECTION,)),
    Target("translator/service/upstreams/connection.py", "Connection.pump_into", (CONNECTION,)),
    Target("translator/service/upstreams/connection.py", "Connection.data_received", (CONNECTION,)),
    Target("translator/service/turns/sink.py", "TranslatingSink.push", (SINK,)),
]

EQUIVALENT = [
    Equivalent(
        "Decoder.feed",
        "if (len(data) < BULK_BYTES):",
        "Data of just that size is one part.",
    ),
    Equivalent(
        "Decoder._read_lines",
        "if lines:",
        "Where no line is held, nothing is joined to the first one.",
    ),
    Equivalent(
        "ChatReader.read",
        "self.fast = self._fast_reader(deltas[-1]) if len(deltas) == 1 else None",
        "There is one delta.",
    ),
    Equivalent(
        "ResponseStream._choose_fast_path",
        "first = self._queue[-1]",
        "There is one segment.",
    ),
    Equivalent(
        "ResponseStream._choose_fast_path",
        "elif isinstance(first, Narrative):",
        "The first segment is open; the condition is for type checkers.",
    ),
    Equivalent(
        "_is_repeat",
        "len(arguments) == call.size > 0",
        "A single character is no whole object.",
    ),
    Equivalent(
        "_is_repeat",
        "(len(arguments) == call.size >= 1)",
        "A single character is no whole object.",
    ),
    Equivalent(
        "CallSegment.append",
        "if ((self._beginning is not None) or self.waiting):",
        "The only segment in the queue is open; the condition is for type checkers.",
    ),
    Equivalent(
        "Connection.data_received",
        "if (data and (not pump.needs_reader.done())):",
        "Without a pause, `resume_reading` does nothing; the condition saves the call.",
    ),
    Equivalent(
        "ReceiveBuffer.feed_data",
        "return True",
        "Its parser then asks a decompressor for more, of which there is none: an empty chunk.",
    ),
]
