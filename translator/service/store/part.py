"""The store's part in a turn: from what its request refers to, to its response."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from msgspec import Raw

from translator import Translation
from translator.request.store_context import StoreContext
from translator.service.base.errors import NotStored
from translator.service.config.store import StoreSection
from translator.service.observe.record import Record
from translator.wire.errors import TranslatorError
from translator.wire.responses import Response

from .keep import Draft
from .meter import StoreMeter, StoreResult
from .quota import fits
from .recall import Recalled
from .resends import Beginning

DAY_S = 86_400.0


class Storing(Protocol):
    """What a turn's part needs of the store."""

    limits: StoreSection
    meter: StoreMeter

    async def beginning(
        self, owner: str, source: Sequence[Raw | int], stored: Mapping[int, bytes]
    ) -> tuple[str | None, Beginning]:
        """The salt of digests, and how an input begins that names no response before."""
        ...

    async def store(self, draft: Draft, *, size: int, needs: bool) -> tuple[StoreResult, str]:
        """Store a response; returns what became of it, and why where it is not stored."""
        ...


class Part:
    """The store's part in one turn."""

    def __init__(
        self,
        store: Storing,
        owner: str,
        recalled: Recalled,
        context: StoreContext,
        earlier: Sequence[Raw] | None,
        *,
        needs: bool,
        record: Record,
    ) -> None:
        self._record = record
        self._store = store
        self._owner = owner
        self._parent = recalled.parent
        self._items = recalled.items if context.keeps else ()
        self._stored: Mapping[int, bytes] = recalled.stored if context.keeps else {}
        self._needs = needs
        self.context = context
        self.earlier = earlier

    def forget_earlier(self) -> None:
        self.earlier = None

    async def draft(self, response: Response) -> Draft:
        """The first rows of a response in the background: all but its output.

        One that is not to be stored is only to be polled, and has no items.
        """
        keeps = self.context.keeps
        salt, begins = await self._beginning() if keeps else (None, Beginning())
        source, self._items = self._items, ()
        return Draft(
            owner=self._owner,
            response=response,
            kept_output=(),
            source=source,
            parent=self._parent if keeps else None,
            keep_s=self._store.limits.retention_days * DAY_S,
            stored=self._stored,
            salt=salt,
            begins=begins,
        )

    async def end(self, translation: Translation) -> TranslatorError | None:
        """Store the final response; the error for the client where it must not seem complete.

        One in the background is stored by whoever produces it.
        """
        if not self.context.keeps or self.context.runs_in_background:
            return None
        limits = self._store.limits
        size = translation.held + sum(len(one) for one in self._items if isinstance(one, Raw))
        result: StoreResult = "too_large"
        why = f"over {limits.max_kept_response_bytes} bytes"
        if size <= limits.max_kept_response_bytes and not fits(limits, translation):
            why = f"an item over {limits.max_kept_item_bytes} bytes"
        elif size <= limits.max_kept_response_bytes:
            with waiting(self._record):
                salt, begins = await self._beginning()
            draft = Draft(
                owner=self._owner,
                response=translation.response,
                kept_output=translation.kept_output,
                source=self._items,
                parent=self._parent,
                keep_s=limits.retention_days * DAY_S,
                stored=self._stored,
                salt=salt,
                begins=begins,
            )
            with waiting(self._record):
                result, why = await self._store.store(draft, size=size, needs=self._needs)
        self._store.meter.response(result)
        self._record.not_stored = why
        return NotStored() if self._needs and result != "stored" else None

    async def _beginning(self) -> tuple[str | None, Beginning]:
        source = self._items if self._parent is None else ()
        return await self._store.beginning(self._owner, source, self._stored)

    async def leave(self, translation: Translation | None) -> None:
        """Nothing is stored of a response without its last event, and nothing is held for it."""


@contextmanager
def waiting(record: Record) -> Generator[None]:
    """Add the time of the context to what a request has waited for the store."""
    began = monotonic()
    try:
        yield
    finally:
        record.store_s = (record.store_s or 0.0) + monotonic() - began
