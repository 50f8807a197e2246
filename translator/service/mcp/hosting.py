"""Hosted `mcp` tools: the servers that a request declares, asked before it goes upstream.

    declarations ──► targets ──► lists of tools, calls that the client approves of ──► Hosted
        400            400         424

What the model calls later goes to the same targets, whose secrets stay here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from msgspec import Raw
from msgspec.structs import replace

from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.common.mcp import McpDeclaration, read_declarations
from translator.common.tools import Toolset
from translator.common.web_search import arguments_of
from translator.request.mcp_history import listed_in, pending_calls
from translator.request.parse import ParsedRequest
from translator.service.access.client import Client
from translator.service.base.ids import NewId
from translator.service.config.mcp import McpServer
from translator.service.config.tools import ToolsSection
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import ToolName
from translator.service.tools.owners import Owners
from translator.service.turns.hosting import Hosting, ToolRunner
from translator.wire.errors import InvalidRequest

from .requested import RequestedServer
from .room import McpRoom
from .servers import Target
from .slots import CallSlots
from .targets import NoSuchServer

T = TypeVar("T")

PRICE = "mcp"
"""The name of a call in prices and in the rights of clients, before a colon and the server's."""

_BY_URL = "*"
"""What stands for a server's name where the client has named its URL: no server is called so."""

_TRIGGER = b'"compaction_trigger"'


class HostedServers:
    """The servers of the settings, beside the hosted search."""

    def __init__(self, limits: ToolsSection, room: McpRoom, owners: Owners, bounds: Hosted) -> None:
        """`bounds` are those of responses with hosted tools."""
        self.inner: Hosting | None = None
        """The search, where there is one."""
        self.room = room
        self.slots = CallSlots(limits.max_concurrent_calls)
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
            tool.server_label: RequestedServer(
                self.room,
                self.slots,
                context,
                path,
                tool,
                *self._target(context, owner, path, tool),
            )
            for path, tool in declared
        }
        pending, ran_before = pending_calls(given, earlier or ())
        for call in pending:
            why = "is not in 'tools'" if call.server not in servers else ""
            if not why and call.target not in ("", servers[call.server].target):
                why = "has another URL in 'tools' than when the client was asked"
            if why:
                raise InvalidRequest(
                    f"The MCP server '{call.server}' of an approved call {why}.",
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
            approved=(*ran_before, *approved),
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


class _RequestHosting:
    """The hosted tools of one request with servers."""

    def __init__(
        self, hosting: HostedServers, hosted: Hosted, servers: dict[str, RequestedServer]
    ) -> None:
        limits = hosting.room.limits
        self._hosting = hosting
        self._hosted = hosted
        self._servers = servers
        self.calls_at_once = hosting.calls_at_once
        # each kind keeps to its own: this is for both, for a slot, and for the list before a call
        self.call_timeout_s = 2 * (limits.call_timeout_s + limits.list_timeout_s)
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
        self, servers: dict[str, RequestedServer], inner: ToolRunner | None, search_timeout_s: float
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
