"""Type narrowing for JSON values, decoded or raw.

Decoded values from foreign servers are narrowed one level at a time. The kind of a raw value is
decided by its first byte, without copying or decoding it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any, TypeGuard, cast

import msgspec
from msgspec import UNSET, DecodeError, Raw, UnsetType

NOT_JSON = (DecodeError, UnicodeDecodeError, RecursionError)
"""The decoder's exceptions: for invalid JSON or JSON of another type, for invalid UTF-8, and for
JSON that is nested too deeply."""


# Bytes in a tuple: a view of the value, or a copy of it, takes far longer.
_first_byte = struct.Struct("c").unpack_from
_first_bytes = struct.Struct("6s").unpack_from


def is_string(raw: Raw) -> bool:
    """Whether a raw value is a JSON string."""
    return _first_byte(raw) == (b'"',)


def begins_with_role(raw: Raw) -> bool:
    """Whether a raw value is an object whose first member is `role`, written without spaces."""
    return len(raw) > 6 and _first_bytes(raw) == (b'{"role',)


def is_data_url(raw: Raw) -> bool:
    """Whether a raw value is a string with a `data:` URL."""
    return len(raw) > 6 and _first_bytes(raw) == (b'"data:',)


def is_object(raw: Raw) -> bool:
    """Whether a raw value is a JSON object."""
    return _first_byte(raw) == (b"{",)


def is_null(raw: Raw) -> bool:
    """Whether a raw value is null."""
    return _first_byte(raw) == (b"n",)


def present(raw: Raw | UnsetType) -> TypeGuard[Raw]:
    """Whether the field is set to a value other than null."""
    return raw is not UNSET and not is_null(raw)


def on_one_line(document: bytes) -> bytes:
    """The document minified where it contains a line break or a tab, otherwise unchanged.

    Both are always escaped inside JSON strings, so a literal one stands between tokens. A document
    on one line keeps its spaces: they are harmless, and searching for them costs as much as
    decoding. Raises one of NOT_JSON.
    """
    if b"\n" in document or b"\r" in document or b"\t" in document:
        return msgspec.json.format(document, indent=-1)
    return document


def replace_lone_surrogates(text: str) -> str:
    """Text that can be encoded: lone surrogates become U+FFFD, surrogate pairs are joined."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_SURROGATE = re.compile("[\ud800-\udfff]")


def utf8_size(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
"""The members of a JSON object, each as its raw value; raises one of NOT_JSON."""

decode_elements = msgspec.json.Decoder(list[Raw]).decode
"""The same of an array."""


def as_object(value: object) -> dict[str, Any] | None:
    """A decoded value if it is an object, else None."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> Sequence[Any] | None:
    """A decoded value if it is an array, else None."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else None


def as_string(value: object) -> str | None:
    """A decoded value if it is a string, else None."""
    return value if isinstance(value, str) else None


def as_integer(value: object) -> int | None:
    """A decoded value if it is an integer, else None; `true` is no integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects in a decoded array; empty for any other value."""
    return [entry for one in as_list(value) or () if (entry := as_object(one)) is not None]
