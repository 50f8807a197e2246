"""Speaking to the service over a WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.service.chat_bodies import chunk
from tests.service.responses_api import PATH
from tests.service.wire import BOUND_S, ScriptedUpstream, bounded

CREATE: dict[str, Any] = {"type": "response.create", "model": "m", "input": "Hi"}
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
LS = {"type": "function", "name": "ls", "parameters": {"type": "object"}}
CALLS_LS = chunk(
    {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "ls", "arguments": "{}"}}]}
)


@asynccontextmanager
async def socket_to(
    upstream: ScriptedUpstream, client_key: str = "client-key", **settings: Any
) -> AsyncGenerator[ClientConnection]:
    """A WebSocket to a service of its own."""
    async with upstream.service(**settings) as base:
        async with open_socket(base, client_key) as socket:
            yield socket


def open_socket(base: str, key: str = "client-key", path: str = PATH) -> connect:
    return connect(
        base.replace("http://", "ws://") + path,
        additional_headers={"authorization": f"Bearer {key}"},
        open_timeout=BOUND_S,
        close_timeout=BOUND_S,
        max_size=None,
    )


async def hear(socket: ClientConnection) -> dict[str, Any]:
    """The next message, which must be one JSON object in a text frame."""
    message = await bounded(socket.recv())
    assert isinstance(message, str)
    event: dict[str, Any] = json.loads(message)
    return event


async def ask(socket: ClientConnection, **fields: Any) -> list[dict[str, Any]]:
    """One request, and all events of its answer; an error is the only one."""
    await socket.send(json.dumps(CREATE | fields))
    return await hear_out(socket)


async def hear_out(socket: ClientConnection) -> list[dict[str, Any]]:
    found = [await hear(socket)]
    while found[-1]["type"] not in TERMINAL and "status" not in found[-1]:
        found.append(await hear(socket))
    return found


def types(found: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


def id_of(found: Sequence[dict[str, Any]]) -> str:
    assert found[-1]["type"] == "response.completed", found[-1]
    response_id: str = found[-1]["response"]["id"]
    return response_id


def asked(upstream: ScriptedUpstream, turn: int) -> list[Any]:
    """What was said to the model in a turn: (role, content) of each message."""
    return [(one["role"], one.get("content")) for one in upstream.calls[turn].json["messages"]]
