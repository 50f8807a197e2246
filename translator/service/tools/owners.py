"""Whose sessions and kept pages a request may use."""

from __future__ import annotations

import hashlib

from translator.service.access.client import Client


class Owners:
    """Tells owners apart: by the client of the settings, else by the key that a request sends."""

    def __init__(self, salt: bytes) -> None:
        """`salt` is the same for all processes that share sessions."""
        self._salt = salt

    def owner(self, client: Client | None, authorization: str | None) -> str:
        """The owner; empty for whoever sends no key."""
        if client is not None:
            return client.name
        key = (authorization or "").encode()
        return hashlib.blake2b(key, key=self._salt, digest_size=16).hexdigest() if key else ""
