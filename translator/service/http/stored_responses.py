"""Stored responses over HTTP, where the settings have a store.

    GET    /v1/responses/ID                as its last event had it
    DELETE /v1/responses/ID
    GET    /v1/responses/ID/input_items    what it saw, page by page
    POST   /v1/responses/ID/cancel         refused: it did not run in the background

What belongs to another client is not found, like what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from translator.service.store.responses import AfterUnknown, Page, StoredResponses
from translator.wire.errors import InvalidRequest, NotFound

from .exchange import JSON, Exchange
from .store_health import StoreHealth

NO_STORE = {"cache-control": "no-store"}

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class StoredEndpoints:
    """The endpoints of stored responses."""

    def __init__(self, store: StoredResponses) -> None:
        self._store = store
        self.health = StoreHealth(store, required=store.limits.required)

    async def get(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        query = exchange.query_values()
        if query.get("stream", ["false"])[0] not in ("false", ""):
            raise InvalidRequest(
                "Only a response that was created with background and stream can be streamed.",
                param="stream",
                code="invalid_value",
            )
        body = await self._store.response(await self._owner(exchange), response_id)
        if body is None:
            _not_found(response_id)
        await exchange.whole(200, body, JSON | NO_STORE)

    async def delete(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        if not await self._store.delete(await self._owner(exchange), response_id):
            _not_found(response_id)
        deleted = {"id": response_id, "object": "response", "deleted": True}
        await exchange.whole(200, msgspec.json.encode(deleted))

    async def input_items(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        page = _page(exchange.query_values())
        try:
            found = await self._store.input_items(await self._owner(exchange), response_id, page)
        except AfterUnknown:
            raise _invalid("after", f"no item of the list has the id '{page.after}'") from None
        if found is None:
            _not_found(response_id)
        await exchange.whole(200, msgspec.json.encode(found), JSON | NO_STORE)

    async def cancel(self, exchange: Exchange) -> None:
        response_id = exchange.path_param("id")
        if await self._store.response(await self._owner(exchange), response_id) is None:
            _not_found(response_id)
        raise InvalidRequest("Cannot cancel a synchronous response.", param=None)

    async def _owner(self, exchange: Exchange) -> str:
        return await self._store.owner(exchange.context, exchange.header("authorization"))


def _not_found(response_id: str) -> NoReturn:
    raise NotFound(f"Response with id '{response_id[:200]}' not found.", param=None)


def _page(query: Mapping[str, list[str]]) -> Page:
    """The page that a query asks for; raises InvalidRequest."""
    limit = query.get("limit", [str(DEFAULT_LIMIT)])[-1]
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise _invalid("limit", f"expected a number from 1 to {MAX_LIMIT}")
    order = query.get("order", ["desc"])[-1]
    if order not in ("asc", "desc"):
        raise _invalid("order", "expected 'asc' or 'desc'")
    after = query.get("after", [""])[-1]
    return Page(int(limit), order == "asc", after or None)


def _invalid(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{name}': {why}.", param=name, code="invalid_value")
