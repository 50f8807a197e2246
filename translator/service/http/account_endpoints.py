"""What the owner of a key asks about it and its account, with the key itself.

    GET /v1/key, /v1/credits                              as OpenRouter's
    GET /v1/dashboard/billing/subscription, …/usage       as one-api's
    GET /api/codex/usage                                  as Codex's own backend's
    GET /v1/usage                                         days, as OpenAI's usage of organizations
    GET /v1/usage/ID                                      one request, by any of its ids

They cost nothing, have limits of their own (`accounts.reads`), and tell of one account alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from translator.service.accounts import meters
from translator.service.accounts.client import AccountClient
from translator.service.accounts.directory import Accounts
from translator.service.accounts.key_status import KeyStatus, read_status
from translator.service.accounts.usage_report import read_report_request, report, usage_row
from translator.service.base.errors import AccountsUnavailable, InvalidKey
from translator.service.database.connection import Connection
from translator.service.database.errors import Unavailable
from translator.wire.errors import NotFound

from .exchange import JSON, Exchange
from .router import Methods

T = TypeVar("T")

NO_STORE = {"cache-control": "no-store"}

encode = msgspec.json.Encoder(decimal_format="number").encode
"""JSON whose decimals are numbers, as foreign shapes have them."""


class AccountEndpoints:
    """The endpoints; `api` are also served without `/v1`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._billing = accounts.section.billing
        self._currency = accounts.section.currency
        self.api: Mapping[str, Methods] = {
            "/key": {"GET": self.key},
            "/credits": {"GET": self.credits},
            "/dashboard/billing/subscription": {"GET": self.subscription},
            "/dashboard/billing/usage": {"GET": self.total_usage},
            "/usage": {"GET": self.usage},
            "/usage/{id}": {"GET": self.one_usage},
        }
        self.paths: Mapping[str, Methods] = {"/api/codex/usage": {"GET": self.codex_usage}}

    async def key(self, exchange: Exchange) -> None:
        status = await self._status(exchange)
        found = meters.key_answer(status, billing=self._billing, currency=self._currency)
        await _respond(exchange, found)

    async def credits(self, exchange: Exchange) -> None:
        await _respond(exchange, meters.credits_answer(await self._billed_status(exchange)))

    async def subscription(self, exchange: Exchange) -> None:
        await _respond(exchange, meters.subscription(await self._billed_status(exchange)))

    async def total_usage(self, exchange: Exchange) -> None:
        await _respond(exchange, meters.total_usage(await self._billed_status(exchange)))

    async def codex_usage(self, exchange: Exchange) -> None:
        status = await self._status(exchange)
        await _respond(exchange, meters.codex_usage(status, billing=self._billing))

    async def usage(self, exchange: Exchange) -> None:
        asked = read_report_request(exchange.query_values())
        account, _ = _ids(exchange)
        found = await self._read(
            exchange, lambda connection: report(connection, account, asked, self._currency)
        )
        await _respond(exchange, found)

    async def one_usage(self, exchange: Exchange) -> None:
        account, _ = _ids(exchange)
        name = exchange.path_param("id")
        found = await self._read(
            exchange, lambda connection: usage_row(connection, account, name, self._currency)
        )
        if found is None:
            raise NotFound(
                f"No usage of '{name[:200]}' is found: it is the id of a response, of a request or"
                " of a usage of this account, and a request has one when it has ended.",
                param=None,
            )
        await _respond(exchange, found)

    async def _status(self, exchange: Exchange) -> KeyStatus:
        account, key = _ids(exchange)
        found = await self._read(exchange, partial(_read_status, account, key))
        if found is None:
            raise InvalidKey("Incorrect API key provided.")
        return found

    async def _billed_status(self, exchange: Exchange) -> KeyStatus:
        """The same; raises NotFound where nothing costs money."""
        if not self._billing:
            raise NotFound(
                f"{exchange.method} {exchange.path[:200]}: requests cost nothing here, so there is"
                " no balance.",
                param=None,
                code="unsupported_endpoint",
            )
        return await self._status(exchange)

    async def _read(self, exchange: Exchange, work: Callable[[Connection], T]) -> T:
        """What the key of a request asks; raises LimitReached and AccountsUnavailable."""
        _, key = _ids(exchange)
        with self._accounts.reads.of(f"key {key}"):
            try:
                return await self._accounts.reads.read(work)
            except Unavailable:
                raise AccountsUnavailable from None


def _read_status(account: int, key: int, connection: Connection) -> KeyStatus | None:
    return read_status(connection, account, key)


def _ids(exchange: Exchange) -> tuple[int, int]:
    """The numbers of the account and of the key of a request."""
    client = exchange.context.client
    assert isinstance(client, AccountClient)
    return client.ids


async def _respond(exchange: Exchange, body: object) -> None:
    await exchange.whole(200, encode(body), JSON | NO_STORE)
