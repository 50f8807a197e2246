"""Stored responses: what the turns and the endpoints use of the store.

    begin ──► a turn's part ──► end         one read, where the request refers to something;
                                            one write, before the last event is sent
    response, delete, input_items           by id

Every query names the owner: what belongs to another client is found as little as what is not there.
A request that needs the store fails when the store does; one that only did not say `store: false`
is answered all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator import Translation
from translator.request.store_context import StoreContext
from translator.service.base.errors import NotStored, StoreUnavailable
from translator.service.base.ids import NewId
from translator.service.config.store import Store
from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.service.database.statement import DatabaseTime
from translator.service.observe.context import RequestContext
from translator.service.observe.record import Record
from translator.wire.errors import InvalidRequest, TranslatorError
from translator.wire.notices import Notice
from translator.wire.responses import Request

from . import statements as sql
from .keep import Draft, delete, keep, undo
from .meter import NullStoreMeter, StoreMeter, StoreResult
from .recall import ContextTooLarge, ParentMissing, Recalled, may_refer, recall
from .room import ROOM
from .shown import item_resource
from .sweep import step

T = TypeVar("T")

LATE_S = 60.0
"""How long it is tried to store what nobody waits for any more, in seconds."""

DAY_S = 86_400.0


class Page(Struct, frozen=True):
    """Which items of a list are asked for; `after` is the id of the one before them."""

    limit: int
    ascending: bool
    after: str | None


class ItemList(Struct, frozen=True):
    """A page of items."""

    data: list[Raw]
    first_id: str
    last_id: str
    has_more: bool
    object: str = "list"


class AfterUnknown(Exception):
    """The list has no item with the id that a page is to begin after."""


class StoredResponses:
    """The store of a process. `open` and `aclose` frame its use."""

    def __init__(
        self,
        settings: Store,
        *,
        max_context_bytes: int,
        new_id: NewId,
        time: DatabaseTime | None,
        meter: StoreMeter | None = None,
    ) -> None:
        """`max_context_bytes` bounds what a request goes on from; `time` is for tests.

        `meter` counts what is done.
        """
        self.limits = settings.limits
        self.meter = meter or NullStoreMeter()
        self.new_id = new_id
        self._max_context_bytes = max_context_bytes
        self._salt: bytes | None = None
        self._database = Database(
            settings.location,
            ROOM,
            max_queue_bytes=self.limits.max_queue_bytes,
            max_file_bytes=self.limits.max_store_bytes,
            read_wait_s=self.limits.read_wait_s,
            time=time,
            meter=self.meter,
        )

    def open(self) -> None:
        """Start the threads of the database."""
        self._database.open()

    async def aclose(self) -> None:
        """Write what waits, and release the database."""
        await self._database.aclose()

    @property
    def failing(self) -> bool:
        """Whether nothing can be written now, as far as is known."""
        return self._database.failing

    async def probe(self) -> None:
        """Read something small; raises StoreUnavailable."""
        await self._read(lambda one: one.execute(sql.SALT))

    async def owner(self, context: RequestContext, authorization: str | None) -> str:
        """To whom what a request stores belongs: its client in the settings, else its key.

        Of the key there is a digest with the salt of the database. Without a key it is everybody.
        Raises StoreUnavailable.
        """
        if context.client is not None:
            return context.client.owner
        if not authorization:
            return ""
        if self._salt is None:
            self._salt = bytes.fromhex(await self._read(lambda one: one.execute(sql.SALT)[0][0]))
        digest = hashlib.blake2b(authorization.encode(), key=self._salt, digest_size=16)
        return f"key:{digest.hexdigest()}"

    # --- turns ----------------------------------------------------------------------------------

    async def begin(
        self,
        context: RequestContext,
        request: Request,
        *,
        authorization: str | None,
        earlier: Sequence[Raw] | None,
        keeps: bool,
    ) -> Part | None:
        """The store's part in a turn, as `turns.keeping` describes it."""
        source = request.input if isinstance(request.input, list) else []
        keeps = keeps and request.store is not False
        parent_id = request.previous_response_id if earlier is None else None
        if parent_id == "":
            raise InvalidRequest(
                "Invalid 'previous_response_id': it is empty.",
                param="previous_response_id",
                code="invalid_value",
            )
        refers = may_refer(source)
        if not keeps and parent_id is None and not refers:
            return None
        needs = parent_id is not None or refers or request.store is True
        recalled = Recalled(None, None, {}, {}, source)
        with waiting(context.record):
            owner = await self._owner_for(context, authorization, needs=needs)
            if parent_id is not None or refers:
                recalled = await self._recall(owner or "", parent_id, source)
        if isinstance(request.input, str):
            message = {"type": "message", "role": "user", "content": request.input}
            recalled = replace(recalled, items=[Raw(msgspec.json.encode(message))])
        why = None
        if keeps:
            why = self._why_not(owner, recalled, needs=needs, follows=earlier is not None)
        store_context = StoreContext(
            keeps=keeps and why is None,
            resolved=recalled.resolved,
            duplicates=recalled.duplicates,
            notices=() if why is None else (why,),
        )
        found = recalled.earlier if earlier is None else earlier
        return Part(
            self, owner or "", recalled, store_context, found, needs=needs, record=context.record
        )

    async def _owner_for(
        self, context: RequestContext, authorization: str | None, *, needs: bool
    ) -> str | None:
        """The owner; None where it cannot be told, and the request does not need the store."""
        try:
            return await self.owner(context, authorization)
        except StoreUnavailable:
            if needs:
                raise
            return None

    def _why_not(
        self, owner: str | None, recalled: Recalled, *, needs: bool, follows: bool
    ) -> Notice | None:
        """Why a response is not stored though it was asked for, or not forbidden.

        `follows`: it goes on from a response that must not be stored. Raises InvalidRequest.
        """
        if follows:
            what = "It goes on from a response that is not stored, so it is not stored either."
            return Notice("store", "store_ignored", what)
        limit = self.limits.max_kept_response_bytes
        if sum(len(one) for one in recalled.items if isinstance(one, Raw)) > limit:
            what = f"The input is over {limit} bytes, so the response is not stored."
            self.meter.response("too_large")
            if needs:
                raise InvalidRequest(
                    f"{what} Send the request with `store` set to false.",
                    param="input",
                    code="store_quota_exceeded",
                )
            return Notice("store", "store_quota_exceeded", what)
        if owner is None or (self.failing and not needs):
            what = "Responses cannot be stored now."
            self.meter.response("unavailable")
            return Notice("store", "store_unavailable", what)
        return None

    async def _recall(self, owner: str, parent_id: str | None, source: Sequence[Raw]) -> Recalled:
        def work(connection: Connection) -> Recalled | ParentMissing | ContextTooLarge:
            try:
                return recall(
                    connection,
                    owner,
                    parent_id,
                    source,
                    max_chain=self.limits.max_chain_responses,
                    max_bytes=self._max_context_bytes,
                )
            except (ParentMissing, ContextTooLarge) as error:
                return error

        found = await self._read(work)
        if isinstance(found, ParentMissing):
            raise InvalidRequest(
                f"Previous response with id '{parent_id}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if isinstance(found, ContextTooLarge):
            raise InvalidRequest(
                f"Previous response with id '{parent_id}' cannot be continued: {found}.",
                param="previous_response_id",
                code="context_length_exceeded",
            )
        return found

    async def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._database.read(work)
        except Unavailable:
            raise StoreUnavailable from None

    async def store(self, draft: Draft, *, size: int, needs: bool) -> tuple[StoreResult, str]:
        """Store a response; returns what became of it, and why where it is not stored.

        Where it is not needed, it is tried for LATE_S in all. Where it is, nothing remains of it.
        """
        wait_s = self.limits.write_wait_s
        owner, response_id = draft.owner, draft.response.id
        try:
            write = self._database.write(
                lambda connection: keep(connection, draft, self.new_id),
                size=size,
                keep_trying_s=wait_s if needs else LATE_S,
                undo=lambda connection: undo(connection, owner, response_id),
            )
        except Unavailable as error:
            return "failed", str(error)
        try:
            await write.done(wait_s)
        except Unavailable as error:
            return "failed", str(error)
        except TimeoutError:
            if not needs:
                return "late", "not yet stored"
            if await write.give_up(wait_s):
                return "failed", f"not stored within {wait_s:g} s"
        return "stored", ""

    # --- by id ------------------------------------------------------------------------------------

    async def response(self, owner: str, response_id: str) -> bytes | None:
        """A response as JSON; None where it is not found. Raises StoreUnavailable."""

        def work(connection: Connection) -> tuple[bytes, list[bytes]] | None:
            rows = connection.execute(sql.RESPONSE, {"owner": owner, "id": response_id})
            if not rows:
                return None
            values = {"n": rows[0][0]}
            [(body,)] = connection.execute(sql.BODY, values)
            return body, [one for (one,) in connection.execute(sql.OUTPUT, values)]

        found = await self._read(work)
        if found is None:
            return None
        body, output = found
        fields = msgspec.json.decode(body, type=dict[str, Raw])
        fields["output"] = Raw(b"[%b]" % b",".join(output))
        return msgspec.json.encode(fields)

    async def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response; False where it is not found. Raises StoreUnavailable."""
        wait_s = self.limits.write_wait_s
        try:
            write = self._database.write(
                lambda connection: delete(connection, owner, response_id),
                size=0,
                keep_trying_s=wait_s,
            )
            return await write.done(wait_s)
        except (Unavailable, TimeoutError):
            raise StoreUnavailable from None

    async def input_items(self, owner: str, response_id: str, page: Page) -> ItemList | None:
        """The items that a response saw; None where it is not found.

        Raises AfterUnknown and StoreUnavailable.
        """

        def work(connection: Connection) -> ItemList | AfterUnknown | None:
            rows = connection.execute(sql.RESPONSE, {"owner": owner, "id": response_id})
            if not rows:
                return None
            listed = connection.execute(sql.CHAIN_IDS, {"n": rows[0][0]})
            return _page(connection, [(n, one) for n, one in listed], page)

        found = await self._read(work)
        if isinstance(found, AfterUnknown):
            raise found
        return found

    # --- upkeep -----------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Delete some of what has expired; returns how much, 0 for nothing. Raises Unavailable."""
        write = self._database.write(step, size=0, keep_trying_s=LATE_S, durable=False)
        try:
            rows = await write.done(LATE_S)
        except TimeoutError:
            raise Unavailable("the sweep takes too long") from None
        self.meter.swept(rows)
        return rows

    async def measure(self) -> None:
        """Tell the meter how large the store is; raises Unavailable."""
        [(size,)] = await self._database.read(lambda one: one.execute(sql.SIZE))
        self.meter.size(int(size))


def _page(
    connection: Connection, listed: list[tuple[int, str]], page: Page
) -> ItemList | AfterUnknown:
    if not page.ascending:
        listed.reverse()
    start = 0
    if page.after is not None:
        places = [index for index, (_, item_id) in enumerate(listed) if item_id == page.after]
        if not places:
            return AfterUnknown()
        start = places[0] + 1
    some = listed[start : start + page.limit]
    keys = msgspec.json.encode([n for n, _ in some]).decode()
    bodies = {n: body for n, _, body in connection.execute(sql.ITEM_BODIES, {"ids": keys})}
    return ItemList(
        data=[item_resource(item_id, bodies[n]) for n, item_id in some],
        first_id=some[0][1] if some else "",
        last_id=some[-1][1] if some else "",
        has_more=start + page.limit < len(listed),
    )


class Part:
    """The store's part in one turn."""

    def __init__(
        self,
        store: StoredResponses,
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
        self._needs = needs
        self.context = context
        self.earlier = earlier

    def forget_earlier(self) -> None:
        self.earlier = None

    async def end(self, translation: Translation) -> TranslatorError | None:
        """Store the final response; the error for the client where it must not seem complete."""
        if not self.context.keeps:
            return None
        limits = self._store.limits
        size = translation.held + sum(len(one) for one in self._items if isinstance(one, Raw))
        result: StoreResult = "too_large"
        why = f"over {limits.max_kept_response_bytes} bytes"
        if size <= limits.max_kept_response_bytes:
            draft = Draft(
                owner=self._owner,
                response=translation.response,
                kept_output=translation.kept_output,
                source=self._items,
                parent=self._parent,
                keep_s=limits.retention_days * DAY_S,
            )
            with waiting(self._record):
                result, why = await self._store.store(draft, size=size, needs=self._needs)
        self._store.meter.response(result)
        self._record.not_stored = why
        return NotStored() if self._needs and result != "stored" else None

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
