"""SSE encoder: events to frames.

stream = { frame }, "data: [DONE]" ;
frame  = "event: ", type, "data: ", JSON on one line, blank line ;
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec

from translator.wire.events import Event

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
    encoded = _encoder.encode
    return b"".join([b"%b%b\n\n" % (_BEFORE[type(event)], encoded(event)) for event in events])


_BEFORE = {
    kind: b"event: %b\ndata: " % str(kind.__struct_config__.tag).encode()
    for kind in get_args(Event)
}
"""The bytes before the JSON of each type of event."""
