"""Limits on the number of items and tools of a request: each costs more than its bytes.

The other limits of a request apply where it is read: the size of its body in `http.exchange`, of
its header in `server.http1`, and its nesting in the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from translator.service.config.settings import Server
from translator.wire.errors import InvalidRequest

Field = Sequence[Raw] | str | None


def check_counts(
    server: Server, *, items: Field, tools: Field, earlier: int = 0, name: str = "input"
) -> None:
    """Raise InvalidRequest for too many items or tools.

    `items` is the field `name` of the request; `earlier` is the number of items before them.
    """
    _check(name, items, earlier, server.max_input_items)
    _check("tools", tools, 0, server.max_tools)


def _check(name: str, values: Field, earlier: int, limit: int) -> None:
    count = earlier + (len(values) if values is not None and not isinstance(values, str) else 0)
    if count > limit:
        raise InvalidRequest(
            f"Invalid '{name}': array too long. Expected an array with maximum length "
            f"{limit}, but got an array with length {count} instead.",
            param=name,
            code="array_above_max_length",
        )
