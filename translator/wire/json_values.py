"""What kind of JSON value something is, as far as it must be known before it is used.

Values that other people's servers sent are narrowed here, one step at a time; raw ones are told by
their first byte, and nothing is copied or decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeGuard, cast

import msgspec
from msgspec import DecodeError, Raw, UnsetType

NOT_JSON = (DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises: for bytes that are no JSON, or none of the type that is wanted; for
broken UTF-8; for JSON that is nested too deeply."""


def is_string(raw: Raw) -> bool:
    """The raw value is a JSON string."""
    return _first_byte(raw) == b'"'


def is_data_url(raw: Raw) -> bool:
    """The raw value is a string that holds its content itself."""
    return bytes(memoryview(raw)[:6]) == b'"data:'


def is_object(raw: Raw) -> bool:
    """The raw value is a JSON object."""
    return _first_byte(raw) == b"{"


def is_null(raw: Raw) -> bool:
    """The raw value is null."""
    return _first_byte(raw) == b"n"


def present(raw: Raw | UnsetType) -> TypeGuard[Raw]:
    """The key is there, and its value is not null."""
    return not isinstance(raw, UnsetType) and not is_null(raw)


def on_one_line(document: bytes) -> bytes:
    """The same JSON without white space between its tokens, when a line break or a tab is in it.

    Inside JSON strings these are always escaped, so one that is found stands between tokens. A
    document that is on one line already keeps its blanks: they harm nothing, and to look for them
    costs as much as to decode it. Raises one of NOT_JSON.
    """
    if not any(byte in document for byte in _LINE_BYTES):
        return document
    return msgspec.json.format(document, indent=-1)


_LINE_BYTES = (b"\n", b"\r", b"\t")


def _first_byte(raw: Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def replace_lone_surrogates(text: str) -> str:
    """Text that any encoder takes: half a surrogate pair becomes U+FFFD, a whole one is joined."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_SURROGATE = re.compile("[\ud800-\udfff]")


def as_object(value: object) -> dict[str, Any] | None:
    """A decoded value when it is an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> Sequence[Any] | None:
    """A decoded value when it is an array."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else None


def as_string(value: object) -> str | None:
    """A decoded value when it is a string."""
    return value if isinstance(value, str) else None


def as_integer(value: object) -> int | None:
    """A decoded value when it is a whole number; `true` is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects of a decoded array; empty when it is none."""
    return [entry for one in as_list(value) or () if (entry := as_object(one)) is not None]
