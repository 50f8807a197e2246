"""A service whose scripted model calls tools of a real MCP server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.rounds import REQUEST as SEARCHING
from tests.rounds import call
from tests.service.tools.hosting import Model
from tests.service.wire import ScriptedUpstream, client_of, serving
from translator.service.base.drain import Drain
from translator.service.config.loading import read_table
from translator.service.server.observers import observing

from .serving import McpScript

SECRETS = ("planted-token", "planted-header", "planted-query")


def declared(script: McpScript, **more: Any) -> dict[str, Any]:
    """A declaration of a server by its URL, with secrets in all places."""
    return {
        "type": "mcp",
        "server_label": "math",
        "server_url": f"{script.url}?key=planted-query",
        "authorization": "planted-token",
        "headers": {"x-key": "planted-header"},
        "require_approval": "never",
        **more,
    }


def asking(script: McpScript, *tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request with one server, and further tools."""
    return {**SEARCHING, "tools": [declared(script, **more), *tools]}


def add(call_id: str | None = None, a: int = 1, b: int = 2) -> dict[str, Any]:
    return call("math__add", call_id, a=a, b=b)


@asynccontextmanager
async def hosting(
    model: Model,
    script: McpScript,
    *,
    mcp: Mapping[str, Any] | None = None,
    tools: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    on_socket: bool = False,
    observe: Any = None,
    drain: Drain | None = None,
    **server: Any,
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a service that lets this server's URL be named."""
    async with ScriptedUpstream().running() as upstream:
        upstream.script = model
        table: dict[str, Any] = {
            "server": server,
            "upstreams": {"up": {"base_url": upstream.url}},
            "tools": {
                "allow": [f"http://127.0.0.1:{script.port}/mcp"],
                "allow_private": ["127.0.0.0/8"],
                **({"mcp": mcp} if mcp is not None else {}),
                **(tools or {}),
            },
            **(more or {}),
        }
        settings = read_table(table, environ or {})
        if on_socket:
            async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as one:
                yield one
        else:
            with observing(settings, None) as captures:
                async with client_of(settings, observe=observe or captures, drain=drain) as one:
                    yield one
