"""A session with one server, for one client: opened, asked several things at once, closed.

    opened ──► { list | call } ──► retired ──► closed

The SDK's session belongs to the task that has opened it, which here is one of its own. A session
that a call has not ended well on (too late, cancelled) is retired: it gets no further requests, and
its connections are closed as soon as the others are done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

import httpx2
import mcp_types
from mcp.client.session import ClientSession, IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from translator.service.base.version import VERSION

from .failures import (
    MAX_MESSAGE_CHARACTERS,
    ConnectionBroke,
    McpFailed,
    SessionLost,
    broken,
    refused,
    too_late,
    unreadable,
)
from .listed import ToolsApart, tools_in
from .text import harmless_text
from .transport import McpTransport, failure_in

T = TypeVar("T", bound=mcp_types.Result)

CANCEL_S = 0.8
"""How long a call that is cancelled waits for the server to be told so."""

FAREWELL_S = 0.5
"""How long a session that is closed waits for its last notification."""

_INFO = mcp_types.Implementation(name="translator", version=VERSION)
_HANDSHAKE_IS_OVER = frozenset({mcp_types.METHOD_NOT_FOUND, mcp_types.UNSUPPORTED_PROTOCOL_VERSION})
"""Errors of servers that have no `initialize` any more (protocol of 2026-07-28)."""

_STREAM_FAILED = "SSE stream failed: "
_BROKE_OFF = ("Connection closed", "SSE stream ended")
_UNPARSED = ("Failed to parse JSON response: ", "Failed to parse SSE message: ")
"""How the SDK's own errors begin; what follows the first are words of our transport, and what
follows the last are those of a library, with parts of the answer."""

for _name in ("mcp", "httpx2"):  # they log URLs, and what servers send: either may be a secret
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class McpSession:
    """One session. Its errors are McpFailed."""

    def __init__(
        self, url: str, headers: Mapping[str, str], transport: McpTransport, max_bytes: int
    ) -> None:
        self._url = url
        self._headers = headers
        self._transport = transport
        self._max_bytes = max_bytes
        self._session: ClientSession | None = None
        self._opened = asyncio.Event()
        self._closing = asyncio.Event()
        self._failure: McpFailed | None = None
        self._owner: asyncio.Task[None] | None = None
        self._users = 0
        self._abandoned: set[asyncio.Task[Any]] = set()
        self.retired = False
        """Whether it takes no further requests."""

        self._when_closed: Callable[[McpSession], None] = _nothing

    def when_closed(self, call: Callable[[McpSession], None]) -> None:
        """Have something called when its connections are closed."""
        self._when_closed = call

    async def open(self, seconds: float) -> None:
        self._owner = asyncio.create_task(self._own())
        try:
            async with asyncio.timeout(seconds):
                await self._opened.wait()
        except TimeoutError:
            await self.aclose()
            raise too_late(seconds) from None
        except BaseException:
            await self.aclose()
            raise
        if self._session is None:
            await self.aclose()
            raise self._failure or broken("The server has ended the session.")

    async def aclose(self) -> None:
        """Close the session and its connections; what is under way on it fails."""
        self.retire()
        self._closing.set()
        tasks = [*self._abandoned, *([self._owner] if self._owner else [])]
        if self._session is None:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=FAREWELL_S + CANCEL_S)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def retire(self) -> None:
        """Take no further requests, and close when those under way are done."""
        self.retired = True
        if not self._users:
            self._closing.set()

    async def tools(self, cursor: str | None, seconds: float) -> tuple[list[Any], str | None]:
        """A page of the server's list of tools, as they came, and the cursor of the next one."""
        params = mcp_types.PaginatedRequestParams(cursor=cursor)
        request = mcp_types.ListToolsRequest(params=params)
        page = await self._ask(request, mcp_types.ListToolsResult, seconds)
        return tools_in(page), page.next_cursor

    async def call(
        self, name: str, arguments: dict[str, object], seconds: float
    ) -> mcp_types.CallToolResult:
        """The result of a tool. The server is told when nobody waits for it any more."""
        params = mcp_types.CallToolRequestParams(name=name, arguments=arguments)
        request = mcp_types.CallToolRequest(params=params)
        return await self._ask(request, mcp_types.CallToolResult, seconds)

    async def _ask(self, request: mcp_types.ClientRequest, result: type[T], seconds: float) -> T:
        session = self._session
        if session is None or self.retired:
            raise broken("The server has ended the session.")
        self._users += 1
        task = asyncio.create_task(session.send_request(request, result))
        try:
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                raise too_late(seconds)
            return task.result()
        except McpFailed:
            raise
        except Exception as error:
            raise self._meant(error) from None
        finally:
            if not task.done():
                await self._abandon(task)
            self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if self.retired:
            self.retire()

    async def _abandon(self, task: asyncio.Task[T]) -> None:
        """Cancel a request, which tells the server so, and wait for that only so long."""
        self.retired = True
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=CANCEL_S)

    def _failed(self, error: MCPError) -> McpFailed:
        """The failure that an error of the SDK stands for."""
        failure = failure_in(error)
        if failure is None and error.message.startswith(_STREAM_FAILED):
            failure = refused(error.message.removeprefix(_STREAM_FAILED))
        elif failure is None and error.message.startswith(_BROKE_OFF):
            failure = unreadable("The server broke off its answer.")
        elif failure is None and error.message.startswith(_UNPARSED):
            failure = unreadable("The server's answer is not one of the protocol.")
        if failure is None:
            words = harmless_text(error.message, MAX_MESSAGE_CHARACTERS)
            return McpFailed("mcp_protocol_error", error.code, words or "The server has failed.")
        if isinstance(failure, SessionLost | ConnectionBroke):
            self.retire()
        return failure

    async def _own(self) -> None:
        """Open the session, keep it until it is to be closed, and close it."""
        try:
            async with (
                httpx2.AsyncClient(
                    transport=self._transport,
                    headers=dict(self._headers),
                    timeout=None,
                    max_redirects=0,
                    trust_env=False,
                ) as http,
                streamable_http_client(
                    self._url, http_client=http, max_sse_event_size=self._max_bytes
                ) as (reading, writing),
                ClientSession(
                    ToolsApart(reading), writing, client_info=_INFO, message_handler=_ignore
                ) as session,
            ):
                await _greet(session)
                self._session = session
                self._opened.set()
                await self._closing.wait()
                await self._transport.notified(FAREWELL_S)
        except Exception as error:
            self._failure = self._meant(error)
        finally:
            self.retired = True
            self._opened.set()
            self._when_closed(self)

    def _meant(self, error: Exception) -> McpFailed:
        """The failure behind an error of the SDK, which may be in groups of its tasks."""
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = cast("BaseExceptionGroup[BaseException]", first).exceptions[0]
        if isinstance(first, MCPError):
            return self._failed(first)
        return unreadable("The server's answer is not one of the protocol.")


async def _greet(session: ClientSession) -> None:
    """Begin a session, in the way that nearly every server knows, else in the newer one."""
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in _HANDSHAKE_IS_OVER or failure_in(error) is not None:
            raise
        await session.discover()


def _nothing(_session: McpSession) -> None:
    pass


async def _ignore(message: IncomingMessage) -> None:
    """What a server says unasked: progress, logs, news of its lists."""
