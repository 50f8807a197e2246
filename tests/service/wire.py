"""A scripted upstream, and the service with its clients.

The upstream is a raw HTTP/1.1 server: a script decides each byte of a response and when it is
sent, and sees when the service closes the connection. Nothing here sleeps; every wait has a
timeout, so that a broken service fails a test and does not block it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import uvicorn
from starlette.types import ASGIApp, Message

from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.http.app import create_app
from translator.service.server.protocols import protocols

from . import chat_bodies
from .chat_bodies import COMPLETION, HELLO

BOUND_S = 20
"""Timeout of every wait, in seconds; nothing takes as long on a busy machine."""

T = TypeVar("T")


async def bounded(awaitable: Awaitable[T]) -> T:
    """The result of a wait, or TimeoutError after BOUND_S."""
    return await asyncio.wait_for(awaitable, BOUND_S)


@dataclass
class Call:
    """One request to the scripted upstream, and the connection for the response."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _chunked: bool = field(default=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def head(
        self,
        status: int = 200,
        content_type: str = "text/event-stream",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send the status line and the headers of a chunked response."""
        lines = {"content-type": content_type, "transfer-encoding": "chunked", **(headers or {})}
        text = f"HTTP/1.1 {status} Whatever\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        self._writer.write(text.encode())
        await self._writer.drain()
        self._chunked = True

    async def send(self, *chunks: bytes) -> None:
        """Send chunks of the body, each in one network write."""
        for chunk in chunks:
            self._writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await self._writer.drain()

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def answer(
        self,
        body: bytes | dict[str, Any],
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a complete response."""
        await self.head(status, content_type, headers)
        if body:  # an empty chunk would be the end
            await self.send(body if isinstance(body, bytes) else json.dumps(body).encode())
        await self.end()

    async def cut(self, chunk: bytes) -> None:
        """Send half of a chunk and close the connection."""
        self._writer.write(b"%x\r\n%b" % (len(chunk), chunk[: len(chunk) // 2]))
        await self._writer.drain()
        self._writer.close()

    def drop(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the service closes the connection."""
        with suppress(ConnectionError):
            rest = await self._reader.read()
            assert rest == b"", "the service sent something after its request"


Script = Callable[[Call], Awaitable[None]]


async def say_hello(call: Call) -> None:
    """Respond with HELLO, or with COMPLETION where no stream is requested."""
    if b'"stream":true' in call.body.replace(b" ", b""):
        await call.head()
        await call.send(*HELLO)
        await call.end()
    else:
        await call.answer(COMPLETION)


class Endless:
    """A script of a stream without an end; `gone` is set when the service hangs up."""

    def __init__(self) -> None:
        self.sent = 0
        """How many chunks the service took."""
        self.gone = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        piece = chat_bodies.chunk({"content": "x" * 10_000})
        try:
            await call.head()
            while True:
                await call.send(piece)
                self.sent += 1
        except ConnectionError:
            self.gone.set()
            raise


async def hello_then_silence(call: Call) -> None:
    """Respond with the beginning of HELLO, and wait until the service hangs up."""
    await call.head()
    await call.send(*HELLO[:2])
    await bounded(call.gone())


class ScriptedUpstream:
    """An upstream that responds with `script` and records the requests in `calls`."""

    def __init__(self) -> None:
        self.script: Script = say_hello
        self.calls: list[Call] = []
        self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if task := asyncio.current_task():
            self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                method, path, _ = first.split(" ")
                pairs = (line.partition(": ") for line in lines)
                headers = {name.lower(): value for name, _, value in pairs}
                size = int(headers.get("content-length", "0"))
                body = reader.readexactly(size)
                call = Call(method, path, headers, await body, reader, writer)
                self.calls.append(call)
                await self.script(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass  # the test is over; asyncio.streams reports a cancelled connection as a fault
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[ScriptedUpstream]:
        """Listen on a free port; `url` is the base URL for the service."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def client(self, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """An HTTP client of a service that has this upstream: `client_of(make_settings(…))`."""
        return client_of(make_settings(self.url, **settings))

    def service(self, **settings: Any) -> AbstractAsyncContextManager[str]:
        """A service that has this upstream, on a real socket: `serving(make_settings(…))`."""
        return serving(make_settings(self.url, **settings))

    @asynccontextmanager
    async def socket_client(self, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
        """An HTTP client of such a service, over a real socket: a stream comes as it is written."""
        async with (
            self.service(**settings) as url,
            httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
        ):
            yield client


MODELS: dict[str, Any] = {
    "small": {
        "upstream": "up",
        "upstream_model": "accounts/up/models/m",
        "context_window": 1000,
        "max_output_tokens": 100,
        "vision": False,
    },
    "org/large": {"upstream": "up"},
}
"""A model table: one model with facts of its own, one without."""


def make_settings(
    url: str,
    *,
    models: Mapping[str, Any] | None = None,
    key: str | None = None,
    upstream: Mapping[str, Any] | None = None,
    **server: Any,
) -> Settings:
    """Settings with one upstream named "up"; `key` is the operator's."""
    section: dict[str, Any] = {"base_url": url, **(upstream or {})}
    if key is not None:
        section["api_key_env"] = "UP_KEY"
    table: dict[str, Any] = {"server": server, "upstreams": {"up": section}}
    if models is not None:
        table["models"] = models
    return read_table(table, {"UP_KEY": key or ""})


@asynccontextmanager
async def serving(settings: Settings, **more: Any) -> AsyncGenerator[str]:
    """The service on a real socket; its base URL, without /v1."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(settings, **more),
        log_config=None,
        access_log=False,
        **protocols(settings.server),
        lifespan="on",
        timeout_graceful_shutdown=BOUND_S // 2,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await bounded(running)


@asynccontextmanager
async def client_of(settings: Settings, **more: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client of the service, with no network between the two."""
    app = create_app(settings, **more)
    transport = httpx.ASGITransport(app)
    async with (
        lifespan_of(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://gateway", timeout=BOUND_S
        ) as client,
    ):
        yield client


@asynccontextmanager
async def lifespan_of(app: ASGIApp) -> AsyncGenerator[None]:
    """The ASGI lifespan of an application: startup on entry, shutdown on exit."""
    to_app = asyncio.Queue[Message]()
    from_app = asyncio.Queue[Message]()
    lifespan = asyncio.ensure_future(app({"type": "lifespan"}, to_app.get, from_app.put))
    to_app.put_nowait({"type": "lifespan.startup"})
    assert (await bounded(from_app.get()))["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        to_app.put_nowait({"type": "lifespan.shutdown"})
        await bounded(lifespan)
