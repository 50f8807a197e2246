"""Client keys: their generation, and the salted hashes that the settings hold.

    key    = prefix, "_", salt, "_", secret ;       sent by a client; its prefix is "trk"
    stored = "sha256:", salt, ":", digest ;         in the settings, of no use to a thief

The salt is 64 random bits in hexadecimal digits. It is part of the key, so a lookup by salt and one
digest are enough to authenticate a request, however many keys there are. The secret is 256 random
bits, so a slow hash (bcrypt, Argon2) would add nothing: it makes guessing expensive where people
choose passwords, and nobody guesses 256 random bits. And the digest is computed for each request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from msgspec import Struct

_STORED = re.compile(r"sha256:([0-9a-f]{16}):([0-9a-f]{64})")
_KEY = re.compile(r"([a-z]{3})_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")

CLIENT = "trk"
"""The prefix of clients' keys."""


class StoredKey(Struct, frozen=True):
    """The salted hash of a key, which can verify the key and does not reveal it."""

    salt: str
    digest: str

    def __str__(self) -> str:
        return f"sha256:{self.salt}:{self.digest}"

    def matches(self, key: str) -> bool:
        """Whether this is the hash of the key, compared in constant time."""
        return hmac.compare_digest(_digest(self.salt, key), self.digest)


def new_key(prefix: str = CLIENT) -> str:
    """A new random key."""
    return f"{prefix}_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"


def store(key: str) -> StoredKey:
    """The stored form of a key that `new_key` made."""
    salt = salt_of(key, key[:3])
    return StoredKey(salt, _digest(salt, key))


def read_stored(text: str) -> StoredKey | None:
    """Parse the stored form of a key; None if it is malformed."""
    found = _STORED.fullmatch(text)
    return StoredKey(found[1], found[2]) if found else None


def salt_of(key: str, prefix: str = CLIENT) -> str:
    """The salt of a key; empty if the text is not a key of ours with that prefix."""
    found = _KEY.fullmatch(key)
    return found[2] if found and found[1] == prefix else ""


def _digest(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}:{key}".encode("utf-8", "surrogatepass")).hexdigest()
