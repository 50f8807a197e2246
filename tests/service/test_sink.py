"""The sink that translates: what it writes, what it leaves to its reader, what it records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tests.replaying import chunk, sse, translation
from translator import Event, UpstreamTimeout, encode_json
from translator.service.observe.observer import EventsSent, ObservedEvent
from translator.service.turns.progress import ProgressTimeout
from translator.service.turns.sink import EventWriter, TranslatingSink
from translator.service.upstreams.streams import UpstreamStream
from translator.text_run import UNFRAMED

pytestmark = pytest.mark.anyio

LIMIT_S = 1000.0


class Writer:
    """A direct writer that keeps the lists of events, and the events as bytes, of each write."""

    def __init__(self) -> None:
        self.written: list[list[Event]] = []
        self.encoded: list[bytes] = []
        self.is_full = False

    def ready(self) -> bool:
        return True

    def write(self, chunk: list[Event]) -> bool:
        self.written.append(chunk)
        return not self.is_full

    def write_one(self, event: bytes) -> bool:
        self.encoded.append(event)
        return not self.is_full

    def waits(self) -> bool:
        return False

    def abort(self) -> None: ...


class Stream:
    """The part of a stream that a sink uses."""

    last_activity = 0.0


class Setting:
    """A sink of an answer that has begun."""

    def __init__(self, *, observed: bool = False) -> None:
        self.writer, self.stream = Writer(), Stream()
        self.observed: list[ObservedEvent] = []
        self.translation = translation()
        self.translation.receive(sse(chunk({"content": "Hello"})))
        self.now = asyncio.get_running_loop().time
        self.began = self.now()
        self.progress = ProgressTimeout(self.translation, LIMIT_S, self.began)
        self.sink = TranslatingSink(
            self.translation,
            self.progress,
            cast("UpstreamStream", self.stream),
            EventWriter(
                cast("Any", self.writer), list, encode_json, self.writer.write_one, UNFRAMED
            ),
            self.observed.append if observed else None,
        )


def types(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_the_events_of_a_chunk_are_one_write() -> None:
    one = Setting()
    assert one.sink.sent_at == 0.0
    assert one.sink.push(sse(chunk({"content": " there"}), chunk({"content": "!"})))
    assert [types(events) for events in one.writer.written] == [["OutputTextDelta"] * 2]
    assert one.sink.sent_at == one.stream.last_activity >= one.began
    assert one.sink.unsent == []


async def test_a_chunk_without_events_is_no_write() -> None:
    one = Setting()
    assert one.sink.push(b": keep-alive\n\n")
    assert one.writer.written == []
    assert one.stream.last_activity >= one.began
    assert one.sink.sent_at == 0.0


async def test_keep_alives_alone_time_out() -> None:
    one = Setting()
    one.progress._since -= 2 * LIMIT_S
    assert one.sink.push(sse(chunk({"content": " there"})))
    one.progress._since -= 2 * LIMIT_S
    assert one.sink.push(b": keep-alive\n\n"), "the text before it was progress"
    one.progress._since -= 2 * LIMIT_S
    with pytest.raises(UpstreamTimeout):
        one.sink.push(b": keep-alive\n\n")


async def test_the_last_events_are_for_the_reader() -> None:
    one = Setting(observed=True)
    assert not one.sink.push(sse(chunk({}, "stop"), "[DONE]"))
    assert types(one.sink.unsent)[-1] == "Completed"
    assert one.writer.written == []
    assert one.observed == []
    assert one.stream.last_activity >= one.began
    assert one.sink.sent_at == 0.0


async def test_an_observer_gets_what_is_written() -> None:
    one = Setting(observed=True)
    one.sink.push(sse(chunk({"content": " there"})))
    one.sink.push(b": keep-alive\n\n")
    assert one.observed == [EventsSent(one.writer.written[0])]


@pytest.mark.parametrize("observed", [False, True])
async def test_a_framed_chunk_is_written_where_it_only_adds_text(observed: bool) -> None:
    one = Setting(observed=observed)

    def pushed(data: bytes) -> bool | None:
        line = b"%x\r\n" % len(data)
        return one.sink.push_framed(b"%b%b\r\n" % (line, data), line, len(data))

    more = sse(chunk({"content": " there"}))
    assert pushed(more) is (None if observed else True)
    assert len(one.writer.encoded) == (not observed)
    assert (one.sink.sent_at == one.stream.last_activity >= one.began) is not observed
    assert pushed(b": keep-alive\n\n") is None
    assert pushed(sse(chunk({}, "stop"), "[DONE]")) is None
    one.writer.is_full = True
    assert pushed(more) is (None if observed else False)
    assert one.writer.written == []
