"""References: input items that stand for an item that a store has.

reference = { "type": "item_reference", "id" } | { "id" } ;
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from translator.wire.json_values import NOT_JSON

MAX_REFERENCE_BYTES = 512
"""Only shorter items are looked at as references: they have an id, and a type at most."""


class ItemHead(Struct, frozen=True):
    """The fields of an item that tell whether it is a reference."""

    type: str | None = None
    id: str | None = None
    role: str | None = None

    @property
    def reference(self) -> str | None:
        """The id that the item refers to; None where it is not a reference."""
        refers = self.type == "item_reference" or (self.type is None and self.role is None)
        return self.id if refers else None


_decode = msgspec.json.Decoder(ItemHead).decode


def read_head(raw: Raw) -> ItemHead | None:
    """The head of an item; None for a malformed one, which is refused where it is translated."""
    try:
        return _decode(raw)
    except NOT_JSON:
        return None


def reference_of(raw: Raw) -> str | None:
    """The id that an item refers to; None for any other item."""
    head = None if len(raw) > MAX_REFERENCE_BYTES else read_head(raw)
    return None if head is None else head.reference
