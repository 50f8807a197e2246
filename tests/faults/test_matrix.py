"""Each fault at each point of an exchange, on each way through the service, ends as it must."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.invariants import check_response_types, check_wire
from tests.service.responses_api import events
from tests.service.wire import BOUND_S, serving
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.http.exchange import Exchange
from translator.service.turns.turn import Turn
from translator.service.upstreams.client import Answer
from translator.service.upstreams.streams import UpstreamStream

from .faults import (
    AT_A_POINT,
    BETWEEN,
    BODY,
    DONE,
    NOT_AT,
    POINTS,
    WITHIN,
    FaultUpstream,
    accepting,
    body_of,
    deaf,
    refusing,
    whole_answers,
)

pytestmark = pytest.mark.anyio

PATIENCE_S = 3 * BOUND_S
"""Longer than a cell that waits for nothing can take, among all the others, on a busy machine."""

PATIENT: dict[str, Any] = {"max_answer_bytes": 1024 * 1024, "exchange_timeout_s": PATIENCE_S}
IMPATIENT: dict[str, Any] = {
    "connect_timeout_s": 0.5,
    "read_timeout_s": 0.5,
    "progress_timeout_s": 0.7,
    "exchange_timeout_s": 2.0,
    "headers_grace_s": 0.1,
    "heartbeat_s": 0.2,
}
AT_ACCEPT = ("reset", "close", "stall", "garbage")
AT_ONCE = 40
ASK: dict[str, Any] = {"input": "Hi", "messages": [{"role": "user", "content": "Hi"}]}

# --- ways through the service, each to what came out in one word ----------------------------------


async def stream(client: httpx.AsyncClient, model: str) -> str:
    answer = await client.post("/v1/responses", json={**responses(model), "stream": True})
    if answer.status_code != 200:
        return refused(answer.status_code, answer.json()["error"])
    return ended(events(answer.content))


async def whole(client: httpx.AsyncClient, model: str) -> str:
    answer = await client.post("/v1/responses", json=responses(model))
    if answer.status_code != 200:
        return refused(answer.status_code, answer.json()["error"])
    body = answer.json()
    check_response_types(body)
    return said(body)


async def websocket(client: httpx.AsyncClient, model: str) -> str:
    url = str(client.base_url.join("/v1/responses")).replace("http", "ws", 1)
    found: list[dict[str, Any]] = []
    async with connect(url) as socket:
        await socket.send(json.dumps({"type": "response.create", **responses(model)}))
        while True:
            event = json.loads(await socket.recv())
            if event["type"] == "error" and "status" in event:
                return refused(event["status"], event["error"])
            found.append(event)
            if event["type"].removeprefix("response.") in ("completed", "failed", "incomplete"):
                return ended(found)


async def chat(client: httpx.AsyncClient, model: str, *, streams: bool = True) -> str:
    ask = {"model": model, "messages": ASK["messages"], "stream": streams}
    body = b""
    try:
        async with client.stream("POST", "/v1/chat/completions", json=ask) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
    except httpx.RemoteProtocolError:
        return "cut"
    except httpx.DecodingError:
        return "passed on"
    if answer.headers.get("content-encoding", "gzip") != "gzip":
        return "passed on"
    if answer.status_code != 200 and body[:1] == b"{":
        return refused(answer.status_code, json.loads(body)["error"])
    return "completed" if body == body_of(streams) else "passed on"


async def chat_whole(client: httpx.AsyncClient, model: str) -> str:
    return await chat(client, model, streams=False)


WAYS = {
    "stream": stream,
    "json": whole,
    "websocket": websocket,
    "chat": chat,
    "chat json": chat_whole,
}


def responses(model: str) -> dict[str, Any]:
    return {"model": model, "input": "Hi"}


def refused(status: int, error: dict[str, Any]) -> str:
    assert error["message"]
    assert error["type"]
    assert {"code", "param"} <= error.keys()
    return str(status)


def ended(found: list[dict[str, Any]]) -> str:
    beats = [event for event in found[2:] if event["type"] == "response.in_progress"]
    told = [event for event in found if event not in beats]
    check_wire([{**event, "sequence_number": number} for number, event in enumerate(told)])
    return said(found[-1]["response"])


def said(response: dict[str, Any]) -> str:
    if response["status"] == "completed":
        assert response["output"][0]["content"][0]["text"] == "Hello world"
    return str(response["status"])


# --- what there is to try, and what must come of it -----------------------------------------------

WAITS = {"stall", "comments", "deaf", "1xx without end"}
"""Faults that only a clock of ours ends; the others are tried with more patience."""

SOUND = {
    *("trickle", "sound", "100 before", "103 before", "gzip"),
}  # fmt: skip
"""What is no fault, but looks like one."""

AS_IT_IS = {
    *("nonsense", "gzip cut", "gzip of rubbish", "brotli", "empty", "no content"),
    *("html", "500 without a body", "oversize"),
}  # fmt: skip
"""What is passed on where bytes are passed on: nobody looks into them."""

OTHERWISE = {"500 without a body": "500"}
"""The status of an error that is neither a broken upstream (502) nor a silent one (504)."""


def cells() -> list[str]:
    accept = ("refusing", "deaf", *AT_ACCEPT)
    at_points = [
        f"{point}: {name}"
        for point in POINTS
        for name in AT_A_POINT
        if point not in NOT_AT.get(name, ())
    ]
    whole = (*whole_answers(True), "1xx without end")
    return [
        *(f"accept: {name}" for name in accept),
        *at_points,
        *(f"whole: {name}" for name in whole),
    ]


def allowed(cell: str, way: str) -> set[str]:
    """What may come of a cell. How much of an answer has been read when it breaks is chance."""
    point, _, name = cell.partition(": ")
    if name in SOUND:
        return {"completed"}
    found = {"504" if name in WAITS else OTHERWISE.get(name, "502")}
    has_begun = point in (BODY, BETWEEN, WITHIN, DONE, "whole")
    if way in ("stream", "websocket") and (has_begun or name in WAITS):
        found.add("failed")  # the grace time is short where there is something to wait for
    if way in ("chat", "chat json") and has_begun:
        found |= {"passed on"} if name in AS_IT_IS else {"cut"}
    if name == "length too long" and way in ("stream", "websocket"):
        found = {"completed"}  # all that was announced and matters has come
    return found


def settings(urls: dict[str, str], **server: Any) -> Settings:
    models: dict[str, Any] = {"well": {"upstream": "faulty", "upstream_model": "whole: sound"}}
    for cell in cells():
        point, _, name = cell.partition(": ")
        models[cell] = {"upstream": name if point == "accept" else "faulty"}
    table = {
        "server": server,
        "upstreams": {name: {"base_url": url} for name, url in urls.items()},
        "models": models,
    }
    return read_table(table, {})


@asynccontextmanager
async def service(**server: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the service in front of all these upstreams."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        urls = {
            "faulty": await enter(FaultUpstream().running()),
            "refusing": await enter(refusing()),
            "deaf": await enter(deaf()),
        } | {name: await enter(accepting(name)) for name in AT_ACCEPT}
        url = await enter(serving(settings(urls, **server)))
        unpooled = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        yield await enter(httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=unpooled))


async def tried(client: httpx.AsyncClient, wanted: list[str]) -> list[str]:
    """Everything that did not come out as it must."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(cell: str, way: str) -> str:
        async with at_once:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    out = await WAYS[way](client, cell)
            except Exception as error:  # so that all cells are tried
                out = repr(error)
        return "" if out in allowed(cell, way) else f"{cell}, {way}: {out}"

    outs = await asyncio.gather(*(one(cell, way) for cell in wanted for way in WAYS))
    return [out for out in outs if out]


def fault(cell: str) -> str:
    return cell.partition(": ")[2]


def held() -> list[object]:
    """What is left of exchanges."""
    gc.collect()
    return [
        one
        for one in gc.get_objects()
        if isinstance(one, Exchange | Turn | UpstreamStream | Answer)
    ]


def tasks() -> list[str]:
    """What runs, but for the connections of the upstreams: idle ones are kept."""
    names = (task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
    return sorted(name for name in names if "connected" not in name)


async def quiet(before: list[str]) -> None:
    """Wait until nothing more is left than there was."""
    try:
        async with asyncio.timeout(BOUND_S):
            while Counter(tasks()) - Counter(before) or held():
                await asyncio.sleep(0.05)
    except TimeoutError:
        assert (Counter(tasks()) - Counter(before), held()) == (Counter(), [])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number matters


async def settled(count: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while descriptors() > count:
            gc.collect()
            await asyncio.sleep(0.05)


@pytest.fixture
def nothing_is_logged() -> Iterator[None]:
    """Pytest keeps records, and what they are about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("nothing_is_logged")
@pytest.mark.parametrize(
    ("limits", "waits"), [(PATIENT, False), (IMPATIENT, True)], ids=["what breaks", "what lasts"]
)
async def test_every_fault_ends_as_it_must(limits: dict[str, Any], waits: bool) -> None:
    """Nothing of it is left behind, and the next request is answered."""
    before = descriptors()
    async with service(**limits) as client:
        assert await stream(client, "well") == "completed"
        running = tasks()
        assert await tried(client, [one for one in cells() if (fault(one) in WAITS) == waits]) == []
        await quiet(running)
        for way in WAYS.values():
            assert await way(client, "well") == "completed"
    await settled(before)
