"""The check of the tools that the service runs: one search, and the tools of each MCP server."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.util import find_spec

from translator.program.invocation import install_hint
from translator.service.config.mcp import McpServer
from translator.service.config.tools import Search, Tools
from translator.service.tools.addresses import AddressRules
from translator.service.tools.backends import BACKENDS
from translator.service.tools.search import Query, SearchBackend, Searcher, SearchFailed
from translator.service.tools.web import WebClient

from .results import Row

MAX_TOOLS_NAMED = 20
QUERY = "weather"
"""What is searched for: something that every index has."""


def _server_row(server: McpServer, names: list[str], left_out: int, unusable: str) -> Row:
    """The tools of an MCP server."""
    advice = [f"{left_out} more are left out: see max_tools of [tools.mcp]."] if left_out else []
    advice += [f"Some cannot be used: {unusable}."] if unusable else []
    shown = ", ".join(names[:MAX_TOOLS_NAMED]) + (", …" if len(names) > MAX_TOOLS_NAMED else "")
    count = f"{len(names)} tool{'' if len(names) == 1 else 's'}"
    return Row(
        kind="tools",
        name=server.name,
        status="warning" if advice or not names else "ok",
        summary=f"{count}: {shown}" if names else "no tools",
        advice=" ".join(advice),
        details={"tools": names},
    )


def _failed_server(server: McpServer, why: str) -> Row:
    section = f"[tools.mcp.{server.name}]"
    advice = f"See that the server runs, and correct `url` and `key_env` of {section}."
    return Row(kind="tools", name=server.name, status="failed", summary=why, advice=advice)


async def _search_row(backend: SearchBackend, search: Search) -> Row:
    """One search, and its first result."""
    name = f"search with {search.backend}"
    try:
        hits = await backend.search(Query(QUERY, 3, 200), datetime.now(UTC).date())
    except SearchFailed as error:
        known = BACKENDS.get(search.backend)
        setup = known.setup if known is not None and error.is_setup else ""
        advice = setup or "Correct [tools.search]."
        summary = f"the search failed: {error.why}"
        return Row(kind="tools", name=name, status="failed", summary=summary, advice=advice)
    if not hits:
        what = f'no results for "{QUERY}"'
        advice = "See whether the backend has an index, and lets programs ask it."
        return Row(kind="tools", name=name, status="warning", summary=what, advice=advice)
    first = hits[0]
    shown = f"{first.title} ({first.url})" if first.url else first.snippet
    what = f'"{QUERY}" has results; the first: {shown}'
    return Row(kind="tools", name=name, status="ok", summary=what)


async def tool_rows(
    tools: Tools, *, offline: bool, progress: Callable[[str], None] = lambda _line: None
) -> list[Row]:
    """A row for the search, and one for each MCP server."""
    search, mcp = tools.search, tools.mcp
    missing = mcp is not None and any(find_spec(name) is None for name in ("mcp", "httpx2"))
    if missing:
        what = "the packages for it are missing"
        advice = f"Install them with {install_hint('service,tools')}."
        return [Row(kind="tools", name="mcp", status="failed", summary=what, advice=advice)]
    if offline:
        names: list[str] = [] if search is None else [f"search with {search.backend}"]
        names += [] if mcp is None else list(mcp.servers)
        asked = "not asked (--offline)"
        return [Row(kind="tools", name=one, status="skipped", summary=asked) for one in names]
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        backend: SearchBackend | None = None
        if mcp is not None:
            from translator.service.mcp.room import McpRoom  # which imports what few have
            from translator.service.mcp.search import McpSearcher

            room = McpRoom(tools, mcp, now=time.monotonic, own_headers={}, own_ports=())
            await stack.enter_async_context(room.running())
            for server in mcp.servers.values():
                progress(f"tools: {server.name}")
                try:
                    names, left_out, unusable = await room.names(server)
                except room.failures as error:
                    rows.append(_failed_server(server, str(error)))
                else:
                    rows.append(_server_row(server, names, left_out, unusable))
            if search is not None and search.server is not None:
                backend = McpSearcher(search, room)
        if search is not None:
            progress(f"tools: a search with {search.backend}")
            if backend is None:
                web = WebClient(
                    AddressRules(),
                    connect_timeout_s=tools.pages.connect_timeout_s,
                    own_headers={},
                    proxy=tools.limits.proxy,
                )
                web.open()
                stack.push_async_callback(web.aclose)
                backend = Searcher(search, web)
            rows.append(await _search_row(backend, search))
    return rows
