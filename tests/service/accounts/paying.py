"""A service with accounts, the keys and the money of its clients, and what its database says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from typing import Any

import httpx
import pytest

from tests.service.access.clients import CHAT
from tests.service.chat_bodies import COMPLETION, chunk
from tests.service.responses_api import PATH
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, client_of
from translator.service.accounts import books as book
from translator.service.accounts import key_book, price_book
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.money import read_amount, read_price
from translator.service.accounts.price_book import PriceRow
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, reading, writing
from translator.service.database.statement import DatabaseTime, Statement

PRICES = PriceRow(
    "m",
    input=read_price("0.60"),
    cached_input=read_price("0.10"),
    cache_write=read_price("0.75"),
    output=read_price("2.50"),
)
"""The prices P of the scenarios."""

USAGE = {
    "prompt_tokens": 12_000,
    "completion_tokens": 500,
    "total_tokens": 12_500,
    "prompt_tokens_details": {"cached_tokens": 8_000, "cache_write_tokens": 1_000},
    "completion_tokens_details": {"reasoning_tokens": 400},
}
"""The usage U, of 4,600,000,000 pico."""

COST = 4_600_000_000

ON_SQLITE = pytest.mark.parametrize("location", ["sqlite"], indirect=True)
"""Marks a test of what does not depend on the database, which runs on one of both."""

ASK: dict[str, Any] = {"model": "m", "input": "Hi"}
ASK_CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
DEAR = PriceRow("m", input=read_price("0.60"), output=read_price("2.50"))

MODELS: dict[str, Any] = {"m": {"upstream": "up"}, "other": {"upstream": "up"}}


def initialized(location: Location) -> None:
    """Write what `translator account init` writes into new tables."""
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        book.initialize(connection, "USD")


class Books:
    """An operator's access to the database, and the settings of a service with it."""

    def __init__(
        self, upstream: ScriptedUpstream, location: Location, connection: Connection
    ) -> None:
        self.upstream = upstream
        self.location = location
        self.connection = connection

    @classmethod
    @contextmanager
    def opened(cls, upstream: ScriptedUpstream, location: Location) -> Generator[Books]:
        with closing(connect(location, DatabaseTime())) as connection:
            yield cls(upstream, location, connection)

    # --- what an operator does --------------------------------------------------------------------

    def account(self, name: str = "acme", balance: str = "") -> None:
        with writing(self.connection):
            book.add_account(self.connection, name)
            if balance:
                book.top_up(self.connection, name, read_amount(balance), f"first-{name}", "tests")

    def key(self, account: str = "acme", name: str = "anna", **limits: Any) -> str:
        """A new key."""
        text = new_key()
        with writing(self.connection):
            key_book.add_key(self.connection, account, name, store(text), Limits(**limits))
        return text

    def found(self, text: str) -> key_book.KeyRow:
        """A key as the database has it."""
        [one] = [one for one in self.all_keys() if one.salt == store(text).salt]
        return one

    def all_keys(self) -> list[key_book.KeyRow]:
        with reading(self.connection):
            return key_book.keys(self.connection)

    def revoke(self, text: str) -> None:
        found = self.found(text)
        with writing(self.connection):
            key_book.revoke(self.connection, found)

    def price(self, price: PriceRow = PRICES) -> None:
        with writing(self.connection):
            price_book.set_price(self.connection, price, "tests")

    def top_up(self, amount: str, ref: str, account: str = "acme") -> None:
        with writing(self.connection):
            book.top_up(self.connection, account, read_amount(amount), ref, "tests")

    def change(self, text: str, **values: Any) -> None:
        with writing(self.connection):
            self.connection.change(Statement(text), values)

    # --- what the database says -------------------------------------------------------------------

    def rows(self, text: str, **values: Any) -> list[Any]:
        with reading(self.connection):
            return self.connection.execute(Statement(text), values)

    def balance(self, account: str = "acme") -> int:
        return self.of(account).balance

    def of(self, account: str = "acme") -> book.Account:
        with reading(self.connection):
            return book.account(self.connection, account)

    def usages(self, columns: str = "outcome, input, cached, written, output, amount") -> list[Any]:
        return self.rows(f"SELECT {columns} FROM acct_usages ORDER BY hold_id")

    # --- the service ------------------------------------------------------------------------------

    def settings(
        self,
        *,
        models: dict[str, Any] | None = None,
        server: Any = None,
        tools: Any = None,
        **more: Any,
    ) -> Settings:
        url = self.location.target
        if self.location.kind == "sqlite":
            url = f"sqlite:///{url}"
        table = {
            "server": server or {},
            "upstreams": {"up": {"base_url": self.upstream.url, "api_key_env": "UP_KEY"}},
            "models": MODELS if models is None else models,
            "accounts": {"url": url, "checkpoint_s": 0.2, "lease_s": 1.0} | more,
        }
        if tools is not None:
            table["tools"] = tools
        return read_table(table, {"UP_KEY": "of-the-operator"})

    def service(
        self, time: DatabaseTime | None = None, **more: Any
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A client of a service with the accounts, which has settled all when it ends."""
        return _client(self.settings(**more), time)


@asynccontextmanager
async def _client(
    settings: Settings, time: DatabaseTime | None
) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(settings, database_time=time) as client:
        client.timeout = httpx.Timeout(BOUND_S)
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def answering(usage: dict[str, Any] | None = None, text: str = "Hello world") -> Any:
    """A script of an answer with this usage, streamed where that is asked for."""

    async def script(call: Call) -> None:
        if b'"stream":true' in call.body.replace(b" ", b""):
            await call.head()
            await call.send(chunk({"content": text}), chunk({}, "stop"))
            if usage is not None:
                await call.send(chunk(usage=usage, choices=[]))
            await call.send(b"data: [DONE]\n\n")
            await call.end()
        else:
            message = {"role": "assistant", "content": text}
            body = COMPLETION | {
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]
            }
            body.pop("usage")
            await call.answer(body if usage is None else body | {"usage": usage})

    return script


async def ask(client: httpx.AsyncClient, key: str, **fields: Any) -> httpx.Response:
    return await client.post(PATH, json=ASK | fields, headers=bearer(key))


async def chat(client: httpx.AsyncClient, key: str, **fields: Any) -> httpx.Response:
    return await client.post(CHAT, json=ASK_CHAT | fields, headers=bearer(key))


async def settled(books: Books, count: int) -> list[Any]:
    """The outcome, the estimates and the amount of each usage, once there are so many."""
    async with asyncio.timeout(BOUND_S):
        while len(found := books.usages("outcome, estimated, output, amount")) < count:
            await asyncio.sleep(0.01)
    assert len(found) == count
    return found
