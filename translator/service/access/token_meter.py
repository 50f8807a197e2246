"""A token meter for answers that are passed through, for clients with a token limit.

    answer = { event } | completion ;
    event, completion = {"choices": [{"delta" | "message": { TEXT }}], "usage": { … }} ;

It counts the bytes of all strings in the deltas and messages of all choices, but for those that
are no text of the model (ids, roles, names, citations, signatures, base64). Reasoning that is there
under two names counts once, and so does text that each chunk repeats, where the dialect says so.
What cannot be read counts whole: it came, and nobody knows what it is.

A chunk is only put aside. Chunks are decoded once there are READ_BYTES of them, and at the end: so
a chunk costs an append and an addition, and about a microsecond per event later, while no more than
one event, or one completion of MAX_WHOLE_BYTES, is held. Counting the bytes of the stream instead
would charge fifty times too much: an event has an envelope of some 200 bytes, and a token four.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from translator.dialects import BASE, Dialect
from translator.reader import sse
from translator.reader.body_sniffer import BodySniffer
from translator.reader.fast_chunks import read_text
from translator.reader.lenient_json import decode_leniently
from translator.reader.text_channel import TextChannel
from translator.reader.usage import read_count, read_usage
from translator.wire import chat
from translator.wire.deltas import Text
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_integer, as_list, as_object, utf8_size

from .cost import Answered, StatedUsage

READ_BYTES = 16 * 1024
"""Bytes of chunks that are decoded at once: a tenth of a millisecond of events."""

MAX_WHOLE_BYTES = sse.MAX_EVENT_BYTES
"""Largest completion, and largest event, that is decoded; a larger one counts by its bytes, and so
does all that follows it."""

MAX_TAIL_BYTES = 64 * 1024
"""Bytes that are kept of such a body: its usage is near its end."""

_REASONING = frozenset({*chat.REASONING_FIELDS, "reasoning_details", "thinking", "thinking_blocks"})
"""Fields that repeat each other where several are there."""

_NOT_WRITTEN = frozenset(
    "annotations citations data extra_content format id image_url images name role signature"
    " type url".split()
)
"""Fields of deltas, and of objects in them, whose strings are no text of the model."""

_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
"""Inside a text its quotes are escaped, so a match is the upstream's own field."""


_OBJECTS = frozenset({"arguments", "input"})
"""Fields that are JSON text; some upstreams send the object itself."""


class _Choice(Struct, gc=False):
    index: int | None = None
    delta: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None


class _Payload(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: chat.Groq | None = None
    timings: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Payload).decode
_DONE = b"[DONE]"


class TokenMeter:
    """Counts what the model has written in one body, and finds its usage."""

    __slots__ = (
        *("_channels", "_decoder", "_dialect", "_events", "_is_text", "_sniffer", "_tail"),
        *("_unended", "_unread", "_unread_size", "_usage", "_written"),
    )

    def __init__(self, dialect: Dialect = BASE) -> None:
        """`dialect` is the upstream's."""
        self._dialect = dialect
        self._channels: dict[tuple[int | None, str], TextChannel] = {}  # of repeated text
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._sniffer: BodySniffer | None = BodySniffer(sys.maxsize)  # None: the body is a stream
        self._decoder = sse.Decoder()
        self._unended = 0  # bytes since the last event
        self._tail: bytearray | None = None  # of a body that is too large to be decoded
        self._written = 0
        self._events = 0
        self._is_text = False  # the last event held only text: the next one is tried as such
        self._usage: StatedUsage | None = None

    def add(self, chunk: bytes) -> None:
        """Count a chunk of the body."""
        self._unread.append(chunk)
        self._unread_size += len(chunk)
        if self._unread_size >= READ_BYTES:
            self._read()

    def so_far(self) -> Answered:
        """What has come until now, but for an event that has not ended."""
        self._read()
        return Answered(self._written, self._events, self._usage)

    def answered(self) -> Answered:
        """What has come; to be asked for once, at the end of the body or where it is cut."""
        self._read()
        self._end()
        return Answered(self._written, self._events, self._usage)

    def _read(self) -> None:
        data = b"".join(self._unread)
        self._unread.clear()
        self._unread_size = 0
        if self._tail is not None:
            self._written += len(data)
            self._tail += data
            del self._tail[:-MAX_TAIL_BYTES]
            return
        try:
            if self._sniffer is not None:
                data = self._sniff(self._sniffer, data)
            payloads = self._decoder.feed(data)
        except UpstreamError:  # an event that is too large, or never ends
            self._written += self._unended + len(data)
            self._tail = bytearray(data[-MAX_TAIL_BYTES:])
            return
        self._unended = 0 if payloads else self._unended + len(data)
        for payload in payloads:
            self._read_event(payload)

    def _sniff(self, sniffer: BodySniffer, data: bytes) -> bytes:
        """The data of a stream; empty for a completion, which is held."""
        streamed = sniffer.feed(data)
        if sniffer.streams:
            self._sniffer = None
        elif sniffer.size > MAX_WHOLE_BYTES:
            self._written += sniffer.size
            self._tail = bytearray((sniffer.value or b"")[-MAX_TAIL_BYTES:])
            self._sniffer = None
        return streamed

    def _end(self) -> None:
        if self._tail is not None:
            found = _USAGE.findall(self._tail)
            if found:
                self._state(as_object(_any(found[-1])), None)
        elif self._sniffer is not None:
            if self._sniffer.value is not None:
                self._read_payload(self._sniffer.value)
        else:
            for payload in self._decoder.end():
                self._read_event(payload)

    def _read_event(self, payload: bytes) -> None:
        self._events += 1
        if self._is_text:
            try:
                self._written += utf8_size(read_text(payload).text)
            except NOT_JSON:
                self._is_text = False
            else:
                return
        if payload != _DONE:
            self._read_payload(payload)

    def _read_payload(self, payload: bytes) -> None:
        try:
            decoded = _decode(payload)
        except NOT_JSON:
            decoded = None
        if decoded is None or (decoded.choices is None and decoded.usage is None):
            decoded = _odd(payload)
        if decoded is None:
            self._written += len(payload)
            return
        usage = decoded.usage
        choices = decoded.choices or ()
        if self._dialect.cumulative:
            self._keep_new_text(choices)
        else:
            self._is_text = len(choices) == 1 and (choices[0].delta or {}).keys() == {"content"}
        for choice in choices:
            self._written += _written(choice.message if choice.delta is None else choice.delta)
            usage = usage or choice.usage
        usage = usage or (decoded.x_groq.usage if decoded.x_groq else None)
        if usage:
            self._state(usage, decoded.timings)

    def _keep_new_text(self, choices: Iterable[_Choice]) -> None:
        """Shorten the texts of deltas that repeat all text so far to what is new."""
        for choice in choices:
            delta = choice.delta or {}
            for name, text in delta.items():
                if isinstance(text, str) and name not in _NOT_WRITTEN:
                    key = choice.index, name
                    channel = self._channels.get(key)
                    if channel is None:
                        channel = self._channels[key] = TextChannel(Text, cumulative=True)
                    delta[name] = channel.feed(text)

    def _state(self, usage: dict[str, Any] | None, timings: dict[str, Any] | None) -> None:
        """Take usage for that of the answer: upstreams that repeat it count on."""
        usage = usage or {}
        excludes = self._dialect.prompt_excludes_cached
        counts = read_usage(usage, timings, prompt_excludes_cached=excludes)
        total = read_count(usage.get("total_tokens"))
        stated = StatedUsage(
            counts.input_tokens,
            counts.output_tokens,
            total,
            counts.cached_tokens,
            counts.cache_write_tokens,
            counts.reasoning_tokens,
        )
        if stated != _NOTHING:
            self._usage = stated


_NOTHING = StatedUsage(0, 0, 0)


def _odd(payload: bytes) -> _Payload | None:
    """A payload that is not quite a chunk: an error, a wrapper, wrong types, broken characters."""
    body = as_object(_any(payload))
    if body is None:
        return None
    inner = as_object(body.get("data"))
    if inner is not None and "choices" not in body:
        body = inner
    choices: list[_Choice] = []
    for entry in as_list(body.get("choices")) or ():
        choice = as_object(entry) or {}
        delta = choice.get("delta") or choice.get("message")
        delta = as_object(delta) or {"": delta}
        index, usage = as_integer(choice.get("index")), as_object(choice.get("usage"))
        choices.append(_Choice(index, delta, None, usage))
    return _Payload(choices, as_object(body.get("usage")), None, as_object(body.get("timings")))


def _any(payload: bytes) -> object:
    """Any JSON; None for what is none."""
    try:
        return decode_leniently(payload)
    except ValueError:
        return None


def _written(delta: dict[str, Any] | None) -> int:
    """Bytes of the strings in a delta that the model wrote."""
    size = reasoning = 0
    for key, value in (delta or {}).items():
        if key in _REASONING:
            reasoning = max(reasoning, _text_size(value))
        elif key not in _NOT_WRITTEN:
            size += _text_size(value)
    return size + reasoning


def _json_size(value: object) -> int:
    """Bytes of a value as JSON text; 0 for one that is nested too deeply."""
    try:
        return utf8_size(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        return 0


def _text_size(value: object) -> int:
    """Bytes of the strings in a value, on any level."""
    if isinstance(value, str):
        return utf8_size(value)
    size = 0
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            size += utf8_size(one)
        elif (fields := as_object(one)) is not None:
            for key, entry in fields.items():
                if key in _OBJECTS and (found := as_object(entry)) is not None:
                    size += _json_size(found)
                elif key not in _NOT_WRITTEN:
                    rest.append(entry)
        else:
            rest += as_list(one) or ()
    return size
