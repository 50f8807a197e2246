"""The keys of clients: how they are made, and what the settings hold in their place.

    key    = "trk_", salt, "_", secret ;            what a client sends
    stored = "sha256:", salt, ":", digest ;         what the settings hold, of no use to a thief

The salt is 64 random bits in hexadecimal digits. It is part of the key, so one look finds whose a
key can be, however many there are, and one digest tells whether it is. The secret is 256 random
bits. A slow hash (bcrypt, Argon2) makes guessing dear where people choose passwords that can be
guessed; nobody guesses 256 random bits at any speed, and the digest is made for each request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from msgspec import Struct

_STORED = re.compile(r"sha256:([0-9a-f]{16}):([0-9a-f]{64})")
_KEY = re.compile(r"trk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class StoredKey(Struct, frozen=True):
    """What is known of a key: whether another one is the same, and nothing more."""

    salt: str
    digest: str

    def __str__(self) -> str:
        return f"sha256:{self.salt}:{self.digest}"

    def fits(self, key: str) -> bool:
        """Whether this is the key; takes as long whatever the answer is."""
        return hmac.compare_digest(_digest(self.salt, key), self.digest)


def new_key() -> str:
    """A key that nobody can guess."""
    return f"trk_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"


def store(key: str) -> StoredKey:
    """What to keep of a key that `new_key` made."""
    salt = salt_of(key)
    return StoredKey(salt, _digest(salt, key))


def read_stored(text: str) -> StoredKey | None:
    """A key as the settings hold it; None for a text that is none."""
    found = _STORED.fullmatch(text)
    return StoredKey(found[1], found[2]) if found else None


def salt_of(key: str) -> str:
    """The salt of a key; empty for a text that is no key of ours."""
    found = _KEY.fullmatch(key)
    return found[1] if found else ""


def _digest(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}:{key}".encode("utf-8", "surrogatepass")).hexdigest()
