"""A WebSocket client of the service."""

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
    """A WebSocket connection to a service that runs for this test."""
    async with upstream.service(**settings) as base:
        async with open_socket(base, client_key) as socket:
            yield socket


def open_socket(base: str, key: str = "client-key", path: str = PATH) -> connect:
    """A WebSocket connection to the service at `base`."""
    return connect(
        base.replace("http://", "ws://") + path,
        additional_headers={"authorization": f"Bearer {key}"},
        open_timeout=BOUND_S,
        close_timeout=BOUND_S,
        max_size=None,
    )


async def receive_event(socket: ClientConnection) -> dict[str, Any]:
    """The next event: a text message with one JSON object."""
    message = await bounded(socket.recv())
    assert isinstance(message, str)
    event: dict[str, Any] = json.loads(message)
    return event


async def ask(socket: ClientConnection, **fields: Any) -> list[dict[str, Any]]:
    """Send one request; all events of its response, or the one error event."""
    await socket.send(json.dumps(CREATE | fields))
    return await receive_response(socket)


async def receive_response(socket: ClientConnection) -> list[dict[str, Any]]:
    """All events up to the terminal one."""
    found = [await receive_event(socket)]
    while found[-1]["type"] not in TERMINAL and "status" not in found[-1]:
        found.append(await receive_event(socket))
    return found


def types(found: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


def id_of(found: Sequence[dict[str, Any]]) -> str:
    assert found[-1]["type"] == "response.completed", found[-1]
    response_id: str = found[-1]["response"]["id"]
    return response_id


def asked(upstream: ScriptedUpstream, turn: int) -> list[Any]:
    """(role, content) of each message in the chat request of a turn."""
    return [(one["role"], one.get("content")) for one in upstream.calls[turn].json["messages"]]
