"""The store's part in one turn: what its request refers to, and a place for its response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

from msgspec import Raw
from msgspec.structs import replace

from translator import Translation
from translator.request.store_context import StoreContext
from translator.service.base.errors import NotStored
from translator.service.config.store import StoreSection
from translator.service.database.errors import Unavailable
from translator.service.database.writes import Write
from translator.service.observe.record import Record
from translator.wire.errors import TranslatorError
from translator.wire.items import OutputItem
from translator.wire.responses import Response

from .conversations import Conversations
from .durations import DAY_S, LATE_S
from .keep import Draft
from .meter import StoreMeter, StoreResult
from .places import Key, Place
from .quota import too_large, too_large_to_store
from .recall import Recalled
from .resends import Beginning


class Store(Protocol):
    """What a part needs of its store."""

    limits: StoreSection
    meter: StoreMeter
    conversations: Conversations

    async def beginning(
        self, owner: str, source: Sequence[Raw | int], stored: Mapping[int, bytes]
    ) -> tuple[str | None, Beginning]:
        """The salt of digests, and how an input begins that names no response before."""
        ...

    def submit(
        self, draft: Draft, *, size: int, keep_trying_s: float, place: Place | None = None
    ) -> Write[None]:
        """Have a response stored, at its place in a conversation; raises Unavailable."""
        ...

    async def store(
        self, draft: Draft, *, size: int, needs: bool, place: Place | None = None
    ) -> tuple[StoreResult, str]:
        """Store a response; returns what became of it, and why where it is not stored."""
        ...


class Part:
    """The store's part in one turn."""

    def __init__(
        self,
        store: Store,
        owner: str,
        recalled: Recalled,
        context: StoreContext,
        earlier: Sequence[Raw] | None,
        *,
        needs: bool,
        record: Record,
        logs: bool = False,
        at: tuple[Key, Place] | None = None,
    ) -> None:
        """`logs`: the events of a response in the background are stored: its client streams them.

        `at` is its conversation, and its place in it, where it holds the lock.
        """
        self._record = record
        self._store = store
        self._owner = owner
        self._parent = recalled.parent
        self._items = recalled.items if context.keeps else ()
        self._bodies: Mapping[int, bytes] = recalled.stored if context.keeps else {}
        self._needs = needs
        self._at = at
        self.context = context
        self.earlier = earlier
        self.logs = logs

    def forget_earlier(self) -> None:
        self.earlier = None

    async def draft(self, response: Response) -> Draft:
        """The first rows of a response in the background: all but its output.

        One that is not to be stored is only to be polled, and has no items.
        """
        if not self.context.keeps:
            return replace(self._draft(response, ()), parent=None)
        draft = self._draft(response, (), *await self._beginning())
        self._items = ()  # which are not held while it runs
        return draft

    @property
    def place(self) -> Place | None:
        """Its place in a conversation, where it holds the lock."""
        return None if self._at is None else self._at[1]

    def ended_in_background(self, result: StoreResult) -> None:
        """Of a response in the background, the end is stored, or nothing more is."""
        self._ended(result)
        if result != "stored":
            self._record.not_stored = "its process lost it"

    def _ended(self, result: StoreResult) -> None:
        if result != "stored":
            self._release()
        elif self.place is not None:
            self._store.conversations.released(self.place)
        self._store.meter.response(result)

    async def end(self, translation: Translation) -> TranslatorError | None:
        """Store the final response; the error for the client where it must not seem complete.

        One in the background is stored by whoever produces it.
        """
        if not self.context.keeps or self.context.runs_in_background:
            return None
        result: StoreResult = "failed"
        try:
            result, why = await self._stored(translation)
        finally:
            self._ended(result)
        self._record.not_stored = why
        if not self._needs or result == "stored":
            return None
        return too_large_to_store(why) if result == "too_large" else NotStored()

    async def _stored(self, translation: Translation) -> tuple[StoreResult, str]:
        """What became of the final response, and why where it is not stored."""
        kept, size = translation.kept_output, self._source_bytes()
        held = translation.held
        why = too_large(self._store.limits, held, size, kept)
        if why is not None:
            return "too_large", why
        size += held
        with WaitTime(self._record):
            salt, begins = await self._beginning()
            draft = self._draft(translation.response, kept, salt, begins)
            return await self._store.store(draft, size=size, needs=self._needs, place=self.place)

    def _source_bytes(self) -> int:
        """The bytes of its own input."""
        return sum([len(one) for one in self._items if isinstance(one, Raw)])

    async def _beginning(self) -> tuple[str | None, Beginning]:
        """The salt of digests, and how the input begins.

        What a conversation had before it is not in its digest, so it has none.
        """
        if self._at is not None:
            return None, Beginning()
        source = self._items if self._parent is None else ()
        return await self._store.beginning(self._owner, source, self._bodies)

    def _draft(
        self,
        response: Response,
        kept_output: Sequence[OutputItem],
        salt: str | None = None,
        begins: Beginning = Beginning(),  # noqa: B008 - frozen
    ) -> Draft:
        return Draft(
            owner=self._owner,
            response=response,
            kept_output=[*kept_output],
            source=self._items,
            parent=self._parent,
            keep_s=self._store.limits.retention_days * DAY_S,
            stored=self._bodies,
            salt=salt,
            begins=begins,
        )

    def _release(self) -> Write[None] | None:
        """Release the lock of the conversation, if there is one; what may be waited for."""
        return None if self._at is None else self._store.conversations.release(*self._at)

    async def leave(self, translation: Translation | None) -> None:
        """Store the whole items of a stream that was left, as those of a cancelled response."""
        write = None
        began = translation is not None and (translation.produced or translation.has_run)
        if translation is not None and self.context.keeps and began:
            write = self._keep_cancelled(translation)
        write = write or self._release()
        if write is not None:
            with suppress(Unavailable, TimeoutError):
                await write.done(self._store.limits.write_wait_s)

    def _keep_cancelled(self, translation: Translation) -> Write[None] | None:
        """Have it stored, which nobody waits for; None where there is nothing of it to store."""
        translation.start()  # an approved call has run before it
        translation.seal_results()  # which tells nobody: the client has gone
        response, kept = translation.response, translation.kept_output
        held, size = translation.held, self._source_bytes()
        if (
            translation.finished
            or not (translation.request.stream and response.output)
            or too_large(self._store.limits, held, size, kept) is not None
        ):
            return None
        draft = self._draft(replace(response, status="cancelled"), kept)
        with suppress(Unavailable):
            write = self._store.submit(
                draft, size=held + size, keep_trying_s=LATE_S, place=self.place
            )
            if self.place is not None:
                self._store.conversations.released(self.place)
            self._store.meter.response("late")
            return write
        return None


class WaitTime:
    """Adds the time of a context to what a request has waited for the store."""

    __slots__ = ("_began", "_record")

    def __init__(self, record: Record) -> None:
        self._record = record

    def __enter__(self) -> None:
        self._began = monotonic()

    def __exit__(self, *error: object) -> None:
        self._record.store_s = (self._record.store_s or 0.0) + monotonic() - self._began
