"""Conversations over HTTP, where the settings have a store.

    POST   /v1/conversations                    with up to MAX_ITEMS items
    GET, POST, DELETE /v1/conversations/ID      POST replaces the metadata
    GET, POST /v1/conversations/ID/items        page by page; up to MAX_ITEMS at once
    GET, DELETE /v1/conversations/ID/items/ID

What belongs to another client is not found, like what is not there.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from translator.common.invalid import invalid_from, nested_too_deeply, refuse_invalid_utf8
from translator.common.pauses import Pause, no_pause
from translator.dialects import BASE
from translator.request.compaction import head_of
from translator.request.references import reference_of
from translator.request.store_context import StoreContext
from translator.request.to_chat import Target, write_chat_request
from translator.service.store.pages import AfterUnknown
from translator.service.store.responses import StoredResponses
from translator.service.turns.slices import LARGE_BYTES, Slices
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON
from translator.wire.responses import Request

from .exchange import JSON, Exchange
from .page_query import after_unknown, page_of

T = TypeVar("T", bound=Struct)

MAX_ITEMS = 20
"""Most items of one request."""

NO_STORE = {"cache-control": "no-store"}

_Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class NewConversation(Struct, frozen=True):
    """The body of `POST /v1/conversations`."""

    items: list[Raw] | None = None
    metadata: _Metadata | None = None


class ChangedConversation(Struct, frozen=True):
    """The body of `POST /v1/conversations/ID`."""

    metadata: _Metadata | None


class NewItems(Struct, frozen=True):
    """The body of `POST /v1/conversations/ID/items`."""

    items: list[Raw]


class ConversationEndpoints:
    """The endpoints of conversations."""

    def __init__(self, store: StoredResponses) -> None:
        self._store = store
        self._conversations = store.conversations
        self._slices = Slices()

    async def create(self, exchange: Exchange) -> None:
        asked = await self._body(exchange, NewConversation)
        items = asked.items or []
        owner = await self._owner(exchange)
        made = await self._conversations.create(owner, asked.metadata or {}, items)
        await _respond(exchange, made)

    async def get(self, exchange: Exchange) -> None:
        owner, conversation_id = await self._named(exchange)
        await _respond(exchange, await self._conversations.find(owner, conversation_id))

    async def change(self, exchange: Exchange) -> None:
        asked = await self._body(exchange, ChangedConversation)
        owner, conversation_id = await self._named(exchange)
        changed = await self._conversations.set_metadata(
            owner, conversation_id, asked.metadata or {}
        )
        await _respond(exchange, changed)

    async def delete(self, exchange: Exchange) -> None:
        owner, conversation_id = await self._named(exchange)
        await self._conversations.delete(owner, conversation_id)
        deleted = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
        await _respond(exchange, deleted)

    async def items(self, exchange: Exchange) -> None:
        page = page_of(exchange.query_values())
        owner, conversation_id = await self._named(exchange)
        try:
            found = await self._conversations.items(owner, conversation_id, page)
        except AfterUnknown:
            raise after_unknown(page) from None
        await _respond(exchange, found)

    async def add_items(self, exchange: Exchange) -> None:
        asked = await self._body(exchange, NewItems)
        owner, conversation_id = await self._named(exchange)
        added = await self._conversations.add(owner, conversation_id, asked.items)
        await _respond(exchange, added)

    async def item(self, exchange: Exchange) -> None:
        owner, conversation_id = await self._named(exchange)
        item_id = exchange.path_param("item")
        await _respond(exchange, await self._conversations.item(owner, conversation_id, item_id))

    async def remove_item(self, exchange: Exchange) -> None:
        owner, conversation_id = await self._named(exchange)
        item_id = exchange.path_param("item")
        await _respond(exchange, await self._conversations.remove(owner, conversation_id, item_id))

    async def _owner(self, exchange: Exchange) -> str:
        return await self._store.owner(exchange.context, exchange.authorization())

    async def _named(self, exchange: Exchange) -> tuple[str, str]:
        """The owner, and the id of the conversation."""
        return await self._owner(exchange), exchange.path_param("id")

    async def _body(self, exchange: Exchange, kind: type[T]) -> T:
        """The body of a request; raises InvalidRequest, and what `Exchange.body` raises."""
        body = await exchange.body() or b"{}"
        if len(body) < LARGE_BYTES:
            return _read(body, kind)
        return await self._slices.run(partial(_read, body, kind))


async def _respond(exchange: Exchange, body: object) -> None:
    await exchange.whole(200, msgspec.json.encode(body), JSON | NO_STORE)


def _read(body: bytes, kind: type[T], pause: Pause = no_pause) -> T:
    """A body whose items can be the context of a request; raises InvalidRequest."""
    refuse_invalid_utf8(body, pause)
    try:
        asked = msgspec.json.decode(body, type=kind)
    except NOT_JSON as error:
        raise invalid_from(error, body) from None
    items: list[Raw] = getattr(asked, "items", None) or []
    if len(items) > MAX_ITEMS:
        raise InvalidRequest(
            f"Invalid 'items': array too long. Expected an array with maximum length {MAX_ITEMS},"
            f" but got an array with length {len(items)} instead.",
            param="items",
            code="array_above_max_length",
        )
    pause()
    _check_items(items, pause)
    return asked


def _check_items(items: list[Raw], pause: Pause) -> None:
    """Raise InvalidRequest for an item that no request could go on from.

    They are translated, as if a request did.
    """
    for index, item in enumerate(items):
        if head_of(item).type == "compaction_trigger":
            raise InvalidRequest(
                "A 'compaction_trigger' item is for the input of a request alone.",
                param=f"items[{index}].type",
                code="invalid_value",
            )
    earlier = [_PLAIN if reference_of(one) is not None else one for one in items]
    try:
        write_chat_request(
            _ANY_REQUEST,
            {},
            dialect=BASE,
            target=Target(),
            earlier=earlier,
            store=_ANY,
            pause=pause,
        )
    except RecursionError:
        raise nested_too_deeply() from None
    except InvalidRequest as error:
        param = (error.param or "").replace("conversation", "items", 1)
        message = error.message.replace(f"'{error.param}'", f"'{param}'", 1)
        raise InvalidRequest(message, param=param, code=error.code) from None


_PLAIN = Raw(b'{"role":"user","content":""}')
_ANY_REQUEST = Request(model="any", input=[_PLAIN])
_ANY = StoreContext(conversation="any")
