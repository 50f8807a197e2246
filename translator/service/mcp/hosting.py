"""Hosted `mcp` tools: the servers that a request declares, asked before it goes upstream.

    declarations ──► targets ──► lists of tools, calls that the client approves of ──► Hosted
        400            400         424

What the model calls later goes to the same targets, whose secrets stay here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from translator.common.hosted import Approved, Hosted, HostedCall, McpListing, McpTool, Outcome
from translator.common.invalid import decode_at
from translator.common.mcp import McpDeclaration, own_error, read_declarations
from translator.common.tools import Toolset
from translator.common.web_search import arguments_of
from translator.request.mcp_history import PendingCall, listed_in, pending_calls
from translator.request.parse import ParsedRequest
from translator.service.access.client import Client
from translator.service.base.ids import NewId
from translator.service.config.mcp import McpServer
from translator.service.config.tools import ToolsSection
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import ToolName, ToolRan, ToolResult
from translator.service.tools.owners import Owners
from translator.service.turns.hosting import Hosting, ToolRunner
from translator.wire.errors import InvalidRequest, TranslatorError
from translator.wire.json_values import as_object
from translator.wire.mcp import InputMcpListTools

from .failures import ConnectionBroke, McpFailed
from .room import McpRoom
from .servers import CallResult, Target, ToolList, in_words
from .targets import NoSuchServer

T = TypeVar("T")

PRICE = "mcp"
"""The name of a call in prices and in the rights of clients, before a colon and the server's."""

_BY_URL = "*"
"""What stands for a server's name where the client has named its URL: no server is called so."""

_TRIGGER = b'"compaction_trigger"'


class ToolListFailed(TranslatorError):
    """424: the tools of a server that the request declares cannot be listed."""

    status_hint = 424
    type = "external_connector_error"

    def __init__(self, label: str, failure: McpFailed) -> None:
        what = f"Error retrieving tool list from MCP server: '{label}'."
        answered = failure.kind == "http_error" and not isinstance(failure, ConnectionBroke)
        status = f" Http status code: {failure.code}" if answered else ""
        words = f"{status} ({failure.message})" if status else f" {failure.message}"
        super().__init__(f"{what}{words}", param="tools", code="http_error")


class HostedServers:
    """The servers of the settings, beside the hosted search."""

    def __init__(self, limits: ToolsSection, room: McpRoom, owners: Owners, bounds: Hosted) -> None:
        """`bounds` are those of responses with hosted tools."""
        self.inner: Hosting | None = None
        """The search, where there is one."""
        self.room = room
        self.slots = asyncio.Semaphore(limits.max_concurrent_calls)
        self.calls_at_once = limits.max_calls_at_once
        self._owners = owners
        self._bounds = replace(bounds, kinds=frozenset())

    @property
    def call_timeout_s(self) -> float:
        """Longest time for one call of the search, which alone is run without a request of ours."""
        return self.room.limits.call_timeout_s if self.inner is None else self.inner.call_timeout_s

    def hosted_for(self, client: Client | None) -> Hosted | None:
        """What a client may have run that declares no server."""
        return None if self.inner is None else self.inner.hosted_for(client)

    def runner(
        self,
        client: Client | None,
        authorization: str | None,
        tools: Toolset,
        said: Callable[[], bytes],
    ) -> ToolRunner:
        """A runner for a response that declares no server."""
        assert self.inner is not None, "nothing here runs tools"
        return self.inner.runner(client, authorization, tools, said)

    async def for_request(
        self,
        context: RequestContext,
        parsed: ParsedRequest,
        earlier: Sequence[Raw] | None,
        authorization: str | None,
        new_id: NewId,
    ) -> Hosting:
        """What runs the tools of a request: its servers have been asked for theirs.

        Raises InvalidRequest for servers that it may not use, and ToolListFailed.
        """
        request = parsed.request
        declared = read_declarations(request.tools or [])
        given = request.input
        ends = given[-1:] if isinstance(given, list) else ()
        compacts = any(_TRIGGER in bytes(one) for one in ends)
        if not declared or request.generate is False or compacts:
            return self
        limit = self.room.limits.max_servers
        if len(declared) > limit:
            message = f"At most {limit} MCP servers may be declared; there are {len(declared)}."
            raise InvalidRequest(message, param="tools", code="array_above_max_length")
        owner = self._owners.owner(context.client, authorization)
        servers = {
            tool.server_label: _Server(
                self, context, tool, *self._target(context, owner, path, tool)
            )
            for path, tool in declared
        }
        pending = pending_calls(given, earlier or ())
        for call in pending:
            if call.server not in servers:
                raise InvalidRequest(
                    f"The MCP server '{call.server}' of an approved call is not in 'tools'.",
                    param=f"{call.path}.approval_request_id",
                    code="invalid_value",
                )
        known = listed_in(given, earlier or ())
        listings = await _all(
            [one.listing(known.get(label), new_id) for label, one in servers.items()]
        )
        approved = await _all([servers[one.server].approved(one, new_id) for one in pending])
        base = self.hosted_for(context.client) or self._bounds
        hosted = replace(
            base,
            kinds=base.kinds | {"mcp"},
            mcp=dict(zip(servers, listings, strict=True)),
            approved=tuple(approved),
        )
        return _RequestHosting(self, hosted, servers)

    def _target(
        self, context: RequestContext, owner: str, path: str, tool: McpDeclaration
    ) -> tuple[Target, str]:
        """The server of a declaration, and its name in the rights of clients."""
        client, targets, label = context.client, self.room.targets, tool.server_label

        def may(server: McpServer) -> bool:
            if server.clients is not None and (client is None or client.name not in server.clients):
                return False
            return client is None or client.may_call(f"{PRICE}:{server.name}")

        by_url = tool.server_url is not None
        try:
            if tool.server_url is None:
                target = targets.of_operator(owner, label, tool.sent_headers, may)
                return target, f"{PRICE}:{label}"
            right = f"{PRICE}:{_BY_URL}"
            if client is not None and not client.may_call(right):
                raise NoSuchServer("This key may not use MCP servers by their URL.")
            return targets.of_client(owner, tool.server_url, tool.sent_headers), right
        except NoSuchServer as error:
            field = "server_url" if by_url else "server_label"
            raise InvalidRequest(
                str(error), param=f"{path}.{field}", code="invalid_value"
            ) from None


class _Server:
    """A server in one request."""

    def __init__(
        self,
        hosting: HostedServers,
        context: RequestContext,
        declared: McpDeclaration,
        target: Target,
        right: str,
    ) -> None:
        self._hosting = hosting
        self._context = context
        self._declared = declared
        self._target = target
        self.right = right

    async def listing(self, known: Raw | None, new_id: NewId) -> McpListing:
        """Its tools: those of a list that the client has, else those that it has now.

        Raises ToolListFailed.
        """
        if known is not None:
            return _listing_of_client(known)
        item_id = new_id("mcpl_")
        try:
            listed = await self._list()
        except McpFailed as failure:
            if self._hosting.room.limits.list_failure == "fail":
                raise ToolListFailed(self._declared.server_label, failure) from None
            return McpListing((), item_id, failure.message)
        tools = (
            McpTool(
                one.name, one.description, Raw(msgspec.json.encode(one.input_schema)), one.read_only
            )
            for one in listed.tools
        )
        unusable = in_words(listed.unusable)
        return McpListing(tuple(tools), item_id, left_out=listed.left_out, unusable=unusable)

    async def _list(self) -> ToolList:
        began = time.perf_counter()
        result: ToolResult = "left"
        try:
            async with self._hosting.slots:
                listed = await self._hosting.room.servers.tools(self._target)
            result = "completed"
        except McpFailed:
            result = "failed"
            raise
        finally:
            seconds = time.perf_counter() - began
            self._context.observer.on(ToolRan("mcp_list", result, seconds))
        return listed

    async def call(self, name: str, arguments: dict[str, Any]) -> Outcome:
        """What became of a call; a tool that may not be called, or is not there, is not called."""
        servers = self._hosting.room.servers
        try:
            async with self._hosting.slots:
                listed = await servers.tools(self._target)
                tool = next((one for one in listed.tools if one.name == name), None)
                if tool is None or not self._declared.allows(
                    McpTool(tool.name, "", Raw(b"{}"), tool.read_only)
                ):
                    return _refused("The server has no such tool, or it is not allowed.")
                return _outcome(
                    await servers.call(self._target, name, arguments, may_repeat=tool.idempotent)
                )
        except McpFailed as failure:
            text = f"The tool failed: {failure.message}"
            return _outcome(CallResult(text, failure.as_error()))

    async def approved(self, pending: PendingCall, new_id: NewId) -> Approved:
        """A call that the client has approved of, with what became of it."""
        began = time.perf_counter()
        result: ToolResult = "left"
        try:
            outcome = await self._charged(pending)
            result = "failed" if outcome.failed else "completed"
        finally:
            self._context.observer.on(ToolRan("mcp", result, time.perf_counter() - began))
        return Approved(
            pending.id,
            new_id("mcp_"),
            pending.server,
            pending.name,
            pending.arguments,
            outcome,
        )

    async def _charged(self, pending: PendingCall) -> Outcome:
        arguments = arguments_of(pending.arguments)
        if arguments is None:
            return _refused("Not run: the arguments are not a JSON object.")
        try:
            charge = await self._context.charge_for_call(self.right)
        except TranslatorError as error:
            return _refused(f"Not run: {error.message}")
        ran = False
        try:
            outcome = await self.call(pending.name, arguments)
            ran = not outcome.failed
        finally:
            charge.end(ran=ran)
        return outcome


class _RequestHosting:
    """The hosted tools of one request with servers."""

    def __init__(self, hosting: HostedServers, hosted: Hosted, servers: dict[str, _Server]) -> None:
        limits = hosting.room.limits
        self._hosting = hosting
        self._hosted = hosted
        self._servers = servers
        self.calls_at_once = hosting.calls_at_once
        # each kind keeps to its own: this is for both, and for the list before a call
        self.call_timeout_s = limits.call_timeout_s + 2 * limits.list_timeout_s
        if hosting.inner is not None:
            self.call_timeout_s = max(self.call_timeout_s, hosting.inner.call_timeout_s)

    def hosted_for(self, client: Client | None) -> Hosted | None:
        del client
        return self._hosted

    async def for_request(
        self,
        context: RequestContext,
        parsed: ParsedRequest,
        earlier: Sequence[Raw] | None,
        authorization: str | None,
        new_id: NewId,
    ) -> Hosting:
        """Itself: it is for one request."""
        del context, parsed, earlier, authorization, new_id
        return self

    def runner(
        self,
        client: Client | None,
        authorization: str | None,
        tools: Toolset,
        said: Callable[[], bytes],
    ) -> ToolRunner:
        inner = None
        if tools.web_search is not None and self._hosting.inner is not None:
            inner = self._hosting.inner.runner(client, authorization, tools, said)
        return _Runner(self._servers, inner, self._hosting.call_timeout_s)


class _Runner:
    """Runs the calls of one response: those of servers, and those of the search."""

    def __init__(
        self, servers: dict[str, _Server], inner: ToolRunner | None, search_timeout_s: float
    ) -> None:
        self._servers = servers
        self._inner = inner
        self._search_timeout_s = search_timeout_s

    def name_of(self, call: HostedCall) -> ToolName:
        if call.kind == "mcp" or self._inner is None:
            return "mcp"
        return self._inner.name_of(call)

    def charged_as(self, call: HostedCall) -> str | None:
        if call.kind == "mcp":
            return self._servers[call.server].right
        return None if self._inner is None else self._inner.charged_as(call)

    async def run(self, call: HostedCall) -> Outcome:
        if call.kind == "mcp":
            return await self._servers[call.server].call(
                call.name, arguments_of(call.arguments) or {}
            )
        assert self._inner is not None, "no search is declared"
        try:
            async with asyncio.timeout(self._search_timeout_s):
                return await self._inner.run(call)
        except TimeoutError:
            text = f"The tool took more than {self._search_timeout_s:g} s. Answer without it."
            return Outcome((text,), failed=True)


def _outcome(result: CallResult) -> Outcome:
    error = None if result.error is None else Raw(msgspec.json.encode(result.error))
    return Outcome((result.text,), failed=error is not None, error=error)


def _refused(message: str) -> Outcome:
    return Outcome((message,), failed=True, error=own_error(message))


def _listing_of_client(raw: Raw) -> McpListing:
    """The tools of a list that the client sends back, which serves for declaring alone."""
    tools: list[McpTool] = []
    for one in decode_at(raw, InputMcpListTools, "input").tools:
        hints = as_object(one.annotations) or {}
        read_only = hints.get("read_only")
        tools.append(
            McpTool(
                one.name,
                one.description or "",
                one.input_schema,
                read_only if isinstance(read_only, bool) else None,
            )
        )
    return McpListing(tuple(tools))


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, run at once; with the first failure the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
