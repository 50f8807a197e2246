"""The content of messages and outputs: decoded at once, or in groups of parts where it is large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Raw

from translator.common.pauses import Pause, no_pause
from translator.wire import items
from translator.wire.json_values import NOT_JSON, decode_elements

GROUP_BYTES = 64 * 1024
"""How much of the parts of one message is decoded at once, where the caller pauses."""

_decode_content = msgspec.json.Decoder(items.Content).decode
_decode_parts = msgspec.json.Decoder(list[str | items.InputPart]).decode


def read_content(raw: Raw, pause: Pause) -> items.Content:
    """The content of a message or an output; raises NOT_JSON.

    Where the caller pauses, many parts are decoded in groups.
    """
    if pause is not no_pause and len(raw) >= GROUP_BYTES:
        pause()
        with suppress(*NOT_JSON):  # a string, or a list whose error names the part
            parts: list[str | items.InputPart] = []
            for group in _groups(decode_elements(raw)):
                pause()
                parts += _decode_parts(b"[%b]" % b",".join(group))
            return parts
    return _decode_content(raw)


def _groups(parts: Sequence[Raw]) -> Iterator[list[Raw]]:
    """Parts in groups of some GROUP_BYTES, or of one part that is larger."""
    group: list[Raw] = []
    size = 0
    for part in parts:
        group.append(part)
        size += len(part)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    yield group
