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
    frames = bytearray()
    if events and type(events[0]) is Created:
        events = _begin(events[0], events[1:], frames)
    encode_into = _encoder.encode_into
    for event in events:
        frames += _BEFORE[type(event)]
        encode_into(event, frames, -1)
        frames += b"\n\n"
    return bytes(frames)


def _begin(created: Created, events: Sequence[Event], frames: bytearray) -> Sequence[Event]:
    """Append the first frame, and the second if it holds the same response; the events left.

    That response repeats the tools and the instructions of the request: it is encoded once.
    """
    frames += _BEFORE[Created]
    start = len(frames)
    _encoder.encode_into(created, frames, -1)
    second = events[0] if events else None
    if type(second) is not InProgress or second.response is not created.response:
        frames += b"\n\n"
        return events
    shared = frames[frames.index(b',"response":', start) :]  # behind the type and the number
    frames += b"\n\n%b" % _BEFORE[InProgress]
    frames += b'{"type":"response.in_progress","sequence_number":%d' % second.sequence_number
    frames += shared
    frames += b"\n\n"
    return events[1:]


_BEFORE = {
    kind: b"event: %b\ndata: " % str(kind.__struct_config__.tag).encode()
    for kind in get_args(Event)
}
"""The bytes before the JSON of each type of event."""
