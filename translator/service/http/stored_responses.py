"""Stored responses over HTTP, where the settings have a store.

    GET    /v1/responses/ID                as its last event had it; its events, with `stream`
    DELETE /v1/responses/ID
    GET    /v1/responses/ID/input_items    what it saw, page by page
    POST   /v1/responses/ID/cancel         ends it, where it is produced in the background

What belongs to another client is not found, like what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from translator.service.store.pages import AfterUnknown
from translator.service.store.responses import StoredResponses
from translator.service.turns.dispatcher import Dispatcher
from translator.wire.errors import InvalidRequest, NotFound

from .background import Background, send_followed
from .exchange import JSON, Exchange
from .page_query import after_unknown, page_of
from .responders import EVENT_STREAM
from .store_health import StoreHealth
from .stored_conversations import ConversationEndpoints

NO_STORE = {"cache-control": "no-store"}

MAX_NUMBER = 2**31 - 2
"""Largest number of an event."""


class StoredEndpoints:
    """The endpoints of stored responses."""

    def __init__(self, store: StoredResponses, conversations: ConversationEndpoints) -> None:
        self._store = store
        self.conversations = conversations
        """Those of conversations, which are stored beside them."""
        self.health = StoreHealth(store, required=store.limits.required)

    def background(self, dispatcher: Dispatcher) -> Background:
        """What produces responses in the background, with the turns of a dispatcher."""
        return Background(self._store, dispatcher)

    async def get(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        query = exchange.query_values()
        if _streams(query):
            await self._stream(exchange, response_id, _starting_after(query))
            return
        body = await self._store.response(await self._owner(exchange), response_id)
        if body is None:
            _not_found(response_id)
        await exchange.whole(200, body, JSON | NO_STORE)

    async def _stream(self, exchange: Exchange, response_id: str, after: int) -> None:
        """Respond with the events of a response in the background after one of them."""
        found = await self._store.find(await self._owner(exchange), response_id)
        if found is None:
            _not_found(response_id)
        if not (found.background and found.streamed):
            raise InvalidRequest(
                "Only a response that was created with background and stream can be streamed.",
                param="stream",
                code="invalid_value",
            )
        if found.too_old:
            keep_s = self._store.limits.stream_keep_s
            minutes, seconds = divmod(keep_s, 60)
            age = f"{keep_s:g} seconds" if seconds or not minutes else f"{minutes:g} minutes"
            raise InvalidRequest(
                f"This response can no longer be streamed because it is more than {age} old",
                param=None,
            )
        await exchange.start(200, EVENT_STREAM)
        if exchange.method == "HEAD":
            await exchange.end()
            return
        work = send_followed(exchange, self._store, found.n, after=after)
        await exchange.while_connected(work)

    async def delete(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        if not await self._store.delete(await self._owner(exchange), response_id):
            _not_found(response_id)
        deleted = {"id": response_id, "object": "response", "deleted": True}
        await exchange.whole(200, msgspec.json.encode(deleted))

    async def input_items(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        page = page_of(exchange.query_values())
        try:
            found = await self._store.input_items(await self._owner(exchange), response_id, page)
        except AfterUnknown:
            raise after_unknown(page) from None
        if found is None:
            _not_found(response_id)
        await exchange.whole(200, msgspec.json.encode(found), JSON | NO_STORE)

    async def cancel(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        owner = await self._owner(exchange)
        found = await self._store.cancel(owner, response_id)
        if found is not None and not found.background:
            raise InvalidRequest("Cannot cancel a synchronous response.", param=None)
        body = None if found is None else await self._store.response(owner, response_id)
        if body is None:
            _not_found(response_id)
        await exchange.whole(200, body, JSON | NO_STORE)

    async def _owner(self, exchange: Exchange) -> str:
        return await self._store.owner(exchange.context, exchange.authorization())


def _not_found(response_id: str) -> NoReturn:
    raise NotFound(f"Response with id '{response_id[:200]}' not found.", param=None)


def _streams(query: Mapping[str, list[str]]) -> bool:
    """Whether the events are asked for; raises InvalidRequest."""
    given = query.get("stream", [""])[-1].lower()
    if given not in ("true", "1", "false", "0", ""):
        raise InvalidRequest(
            "Invalid 'stream': expected 'true' or 'false'.", param="stream", code="invalid_value"
        )
    return given in ("true", "1")


def _starting_after(query: Mapping[str, list[str]]) -> int:
    """The number of the event that a client has; -1 for none. Raises InvalidRequest."""
    given = query.get("starting_after", [""])[-1]
    if not given:
        return -1
    if not (given.isascii() and given.isdigit()):
        raise InvalidRequest(
            "Invalid 'starting_after': expected the sequence number of an event.",
            param="starting_after",
            code="invalid_value",
        )
    return min(int(given[:10]), MAX_NUMBER)
