"""A real MCP server on this machine, which remembers what it was asked and can be made to fail."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ImageContent, TextContent, ToolAnnotations
from starlette.types import Message, Receive, Scope, Send

from translator.service.config.mcp import McpSection
from translator.service.mcp.servers import McpServers, Target
from translator.service.mcp.transport import Connections
from translator.service.tools.addresses import AddressRules

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def servers_of(
    rules: AddressRules | None = None, **limits: Any
) -> AsyncGenerator[McpServers]:
    """Servers in use, with these bounds."""
    section = McpSection(**limits)
    connections = Connections(
        rules or AddressRules(),
        connect_timeout_s=section.connect_timeout_s,
        max_answer_bytes=section.max_answer_bytes,
        own_headers={},
    )
    servers = McpServers(section, connections)
    servers.open()
    try:
        yield servers
    finally:
        await servers.aclose()


class Asked:
    """One request to the server."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope["query_string"].decode()
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.body = b""

    @property
    def rpc(self) -> str:
        """The method of its JSON-RPC message; empty without one."""
        return json.loads(self.body)["method"] if self.body else ""

    @property
    def params(self) -> dict[str, Any]:
        return json.loads(self.body).get("params", {}) if self.body else {}


class Listener:
    """A port on which one script after another is served: a thread is started but once."""

    def __init__(self) -> None:
        self.script: McpScript | None = None
        self.port = 0
        self._socket: socket.socket | None = None

    def start(self, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_config=None, lifespan="on", ws="none", interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            threading.Event().wait(0.005)

    def stop(self) -> None:
        if self._socket is None:
            return
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._socket.close()
        self._socket = None

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.loop = asyncio.get_running_loop()
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        handler = self.script.app if self.script else answer(503)
        await handler(scope, receive, send)


class McpScript:
    """A server with a few tools; `instead` answers a request in place of it.

    It is a new one for each test, also on a listener that is already there.
    """

    def __init__(self, listener: Listener | None = None, **options: Any) -> None:
        self.asked: list[Asked] = []
        self.instead: Callable[[Asked], Handler | None] = lambda _asked: None
        self.cancelled = threading.Event()
        self.running_tools = 0
        self.stopping = False
        self._open_requests = 0
        self._listener = listener or Listener()
        self._listens_itself = listener is None
        self._life: Future[None] | None = None
        self.tools = MCPServer("scripted", log_level="CRITICAL")
        self._inner = self.tools.streamable_http_app(**options)
        self._add_tools()

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def methods(self) -> list[str]:
        """The JSON-RPC methods that were asked, without those of the protocol's own upkeep."""
        return [one.rpc for one in self.asked if one.rpc and "initialized" not in one.rpc]

    def _add_tools(self) -> None:
        tool = self.tools.tool

        @tool(structured_output=False, annotations=ToolAnnotations(read_only_hint=True))
        def add(a: int, b: int) -> str:
            """Add two numbers."""
            return str(a + b)

        @tool(structured_output=False)
        def write(text: str) -> str:
            return f"written: {text}"

        @tool(structured_output=False)
        async def sleep(seconds: float) -> str:
            self.running_tools += 1
            try:
                await anyio.sleep(seconds)
            except anyio.get_cancelled_exc_class():
                self.cancelled.set()
                raise
            finally:
                self.running_tools -= 1
            return "slept"

        @tool(structured_output=False)
        def fail(words: str) -> str:
            raise ToolError(words)

        @tool(structured_output=False)
        def repeat(text: str, times: int) -> str:
            return text * times

        @tool(structured_output=False)
        def picture() -> list[Any]:
            return [
                TextContent(type="text", text="a picture:"),
                ImageContent(type="image", data="AAAA" * 1000, mime_type="image/png"),
            ]

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open_requests += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._open_requests -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Asked(scope)
        messages: list[Message] = []
        while True:
            messages.append(await receive())
            asked.body += messages[-1].get("body", b"")
            if not messages[-1].get("more_body"):
                break
        self.asked.append(asked)
        handler = self.instead(asked)

        async def again() -> Message:
            return messages.pop(0) if messages else await receive()

        await (handler or self._inner)(scope, again, send)

    async def _lives(self, ready: threading.Event) -> None:
        """The life of its sessions, which ends with the last request."""
        async with self._inner.router.lifespan_context(self._inner):
            self._ending = asyncio.Event()
            ready.set()
            await self._ending.wait()
            while self._open_requests:
                await asyncio.sleep(0.005)

    def start(self, port: int = 0) -> None:
        if self._listens_itself:
            self._listener.start(port)
        ready = threading.Event()
        self._life = asyncio.run_coroutine_threadsafe(self._lives(ready), self._listener.loop)
        assert ready.wait(20)
        self._listener.script = self

    def stop(self) -> None:
        if self._life is None:
            return
        self.stopping = True
        self._listener.loop.call_soon_threadsafe(self._ending.set)
        try:
            self._life.result(20)
        finally:
            self._life = self._listener.script = None
            if self._listens_itself:
                self._listener.stop()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[McpScript]:
        await anyio.to_thread.run_sync(self.start)
        try:
            yield self
        finally:
            await anyio.to_thread.run_sync(self.stop)


def answer(status: int, body: bytes = b"", *headers: tuple[str, str]) -> Handler:
    """A handler that answers with this."""

    async def handler(_scope: Scope, _receive: Receive, send: Send) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return handler


def on(method: str, handler: Handler) -> Any:
    """Answer one JSON-RPC method in this way, and leave the others to the server."""
    return lambda asked: handler if asked.rpc == method else None


async def hang(_scope: Scope, receive: Receive, _send: Send) -> None:
    """A handler that does not answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def target(script: McpScript, owner: str = "me", **headers: str) -> Target:
    return Target(owner, script.url, headers, checked=False)
