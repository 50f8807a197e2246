"""Conversations: what the turns and the endpoints use of them.

    lock ──► a place ──► release          in a turn; the commit of its response releases it, too
    create, find, … remove                by id

The lock is a lease by the database's time, which is renewed as long as the turn runs: of a process
that is gone, it ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TypeVar

import msgspec
from msgspec import Raw

from translator.request.references import reference_of
from translator.service.base.errors import ConversationLocked, StoreQuotaExceeded, StoreUnavailable
from translator.service.base.ids import NewId, random_id
from translator.service.config.store import StoreSection
from translator.service.database.connection import Connection, Row
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.service.database.writes import Write
from translator.wire.errors import NotFound

from . import conversation_rows as rows
from .admission import Admission
from .conversation_rows import Full, Locked, Shown
from .durations import DAY_S, LATE_S
from .meter import StoreMeter
from .owners import TooMuch
from .pages import AfterUnknown, ItemList, Page
from .places import Key, Missing, Place
from .quota import check_items

T = TypeVar("T")

log = logging.getLogger(__name__)


def not_found(conversation_id: str, param: str | None = None) -> NotFound:
    """The error for a conversation that its client does not have."""
    return NotFound(f"Conversation with id '{conversation_id[:200]}' not found.", param=param)


def item_not_found(item_id: str, param: str | None = None) -> NotFound:
    """The error for an item that a conversation, or its client, does not have."""
    return NotFound(f"Item with id '{item_id[:200]}' not found.", param=param)


class Conversations:
    """The conversations of a store."""

    def __init__(
        self,
        database: Database,
        limits: StoreSection,
        new_id: NewId,
        meter: StoreMeter,
        admission: Admission,
    ) -> None:
        self._meter = meter
        self._admission = admission
        self._database = database
        self._limits = limits
        self._new_id = new_id
        self.keep_s = limits.conversation_days * DAY_S
        """How long a conversation is kept after a change, in seconds; 0: for ever."""
        self._held: dict[str, int] = {}  # the keys of locked conversations by their tokens
        self._renewing: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Stop renewing locks."""
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing

    def key(self, owner: str, conversation_id: str) -> Key:
        """What names a conversation in the database."""
        return Key(owner, conversation_id, self.keep_s)

    # --- turns ----------------------------------------------------------------------------------

    async def lock(self, key: Key) -> Place:
        """The end of a conversation, which nobody else changes until it is released.

        Raises NotFound, ConversationLocked and StoreUnavailable.
        """
        token, wait_s = random_id(""), self._limits.read_wait_s
        release = partial(rows.unlock, key=key, token=token)
        try:
            write = self._database.write(
                partial(rows.lock, key=key, token=token, lease_s=self._limits.lease_s),
                size=0,
                keep_trying_s=wait_s,
                durable=False,
                undo=release,
            )
            try:
                found = await write.done(wait_s)
            except TimeoutError:
                if await write.give_up(wait_s):
                    raise Unavailable("the lock takes too long") from None
                found = await write.done(wait_s)
            except asyncio.CancelledError:
                self._release(key, token)
                raise
        except (Unavailable, TimeoutError):
            raise StoreUnavailable from None
        if isinstance(found, Missing):
            raise not_found(key.id, "conversation")
        if isinstance(found, Locked):
            self._meter.locked()
            raise ConversationLocked
        self._held[token] = found.n
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        return found

    def release(self, key: Key, place: Place) -> Write[None] | None:
        """Release the lock of a place, if there is one; what may be waited for."""
        self.released(place)
        return self._release(key, place.token) if place.token else None

    def released(self, place: Place) -> None:
        """The lock of a place is released by the commit that ends its turn."""
        self._held.pop(place.token, None)

    def _release(self, key: Key, token: str) -> Write[None] | None:
        with suppress(Unavailable):  # then it ends by itself
            return self._database.write(
                partial(rows.unlock, key=key, token=token),
                size=0,
                keep_trying_s=self._limits.lease_s,
                durable=False,
            )
        return None

    async def _renew(self) -> None:
        """Renew the locks of this process, as long as there are any."""
        lease_s = self._limits.lease_s
        while True:
            await asyncio.sleep(lease_s / 3)
            if not self._held:
                return
            values = {
                "keys": rows.listed_keys(list(self._held.values())),
                "tokens": msgspec.json.encode(list(self._held)).decode(),
                "lease_s": lease_s,
            }
            try:
                write = self._database.write(
                    partial(rows.renew, values=values),
                    size=0,
                    keep_trying_s=lease_s / 3,
                    durable=False,
                )
                await write.done(lease_s / 3)
            except (Unavailable, TimeoutError) as error:
                log.warning("store: the locks of conversations were not renewed: %s", error)

    # --- by id ----------------------------------------------------------------------------------

    async def create(self, owner: str, metadata: Mapping[str, str], items: Sequence[Raw]) -> Shown:
        """Create a conversation with its first items.

        Raises NotFound, StoreQuotaExceeded and StoreUnavailable.
        """
        key = self.key(owner, self._new_id("conv_"))
        check_items(self._limits, items)
        if len(items) > self._limits.max_conversation_items:
            raise too_many(self._limits.max_conversation_items, "items")
        source = await self._resolved(key, items)
        encoded = msgspec.json.encode(metadata)
        new_ids, most = self._new_ids(items), self._limits.max_client_bytes
        return await self._write_more(
            lambda connection: rows.create(connection, key, encoded, source, new_ids(), most),
            len(encoded) + sum(map(len, items)),
            "items" if items else "metadata",
        )

    async def find(self, owner: str, conversation_id: str) -> Shown:
        """A conversation; raises NotFound and StoreUnavailable."""
        found = await self._read(partial(rows.find, key=self.key(owner, conversation_id)))
        return _found(found, conversation_id)

    async def set_metadata(
        self, owner: str, conversation_id: str, metadata: Mapping[str, str]
    ) -> Shown:
        """Replace the metadata of a conversation.

        Raises NotFound, StoreQuotaExceeded and StoreUnavailable.
        """
        key, encoded = self.key(owner, conversation_id), msgspec.json.encode(metadata)
        most = self._limits.max_client_bytes
        found = await self._write_more(
            lambda connection: rows.set_metadata(connection, key, encoded, most),
            len(encoded),
            "metadata",
        )
        return _found(found, conversation_id)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation; raises NotFound and StoreUnavailable."""
        if not await self._write(partial(rows.delete, key=self.key(owner, conversation_id))):
            raise not_found(conversation_id)

    async def add(self, owner: str, conversation_id: str, items: Sequence[Raw]) -> ItemList:
        """Append items; the list of them, as they are stored.

        Raises NotFound, StoreQuotaExceeded, ConversationLocked and StoreUnavailable.
        """
        key, limit = self.key(owner, conversation_id), self._limits.max_conversation_items
        check_items(self._limits, items)
        source = await self._resolved(key, items)
        new_ids, most = self._new_ids(items), self._limits.max_client_bytes
        found: list[Row] | Missing | Locked | Full = await self._write_more(
            lambda connection: rows.add(connection, key, source, new_ids(), limit, most),
            sum(map(len, items)),
        )
        if isinstance(found, Full):
            raise too_many(limit, "items")
        return rows.listed(_unlocked(found, conversation_id))

    async def items(self, owner: str, conversation_id: str, page: Page) -> ItemList:
        """A page of items; raises NotFound, AfterUnknown and StoreUnavailable."""
        found = await self._read(
            partial(rows.page, key=self.key(owner, conversation_id), wanted=page)
        )
        if isinstance(found, AfterUnknown):
            raise found
        return _found(found, conversation_id)

    async def item(self, owner: str, conversation_id: str, item_id: str) -> Raw:
        """An item; raises NotFound and StoreUnavailable."""
        found = await self._read(
            partial(rows.item, key=self.key(owner, conversation_id), item_id=item_id)
        )
        if isinstance(found, Missing):
            raise item_not_found(item_id)
        return _found(found, conversation_id)

    async def remove(self, owner: str, conversation_id: str, item_id: str) -> Shown:
        """Remove an item; the conversation.

        Raises NotFound, ConversationLocked and StoreUnavailable.
        """
        found = await self._write(
            partial(rows.remove, key=self.key(owner, conversation_id), item_id=item_id)
        )
        if isinstance(found, Missing):
            raise item_not_found(item_id)
        if isinstance(found, Locked):
            raise ConversationLocked
        return _found(found, conversation_id)

    async def sweep(self) -> int:
        """Delete some of what no conversation has any more; 0 where there is nothing.

        Raises Unavailable and TimeoutError.
        """
        write = self._database.write(
            partial(rows.sweep, keep_s=self.keep_s), size=0, keep_trying_s=LATE_S, durable=False
        )
        return await write.done(LATE_S)

    # --- inside ---------------------------------------------------------------------------------

    async def _resolved(self, key: Key, items: Sequence[Raw]) -> list[Raw | int]:
        """The items, references as the keys of what they name; raises NotFound."""
        ids = [reference_of(one) for one in items]
        wanted = [one for one in ids if one is not None]
        if not wanted:
            return [*items]
        keys = await self._read(partial(rows.references, key=key, ids=wanted))
        for index, one in enumerate(ids):
            if one is not None and one not in keys:
                raise item_not_found(one, f"items[{index}].id")
        return [raw if one is None else keys[one] for raw, one in zip(items, ids, strict=True)]

    def _new_ids(self, items: Sequence[Raw]) -> Callable[[], Callable[[str], str]]:
        """Sources of the same new ids, for work that may be done twice."""
        ends = [self._new_id("") for _ in range(2 * len(items))]

        def source() -> Callable[[str], str]:
            places = count()
            return lambda prefix: prefix + ends[next(places)]

        return source

    async def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._database.read(work)
        except Unavailable:
            raise StoreUnavailable from None

    async def _write_more(
        self, work: Callable[[Connection], T | TooMuch], size: int, param: str = "items"
    ) -> T:
        """What a write returns that needs room for some bytes; a sweep may make it.

        Raises StoreQuotaExceeded and StoreUnavailable.
        """
        await self._admission.check_space()
        found = await self._write(work, size)
        if isinstance(found, TooMuch) and await self._admission.make_room():
            found = await self._write(work, size)
        if isinstance(found, TooMuch):
            limit = self._limits.max_client_bytes
            raise StoreQuotaExceeded(
                f"All of a client may have {limit} bytes. Delete conversations or responses.", param
            )
        return found

    async def _write(self, work: Callable[[Connection], T], size: int = 0) -> T:
        """What a write returns; raises StoreUnavailable."""
        wait_s = self._limits.write_wait_s
        try:
            write = self._database.write(
                work, size=size, keep_trying_s=wait_s, undo=lambda connection: None
            )
            with suppress(TimeoutError):
                return await write.done(wait_s)
            if await write.give_up(wait_s):
                raise StoreUnavailable
            return await write.done(wait_s)
        except (Unavailable, TimeoutError):
            raise StoreUnavailable from None


def too_many(limit: int, param: str) -> StoreQuotaExceeded:
    """The error for more items than a conversation may have."""
    return StoreQuotaExceeded(f"A conversation has at most {limit} items.", param)


def _found(found: T | None, conversation_id: str) -> T:
    if found is None:
        raise not_found(conversation_id)
    return found


def _unlocked(found: T | Missing | Locked, conversation_id: str) -> T:
    if isinstance(found, Missing):
        raise not_found(conversation_id)
    if isinstance(found, Locked):
        raise ConversationLocked
    return found
