"""Reasoning on its way through the client: `encrypted_content` without a database.

Codex and other stateless clients return of a reasoning item only what stands in it, and several
upstreams refuse the next turn when the reasoning does not come back word for word. So the text
travels in the item itself, with the name of the field that it arrived in and the opaque details
that came along. The blob is no secret, the client has the text anyway; it is compact, and damage
shows.

    blob = "translator.1." base64url( zlib( json( { text, field, details, extras } ) ) ) ;

Blobs of other makers (another gateway, OpenAI after a change of model) are recognised by their
missing prefix and ignored.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.wire.json_values import NOT_JSON, objects_in

PREFIX = "translator.1."
"""Marks a blob as ours and tells its version."""

MAX_REASONING_BYTES = 4 * 1024 * 1024
"""Largest reasoning that is sealed or opened, in bytes of JSON before compression: a client sends
every blob back on every turn, and a forged one must not expand without end."""


class Thought(Struct, frozen=True):
    """Reasoning as the upstream gave it: all it takes to give it back.

    `field` is the name that the text arrived under. `details` are the upstream's own objects, in
    their order (`reasoning_details`). `extras` is what it hung on its calls (`extra_content`), by
    call id; on the message, by "".
    """

    text: str
    field: str
    details: list[Any] = []
    extras: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(Thought)


def seal(thought: Thought) -> str | None:
    """The blob for a thought; None when it is over MAX_REASONING_BYTES."""
    plain = msgspec.json.encode(thought)
    return None if len(plain) > MAX_REASONING_BYTES else pack(PREFIX, plain)


def unseal(blob: str) -> Thought | None:
    """The thought in a blob of ours; None for anybody else's, a damaged or an oversized one."""
    try:
        return _decoder.decode(unpack(PREFIX, blob, MAX_REASONING_BYTES) or b"")
    except NOT_JSON:
        return None


def pack(prefix: str, plain: bytes) -> str:
    """Bytes as a blob that begins with `prefix`."""
    return prefix + base64.urlsafe_b64encode(zlib.compress(plain)).decode()


def unpack(prefix: str, blob: str, limit: int) -> bytes | None:
    """The bytes in a blob, at most `limit`; None for one of another prefix, damaged, or larger."""
    if not blob.startswith(prefix):
        return None
    try:
        packed = base64.urlsafe_b64decode(blob[len(prefix) :])
        inflate = zlib.decompressobj()
        plain = inflate.decompress(packed, limit)
    except (ValueError, zlib.error):  # ValueError: no base64
        return None
    return plain if inflate.eof else None


def merge_details(pieces: list[Raw]) -> list[Any]:
    """Reasoning details streamed in pieces as the list that a whole answer would have held.

    Neighbouring pieces of one kind and index are fragments of one entry: their texts are joined,
    and the last value of every other key stands (a signature comes with the last fragment).
    """
    merged: list[dict[str, Any]] = []
    texts: list[dict[str, list[str]]] = []  # of each entry, by key: joined once, at the end
    for piece in pieces:
        for entry in objects_in(msgspec.json.decode(piece)):
            if not (merged and _continues(merged[-1], entry)):
                merged.append({})
                texts.append({})
            for key, value in entry.items():
                if key in _TEXT_KEYS and isinstance(value, str):
                    texts[-1].setdefault(key, []).append(value)
                    merged[-1][key] = ""  # keeps its place among the keys
                elif value is not None or key not in merged[-1]:
                    merged[-1][key] = value
    for entry, text in zip(merged, texts, strict=True):
        entry.update((key, "".join(pieces)) for key, pieces in text.items())
    return list(merged)


_TEXT_KEYS = ("text", "summary", "data")


def _continues(last: dict[str, Any], entry: dict[str, Any]) -> bool:
    same = all(last.get(key) == entry.get(key) for key in ("type", "index"))
    return same and entry.get("index") is not None
