"""A service that stores, its clients, and what is in its database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from typing import Any

import httpx

from tests.service.chat_bodies import COMPLETION, chunk
from tests.service.responses_api import PATH, events
from tests.service.wire import BOUND_S, Call, ScriptedUpstream
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.tables import KEYS, META, METADATA

DONE = b"data: [DONE]\n\n"

ANNA, BOB = new_key(), new_key()

PATIENT = {"read_wait_s": BOUND_S, "write_wait_s": BOUND_S}
"""A slow machine is no database that is away."""


def settings_of(
    upstream: ScriptedUpstream, location: Location, *, clients: bool = False, **more: Any
) -> Settings:
    url = location.target
    if location.kind == "sqlite":
        url = f"sqlite:///{url}"
    limits = more.pop("limits", {})
    table: dict[str, Any] = {
        "server": more.pop("server", {}),
        "upstreams": {"up": {"base_url": upstream.url}},
        "store": {"url": url} | PATIENT | more,
    }
    if clients:
        table["clients"] = {
            "anna": {"keys": [str(store(ANNA))]},
            "bob": {"keys": [str(store(BOB))]},
        }
        table["clients"]["anna"] |= limits
    return read_table(table, {})


Service = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


async def ask(client: httpx.AsyncClient, **fields: Any) -> Any:
    """The response to a request, whole or as the last event of a stream has it."""
    headers = fields.pop("headers", {})
    answer = await client.post(PATH, json={"model": "m", "input": "Hi"} | fields, headers=headers)
    assert answer.status_code == 200, answer.text
    if not fields.get("stream"):
        return answer.json()
    found = events(answer.content)
    assert {event["response"]["store"] for event in found if "response" in event} == {
        found[-1]["response"]["store"]
    }
    return found[-1]["response"]


async def refused(client: httpx.AsyncClient, **fields: Any) -> tuple[int, Any]:
    headers = fields.pop("headers", {})
    answer = await client.post(PATH, json={"model": "m", "input": "Hi"} | fields, headers=headers)
    return answer.status_code, answer.json()["error"]


def bytes_of(location: Location) -> list[Any]:
    """All rows of the store."""
    tables = ("threads", "responses", "bodies", "items", "response_items", "meta", "events")
    with closing(connect(location, DatabaseTime())) as connection:
        return [
            sorted(map(repr, connection.execute(Statement(f"SELECT * FROM resp_{name}"))))
            for name in tables
        ]


def counts(location: Location) -> list[int]:
    return [len(rows) for rows in bytes_of(location)[:5]]


def think(reasoning: str, text: str) -> Callable[[Call], Any]:
    """A script of an answer with reasoning."""

    async def script(call: Call) -> None:
        if b'"stream":true' in call.body:
            await call.head()
            await call.send(
                chunk({"reasoning_content": reasoning}),
                chunk({"content": text}),
                chunk({}, "stop"),
                DONE,
            )
            await call.end()
        else:
            message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await call.answer(COMPLETION | {"choices": [choice]})

    return script


def messages(call: Call) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = call.json["messages"]
    return found


@contextmanager
def emptied(location: Location) -> Iterator[Connection]:
    """A connection to a store of which nothing is left."""
    with closing(connect(location, DatabaseTime())) as connection:
        with writing(connection):
            for table in METADATA.sorted_tables:
                if table not in (META, KEYS):
                    connection.change(Statement(f"DELETE FROM {table.name}"))
        yield connection
