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
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from translator.request.store_context import StoreContext
from translator.service.base.errors import StoreUnavailable
from translator.service.base.ids import NewId
from translator.service.config.store import Store
from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.service.database.statement import DatabaseTime
from translator.service.database.writes import Write
from translator.service.observe.context import RequestContext
from translator.service.observe.record import Record
from translator.wire.errors import InvalidRequest
from translator.wire.responses import Request

from . import statements as sql
from .admission import Admission
from .background import BackgroundRuns, Found, find
from .conversation_rows import keep_at, undo_at
from .conversations import Conversations, not_found, too_many
from .durations import LATE_S
from .keep import Draft, keep
from .meter import NullStoreMeter, StoreMeter, StoreResult
from .missing_results import may_lack_results
from .named_conversation import named_conversation
from .pages import AfterUnknown, ItemList, Page, page_of
from .part import Part, WaitTime
from .places import Key, Missing, Place
from .recall import (
    ContextTooLarge,
    ParentMissing,
    Recalled,
    find_chain,
    may_refer,
    parent_missing,
    recall,
    too_large,
    with_message,
)
from .removal import delete, undo
from .resends import Beginning, beginning
from .room import ROOM
from .shown import raw_fields
from .sweep import sweep

T = TypeVar("T")


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
        prepared: bool = False,
    ) -> None:
        """`max_context_bytes` bounds what a request goes on from; `time` is for tests.

        `meter` counts what is done; `prepared` is as in `Database`.
        """
        self.limits = settings.limits
        self.meter = meter or NullStoreMeter()
        self.new_id = new_id
        self._max_context_bytes = max_context_bytes
        self._salt: str | None = None
        self._database = Database(
            settings.location,
            ROOM,
            max_queue_bytes=self.limits.max_queue_bytes,
            max_file_bytes=self.limits.max_store_bytes,
            read_wait_s=self.limits.read_wait_s,
            make_space=self._sweep_step,
            prepared=prepared,
            time=time,
            meter=self.meter,
        )
        self.admission = Admission(self._database, self.limits, self.meter, self.sweep)
        self.runs = BackgroundRuns(self._database, self.limits, new_id, self.meter)
        self.conversations = Conversations(
            self._database, self.limits, new_id, self.meter, self.admission
        )

    def open(self) -> None:
        """Start the threads of the database."""
        self._database.open()

    async def aclose(self) -> None:
        """Write what waits, and release the database."""
        await self.conversations.aclose()
        await self.admission.aclose()
        await self._database.aclose()

    @property
    def failing(self) -> bool:
        """Whether nothing can be written now, as far as is known."""
        return self._database.failing

    async def probe(self) -> None:
        """Read something small; raises StoreUnavailable."""
        await self.read(lambda one: one.execute(sql.SALT))

    async def owner(self, context: RequestContext, authorization: str | None) -> str:
        """To whom what a request stores belongs: its client in the settings, else its key.

        Of the key there is a digest with the salt of the database. Without a key it is everybody.
        Raises StoreUnavailable.
        """
        if context.client is not None:
            return context.client.owner
        if not authorization:
            return ""
        salt = bytes.fromhex(await self.salt())
        digest = hashlib.blake2b(authorization.encode(), key=salt, digest_size=16)
        return f"key:{digest.hexdigest()}"

    async def salt(self) -> str:
        """The salt of the database, in hexadecimal; raises StoreUnavailable."""
        if self._salt is None:
            self._salt = str(await self.read(lambda one: one.execute(sql.SALT)[0][0]))
        return self._salt

    # --- turns ----------------------------------------------------------------------------------

    async def begin(
        self,
        context: RequestContext,
        request: Request,
        *,
        authorization: str | None,
        earlier: Sequence[Raw] | None,
        keeps: bool,
        may_run: bool = False,
    ) -> Part | None:
        """The store's part in a turn, as `turns.keeping` describes it."""
        source = request.input if isinstance(request.input, list) else []
        if keeps and request.background and not may_run:
            raise InvalidRequest(
                "No response runs in the background for a request over a WebSocket: send it with"
                " POST /v1/responses, or without 'background'.",
                param="background",
                code="unsupported_value",
            )
        keeps = keeps and request.store is not False
        parent_id = request.previous_response_id if earlier is None else None
        if parent_id == "":
            raise InvalidRequest(
                "Invalid 'previous_response_id': it is empty.",
                param="previous_response_id",
                code="invalid_value",
            )
        conversation = named_conversation(request)
        refers = may_refer(source)
        runs = may_run and request.background is True
        names = parent_id is not None or conversation is not None
        if not keeps and not names and not refers and not runs:
            return None
        needs = names or refers or runs or request.store is True
        if needs and (keeps or runs):
            await self.admission.check_space(of_response=True)
        recalled = Recalled(None, None, {}, {}, {}, source)
        with WaitTime(context.record):
            owner = await self._owner_for(context, authorization, needs=needs)
            if conversation is not None:
                return await self._begin_in(
                    owner or "",
                    conversation,
                    request,
                    keeps=keeps,
                    runs=runs,
                    record=context.record,
                )
            limited = keeps and owner is not None and self.limits.max_client_bytes > 0
            lacks = keeps and owner is not None and may_lack_results(source)
            if parent_id is not None or refers or limited or lacks:
                try:
                    recalled = await self._recall(owner or "", parent_id, source, limited=limited)
                except StoreUnavailable:
                    if needs:
                        raise
                    owner = None  # so it is not stored, with a notice
        recalled = with_message(recalled, request)
        why = None
        if keeps:
            why = await self.admission.why_not(
                owner, recalled, needs=needs, follows=earlier is not None
            )
        store_context = StoreContext(
            keeps=keeps and why is None,
            runs_in_background=runs,
            resolved=recalled.resolved,
            duplicates=recalled.duplicates,
            completed=recalled.completed,
            max_item_bytes=self.limits.max_kept_item_bytes,
            notices=() if why is None else (why,),
        )
        found = recalled.earlier if earlier is None else earlier
        return Part(
            *(self, owner or "", recalled, store_context, found),
            needs=needs,
            record=context.record,
            logs=bool(request.stream),
        )

    async def _begin_in(
        self,
        owner: str,
        conversation_id: str,
        request: Request,
        *,
        keeps: bool,
        runs: bool,
        record: Record,
    ) -> Part:
        """The part in a turn that goes on from a conversation, whose lock it takes to be stored.

        Raises NotFound, ConversationLocked, InvalidRequest and StoreUnavailable.
        """
        key = self.conversations.key(owner, conversation_id)
        place = await self.conversations.lock(key) if keeps else None
        try:
            source = request.input if isinstance(request.input, list) else []
            limited = keeps and self.limits.max_client_bytes > 0
            recalled = await self._recall(
                owner, None, source, conversation=place or key, limited=limited
            )
            recalled = with_message(recalled, request)
            assert recalled.earlier is not None, "a conversation that is found has a context"
            limit = self.limits.max_conversation_items
            if keeps and len(recalled.earlier) + len(recalled.items) > limit:
                raise too_many(limit, "conversation")
            if keeps:
                await self.admission.why_not(owner, recalled, needs=True, follows=False)
        except BaseException:
            if place is not None:
                self.conversations.release(key, place)
            raise
        context = StoreContext(
            keeps=keeps,
            runs_in_background=runs,
            conversation=conversation_id,
            resolved=recalled.resolved,
            duplicates=recalled.duplicates,
            completed=recalled.completed,
            max_item_bytes=self.limits.max_kept_item_bytes,
        )
        at = None if place is None else (key, place)
        return Part(
            *(self, owner, recalled, context, recalled.earlier),
            needs=True,
            record=record,
            logs=bool(request.stream),
            at=at,
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

    async def _recall(
        self,
        owner: str,
        parent_id: str | None,
        source: Sequence[Raw],
        *,
        conversation: Key | Place | None = None,
        limited: bool = False,
    ) -> Recalled:
        def work(connection: Connection) -> Recalled | ParentMissing | ContextTooLarge | Missing:
            try:
                return recall(
                    connection,
                    owner,
                    parent_id,
                    source,
                    max_chain=self.limits.max_chain_responses,
                    max_bytes=self._max_context_bytes,
                    with_used=limited,
                    conversation=conversation,
                    conversation_s=self.conversations.keep_s,
                )
            except (ParentMissing, ContextTooLarge, Missing) as error:
                return error

        found = await self.read(work)
        if isinstance(found, Missing):
            assert isinstance(conversation, Key), "a conversation that is locked is there"
            raise not_found(conversation.id, "conversation")
        if isinstance(found, ParentMissing):
            raise parent_missing(parent_id, found)
        if isinstance(found, ContextTooLarge):
            raise too_large(found, parent_id)
        return found

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What some work reads; raises StoreUnavailable."""
        try:
            return await self._database.read(work)
        except Unavailable:
            raise StoreUnavailable from None

    async def beginning(
        self, owner: str, source: Sequence[Raw | int], stored: Mapping[int, bytes]
    ) -> tuple[str | None, Beginning]:
        """The salt of digests, None for none, and how an input begins that names no response."""
        if self.limits.delete_context:  # all that a response has is its own
            return None, Beginning()
        try:
            salt = await self.salt()
            if len(source) < 2:  # it has nothing before its own
                return salt, Beginning()
            return salt, await self.read(
                lambda connection: beginning(connection, owner, salt, source, stored)
            )
        except StoreUnavailable:
            return None, Beginning()

    def submit(
        self, draft: Draft, *, size: int, keep_trying_s: float, place: Place | None = None
    ) -> Write[None]:
        """Have a response stored, at its place in a conversation; raises Unavailable."""
        owner, response_id = draft.owner, draft.response.id

        def work(connection: Connection) -> None:
            if place is None:
                keep(connection, draft, self.new_id)
            else:
                keep_at(connection, draft, place, self.new_id)

        def reverse(connection: Connection) -> None:
            (undo if place is None else undo_at)(connection, owner, response_id)

        return self._database.write(work, size=size, keep_trying_s=keep_trying_s, undo=reverse)

    async def store(
        self, draft: Draft, *, size: int, needs: bool, place: Place | None = None
    ) -> tuple[StoreResult, str]:
        """Store a response; returns what became of it, and why where it is not stored.

        Where it is not needed, it is tried for LATE_S in all. Where it is, nothing remains of it.
        """
        wait_s = self.limits.write_wait_s
        try:
            trying_s = wait_s if needs else LATE_S
            write = self.submit(draft, size=size, keep_trying_s=trying_s, place=place)
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
        keep_s = self.limits.stream_keep_s

        def work(connection: Connection) -> tuple[Found, bytes, list[bytes]] | None:
            found = find(connection, owner, response_id, keep_s)
            if found is None:
                return None
            values = {"n": found.n}
            [(body,)] = connection.execute(sql.BODY, values)
            return found, body, [one for (one,) in connection.execute(sql.OUTPUT, values)]

        read = await self.read(work)
        if read is None:
            return None
        found, body, output = read
        if found.dead:
            await self.runs.reap(found.n)
            return await self.response(owner, response_id)
        fields = raw_fields(body)
        if found.running:
            fields["status"] = Raw(msgspec.json.encode(found.status))
        if output:  # that of one which is only to be polled is in its body
            fields["output"] = Raw(b"[%b]" % b",".join(output))
        return msgspec.json.encode(fields)

    async def find(self, owner: str, response_id: str) -> Found | None:
        """The state of a response; None where it is not found. Raises StoreUnavailable."""
        keep_s = self.limits.stream_keep_s
        return await self.read(lambda connection: find(connection, owner, response_id, keep_s))

    async def cancel(self, owner: str, response_id: str) -> Found | None:
        """Cancel a response in the background; None where it is not found.

        Nothing happens to one that has ended, or is not in the background. Raises StoreUnavailable.
        """
        found = await self.find(owner, response_id)
        if found is not None and found.running and not found.dead:
            await self.runs.cancel(found)
        return found

    async def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response; False where it is not found. Raises StoreUnavailable.

        One that is being produced is cancelled first.
        """
        await self.cancel(owner, response_id)
        wait_s = self.limits.write_wait_s
        try:
            write = self._database.write(
                lambda connection: delete(
                    connection, owner, response_id, with_context=self.limits.delete_context
                ),
                size=0,
                keep_trying_s=wait_s,
            )
            return await write.done(wait_s)
        except (Unavailable, TimeoutError):
            raise StoreUnavailable from None

    async def input_items(self, owner: str, response_id: str, page: Page) -> ItemList | None:
        """The items that a response saw; None where it is not found.

        Raises AfterUnknown, StoreUnavailable, and InvalidRequest where some of them were deleted.
        """

        def work(connection: Connection) -> ItemList | AfterUnknown | ParentMissing:
            try:
                parent = find_chain(connection, owner, response_id, continued=False).parent
            except ParentMissing as error:
                return error
            listed = connection.execute(sql.CHAIN_IDS, {"n": parent.n, "stops": 0})
            return page_of(connection, [(n, one) for n, one, *_ in listed], page)

        found = await self.read(work)
        if isinstance(found, AfterUnknown):
            raise found
        if isinstance(found, ParentMissing):
            if found.link is None:
                return None
            raise parent_missing(response_id, found, param=None)
        return found

    # --- upkeep -----------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Delete some of what has expired; returns how much, 0 for nothing. Raises Unavailable."""
        write = self._database.write(self._sweep_step, size=0, keep_trying_s=LATE_S, durable=False)
        try:
            rows = await write.done(LATE_S) or await self.conversations.sweep()
        except TimeoutError:
            raise Unavailable("the sweep takes too long") from None
        self.meter.swept(rows)
        return rows

    def _sweep_step(self, connection: Connection) -> int:
        return sweep(connection, self.limits.stream_keep_s)

    async def measure(self) -> None:
        """Tell the meter how large the store is; raises Unavailable."""
        [(size,)] = await self._database.read(lambda one: one.execute(sql.SIZE))
        self.meter.size(int(size))
