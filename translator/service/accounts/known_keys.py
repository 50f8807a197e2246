"""The keys that a process knows: what it read of them a second ago at most."""

from __future__ import annotations

import time
from collections import OrderedDict

from translator.service.base.errors import AccountsUnavailable, InvalidKey
from translator.service.base.keys import StoredKey, salt_of
from translator.service.config.accounts import AccountsSection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable

from .client import refusal
from .keys import Key, read_key
from .operator_keys import PREFIX as OPERATOR

_NOBODY = StoredKey("0" * 16, "0" * 64)

KNOWN_S = 1.0
"""How long what was read of a key is used for further requests, which hold under it."""

MAX_KNOWN = 10_000
"""Most keys that are known."""


class KnownKeys:
    """The keys; the latest MAX_KNOWN are kept."""

    def __init__(self, database: Database, section: AccountsSection) -> None:
        self._database = database
        self._section = section
        self._known: OrderedDict[str, tuple[float, Key]] = OrderedDict()

    async def find(self, authorization: str | None, *, fresh: bool) -> Key:
        """The key of an `Authorization`, which may be used.

        `fresh`: what is known of it is read now; else it may be a second old, since a hold follows.
        Raises InvalidKey, AccountDeactivated and AccountsUnavailable.
        """
        scheme, _, text = (authorization or "").strip().partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise InvalidKey("Missing API key: send it as 'Authorization: Bearer KEY'.")
        salt = salt_of(text)
        if not salt and salt_of(text, OPERATOR):
            raise InvalidKey("An operator's key opens the paths below /account/api, and no model.")
        if not salt:
            raise InvalidKey(
                "Incorrect API key provided. A key of this service begins with 'trk_'."
            )
        read_at, key = self._known.get(salt, (0.0, None))
        if fresh or key is None or time.monotonic() - read_at > KNOWN_S:
            key = await self._read(salt, key)
        stored = _NOBODY if key is None else key.stored
        if not stored.matches(text) or key is None:
            raise InvalidKey("Incorrect API key provided.")
        if key.revoked:
            raise refusal(key, "revoked")
        if key.expires_at is not None and key.expires_at <= key.read_at:
            raise refusal(key, "expired")
        if key.suspended:
            raise refusal(key, "suspended")
        return key

    async def reread(self, key: Key) -> Key:
        """The same key as it is now; raises what `find` raises."""
        found = await self._read(key.stored.salt, None)
        if found is None:
            raise refusal(key)
        return found

    async def _read(self, salt: str, known: Key | None) -> Key | None:
        """What is known of a key; `known` is used where the database is away and that may be."""
        billing = self._section.billing
        try:
            key = await self._database.read(lambda one: read_key(one, salt, billing=billing))
        except Unavailable:
            if known is None or self._section.when_database_fails == "refuse":
                raise AccountsUnavailable from None
            return known
        if key is None:
            self._known.pop(salt, None)
            return None
        self._known[salt] = time.monotonic(), key
        self._known.move_to_end(salt)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return key
