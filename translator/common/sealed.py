"""Sealed reasoning: `encrypted_content` that carries reasoning through the client, without a store.

Stateless clients such as Codex send back only the content of a reasoning item, and several
upstreams refuse the next turn unless the reasoning is returned verbatim. So the item itself carries
the text, the name of its chat field, and the opaque details. The blob is not secret, since the
client has the text anyway; it is compact, and damage is detected.

    blob = "translator.1." base64url( zlib( json( thought ) ) ) ;
    thought = { text, field, details, extras, [ origin ], [ ran ] } ;

The calls of hosted tools travel in the same way: many clients drop their items, or the results. The
reasoning behind such calls holds them, or an item of its own where none follows.

Blobs of other servers (another gateway, or OpenAI before a change of model) lack the prefix and are
ignored.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from translator.wire.json_values import NOT_JSON, objects_in

from .hosted import MAX_RAN, RanRound

PREFIX = "translator.1."
"""Identifies our blobs and their version."""

MAX_REASONING_BYTES = 4 * 1024 * 1024
"""Largest reasoning that is sealed or unsealed, in bytes of JSON before compression: a client sends
every blob back on every turn, and a forged one must not expand without limit."""


@final
class Thought(Struct, frozen=True):
    """Reasoning as the upstream sent it, complete enough to send it back.

    `field` is the chat field of the text. `details` are the upstream's `reasoning_details`, in
    order. `extras` are the values of `extra_content`, by the id of their call; that of the message
    has the key "". `origin` is what made it, where a request may go to one of several: details and
    extras are signed, and only who signed them takes them back. `ran` are the hosted calls of the
    round before it.
    """

    text: str
    field: str
    details: list[Any] = []
    extras: dict[str, Any] = {}
    origin: str | UnsetType = UNSET
    ran: RanRound | UnsetType = UNSET

    def taken_by(self, origin: str | None) -> Thought:
        """What of it may go to `origin`: the text alone, where another one made it."""
        if origin is None or self.origin in (UNSET, origin):
            return self
        ran = self.ran
        if not isinstance(ran, UnsetType) and ran.extras:
            ran = replace(ran, extras={})
        return Thought(self.text, self.field, origin=self.origin, ran=ran)


_decoder = msgspec.json.Decoder(Thought)


def seal(thought: Thought) -> str | None:
    """The blob for a thought; None for one over MAX_REASONING_BYTES."""
    plain = msgspec.json.encode(thought)
    return None if len(plain) > MAX_REASONING_BYTES else pack(PREFIX, plain)


def unseal(blob: str) -> Thought | None:
    """The thought in one of our blobs; None for a foreign, damaged or oversized one."""
    try:
        thought = _decoder.decode(unpack(PREFIX, blob, MAX_REASONING_BYTES) or b"")
    except NOT_JSON:
        return None
    ran = thought.ran
    if not isinstance(ran, UnsetType) and len(ran.calls) > MAX_RAN:
        return None
    return thought


def unsealed(thought: Thought) -> Thought:
    """What unsealing its blob would give."""
    return _decoder.decode(msgspec.json.encode(thought))


def pack(prefix: str, plain: bytes) -> str:
    """A blob with this prefix that holds `plain`."""
    return prefix + base64.urlsafe_b64encode(zlib.compress(plain)).decode()


def unpack(prefix: str, blob: str, limit: int) -> bytes | None:
    """The bytes in a blob; None for another prefix, a damaged blob, or more than `limit` bytes."""
    if not blob.startswith(prefix):
        return None
    try:
        packed = base64.urlsafe_b64decode(blob[len(prefix) :])
        inflate = zlib.decompressobj()
        plain = inflate.decompress(packed, limit)
    except (ValueError, zlib.error):  # ValueError: not base64
        return None
    return plain if inflate.eof else None


def merge_details(arrays: list[Raw]) -> list[Any]:
    """Streamed `reasoning_details` as the list that a completion would contain.

    Adjacent objects of one type and index are fragments of one entry: their texts are joined, and
    of every other key the last value counts (a signature is sent with the last fragment).
    """
    merged: list[dict[str, Any]] = []
    texts: list[dict[str, list[str]]] = []  # of each entry, by key: joined once, at the end
    for array in arrays:
        for entry in objects_in(msgspec.json.decode(array)):
            if not (merged and _continues(merged[-1], entry)):
                merged.append({})
                texts.append({})
            for key, value in entry.items():
                if key in _TEXT_KEYS and isinstance(value, str):
                    texts[-1].setdefault(key, []).append(value)
                    merged[-1][key] = ""  # holds its place among the keys
                elif value is not None or key not in merged[-1]:
                    merged[-1][key] = value
    for entry, text in zip(merged, texts, strict=True):
        entry.update((key, "".join(parts)) for key, parts in text.items())
    return list(merged)


_TEXT_KEYS = ("text", "summary", "data")


def _continues(last: dict[str, Any], entry: dict[str, Any]) -> bool:
    same = all(last.get(key) == entry.get(key) for key in ("type", "index"))
    return same and entry.get("index") is not None
