"""`POST /v1/alpha/search`: the search of Codex, run here, where the settings have a backend.

Codex gives an error to the model as it gives it a result, so only what is no such request is one;
all that becomes of its commands is said in the answer.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from translator.service.access.client import Ask, Client
from translator.service.base.hops import HEADER, Hops
from translator.service.config.settings import Server
from translator.service.config.tools import Search, Tools
from translator.service.observe.observer import ToolRan
from translator.service.telemetry.shared_metrics import FOLDER
from translator.service.tools.commands import SearchTool
from translator.service.tools.hosted import HostedTools
from translator.service.tools.owners import Owners
from translator.service.tools.request import SearchRequest, number_of_searches, read_request
from translator.service.turns.dispatcher import Dispatcher
from translator.wire.errors import InvalidRequest, NotFound

from .exchange import Exchange
from .mcp_layer import own_ports
from .wanted_body import wanted_body

if TYPE_CHECKING:
    from translator.service.mcp.room import McpRoom

SEARCH = "search"
"""The tool in the rights of clients."""

_NOT_FOR_THIS_KEY = (
    "Web search is not allowed for this key: go on without a search. In Codex,"
    ' set `web_search = "disabled"` in config.toml.'
)


class SearchEndpoint:
    """The endpoint, and the tool behind it."""

    def __init__(self, tool: SearchTool, dispatcher: Dispatcher, owners: Owners) -> None:
        self._tool = tool
        self._dispatcher = dispatcher
        self._owners = owners

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The tool can be used while the context lasts."""
        self._tool.open()
        try:
            yield
        finally:
            await self._tool.aclose()

    async def post(self, exchange: Exchange) -> None:
        client = exchange.context.client
        if not self._may_search(client):
            raise NotFound(_NOT_FOR_THIS_KEY, param=None, code="unsupported_endpoint")
        body = await wanted_body(exchange, self._dispatcher)
        with self._dispatcher.slot(client):
            request = _read(body)
            await exchange.context.charge_for(
                Ask(
                    size=len(body),
                    path=exchange.path,
                    request_id=exchange.record.request_id,
                    tool=SEARCH,
                    calls=0 if isinstance(request, InvalidRequest) else number_of_searches(request),
                )
            )
            if isinstance(request, InvalidRequest):
                raise request  # now that it is charged for
            exchange.record.model = request.model
            await exchange.while_connected(self._respond(exchange, request))

    def _may_search(self, client: Client | None) -> bool:
        if client is None:
            return self._tool.may_search(None)
        return client.may_call(SEARCH) and self._tool.may_search(client.name)

    async def _respond(self, exchange: Exchange, request: SearchRequest) -> None:
        runs: list[ToolRan] = []
        try:
            owner = self._owners.owner(exchange.context.client, exchange.authorization())
            answer = await self._tool.run(owner, request, runs)
        finally:
            exchange.context.calls = sum(
                one.tool == "search" and one.result == "completed" for one in runs
            )
        for one in runs:
            exchange.context.observer.on(one)
        exchange.record.remarks = _summary(runs)
        await exchange.whole(200, msgspec.json.encode(answer))


def search_endpoint(
    server: Server,
    tools: Tools,
    search: Search,
    dispatcher: Dispatcher,
    hops: Hops,
    mcp: McpRoom | None,
) -> SearchEndpoint:
    """The endpoint of settings with a search, which the dispatcher has for responses, too."""
    backend = None
    if search.server is not None and mcp is not None:
        from translator.service.mcp.search import McpSearcher  # few search in this way

        backend = McpSearcher(search, mcp)
    tool = SearchTool(
        tools,
        search,
        now=dispatcher.bounds.timer,
        clock=dispatcher.clock,
        own_headers={HEADER: hops.forwarded(())},
        own_ports=own_ports(server),
        shared_folder=shared_folder(),
        backend=backend,
    )
    owners = Owners(str(shared_folder() or secrets.token_hex(16)).encode()[-32:])
    if tools.limits.hosted_search:
        dispatcher.hosting = HostedTools(tools, search, tool, owners)
    return SearchEndpoint(tool, dispatcher, owners)


def shared_folder() -> Path | None:
    """The folder of all workers of one parent, whose name is random; None for a single process."""
    name = os.environ.get(FOLDER)
    return Path(name) if name else None


def _read(body: bytes) -> SearchRequest | InvalidRequest:
    """The request, or why the body is none."""
    try:
        return read_request(body)
    except InvalidRequest as error:
        return error


def _summary(runs: list[ToolRan]) -> str:
    """What was run, for the log: a number for each tool, and how many did not end well."""
    counts = Counter(run.tool for run in runs)
    words = [f"{tool}={count}" for tool, count in counts.items()]
    failed = sum(run.result != "completed" for run in runs)
    return "; ".join([",".join(words), *([f"{failed} without result"] if failed else [])])
