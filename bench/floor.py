"""Floors: what Python costs between two sockets before a byte is translated.

    python -m bench.floor relay PORT UPSTREAM_PORT           bytes, from protocol to protocol
    python -m bench.floor passthrough PORT UPSTREAM_PORT     uvicorn, ASGI and aiohttp's client

`relay` is the least that uvloop can do: no HTTP is parsed, and no task runs per chunk.
`passthrough` is a usual asynchronous proxy: HTTP is parsed on both sides, and a task reads each
chunk and sends it. Both run in one process on uvloop, with the collector set as the service sets
it. A goal below `relay` is out of reach of Python; what the service costs above it is HTTP and
translation.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import aiohttp
import uvicorn
import uvloop

from .targets import CHAT_BODY, Target

NAMES = ("relay", "passthrough")

Message = MutableMapping[str, Any]


def floors() -> list[Target]:
    return [floor(name) for name in NAMES]


def floor(name: str) -> Target:
    def command(_folder: Path, port: int, upstream: int) -> list[str]:
        return [sys.executable, "-m", "bench.floor", name, str(port), str(upstream)]

    return Target(
        name=f"{name}, unmodified",
        command=command,
        path="/v1/chat/completions",
        body=CHAT_BODY,
        version=lambda: f"uvloop {version('uvloop')}",
    )


class Upstream(asyncio.Protocol):
    """One connection to the upstream; what comes is written to the client."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._write = client.write
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


class Client(asyncio.Protocol):
    """One connection of a client, and the upstream's that belongs to it."""

    def __init__(self, upstream_port: int) -> None:
        self._port = upstream_port
        self._early: list[bytes] = []
        self._upstream: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._opening = asyncio.create_task(self._open(cast("asyncio.Transport", transport)))

    async def _open(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        upstream, _ = await loop.create_connection(
            lambda: Upstream(client), "127.0.0.1", self._port
        )
        self._upstream = upstream
        upstream.writelines(self._early)
        if client.is_closing():
            upstream.close()

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._upstream is not None:
            self._upstream.close()


async def relay(listener: socket.socket, upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(upstream_port), sock=listener, backlog=2048)
    await server.serve_forever()


class Passthrough:
    """An ASGI application that forwards each request and its answer, chunk by chunk."""

    def __init__(self, upstream_port: int) -> None:
        self._url = f"http://127.0.0.1:{upstream_port}"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout()
            )
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        url = self._url + scope["path"]
        async with self._session.request(scope["method"], url, data=bytes(body)) as answer:
            content_type = answer.headers.get("content-type", "")
            headers = [(b"content-type", content_type.encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})


async def passthrough(listener: socket.socket, upstream_port: int) -> None:
    config = uvicorn.Config(
        Passthrough(upstream_port), log_level="warning", access_log=False, lifespan="off"
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    _, name, port, upstream_port = sys.argv
    program = {"relay": relay, "passthrough": passthrough}[name]
    gc.freeze()
    gc.set_threshold(50_000, 10, 20)
    with socket.create_server(("127.0.0.1", int(port)), backlog=2048) as listener:
        uvloop.run(program(listener, int(upstream_port)))


if __name__ == "__main__":
    main()
