"""SSE encoder: events to frames.

stream = { frame }, "data: [DONE]" ;
frame  = "event: ", type, "data: ", JSON on one line, blank line ;
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec

from translator.wire.events import Created, Event, InProgress

DONE = b"data: [DONE]\n\n"
"""The frame after the terminal event; clients that do not expect it skip it."""

_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """One event as one frame: its name, its JSON on one line, a blank line."""
    return b"%b%b\n\n" % (_BEFORE[type(event)], _encoder.encode(event))


def encode_all(events: Sequence[Event]) -> bytes:
    """Events as frames, one after the other; nearly always it is one."""
    if len(events) == 1:
        [event] = events
        return b"%b%b\n\n" % (_BEFORE[type(event)], _encoder.encode(event))
    parts: list[bytes | memoryview] = []
    if events and type(events[0]) is Created:
        events = _begin(events[0], events[1:], parts)
    encoded = _encoder.encode
    for event in events:
        parts += (_BEFORE[type(event)], encoded(event), b"\n\n")
    return b"".join(parts)


def _begin(
    created: Created, events: Sequence[Event], parts: list[bytes | memoryview]
) -> Sequence[Event]:
    """Append the first frame, and the second if it holds the same response; the events left.

    That response repeats the tools and the instructions of the request: it is encoded once.
    """
    encoded = _encoder.encode(created)
    parts += (_BEFORE[Created], encoded, b"\n\n")
    second = events[0] if events else None
    if type(second) is not InProgress or second.response is not created.response:
        return events
    begin = b'{"type":"%b","sequence_number":%d'
    head = begin % (b"response.in_progress", second.sequence_number)
    rest = memoryview(encoded)[len(begin % (b"response.created", created.sequence_number)) :]
    parts += (_BEFORE[InProgress], head, rest, b"\n\n")
    return events[1:]


_BEFORE = {
    kind: b"event: %b\ndata: " % str(kind.__struct_config__.tag).encode()
    for kind in get_args(Event)
}
"""The bytes before the JSON of each type of event."""
