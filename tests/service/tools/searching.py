"""A scripted web on this machine: a search backend (as SearXNG answers) and pages; and a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiohttp import web

from tests.service.wire import client_of
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings

PATH = "/v1/alpha/search"
SESSION = "0198c0de-0000-7000-8000-000000000001"
LOCAL = ("127.0.0.0/8",)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedWeb:
    """Pages by their paths, and the results that its search has; `calls` are the requests."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self.pages: dict[str, str | bytes | web.Response | Handler] = {}
        self.search: Handler | None = None
        self.calls: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, but for robots.txt."""
        return [call.path for call in self.calls if call.path != "/robots.txt"]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request)
        self.bodies.append(await request.read())
        if request.path == "/search":
            if self.search is not None:
                return await self.search(request)
            return web.json_response({"results": self.results})
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404)
        if isinstance(page, str):
            return web.Response(text=page, content_type="text/html")
        if isinstance(page, bytes):
            return web.Response(body=page, content_type="text/html")
        if isinstance(page, web.Response):
            return web.Response(body=page.body, status=page.status, headers=page.headers)
        return await page(request)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[ScriptedWeb]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert isinstance(site._server, asyncio.Server)
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def result(url: str, title: str = "A title", content: str = "A snippet.") -> dict[str, Any]:
    return {"url": url, "title": title, "content": content}


def settings_of(
    scripted: ScriptedWeb | str,
    *,
    search: Mapping[str, Any] | None = None,
    pages: Mapping[str, Any] | None = None,
    tools: Mapping[str, Any] | None = None,
    clients: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    **server: Any,
) -> Settings:
    """Settings whose backend and pages are those of a scripted web."""
    url = scripted if isinstance(scripted, str) else scripted.url
    section = {
        "allow_private": list(LOCAL),
        "search": {"backend": "searxng", "url": url, **(search or {})},
        "pages": dict(pages or {}),
        **(tools or {}),
    }
    table: dict[str, Any] = {
        "upstreams": {"up": {"base_url": "http://up.test/v1"}},
        "tools": section,
        "server": server,
    }
    if clients is not None:
        table["clients"] = clients
    return read_table(table, environ or {})


class Codex:
    """Asks as Codex does."""

    def __init__(self, client: httpx.AsyncClient, key: str | None = None) -> None:
        self.client = client
        self.headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.session = SESSION
        self.settings: dict[str, Any] = {"external_web_access": True}
        self.input: list[dict[str, Any]] = [{"role": "user", "content": "Find it."}]
        self.max_output_tokens = 2500
        self.results: list[dict[str, Any]] = []

    async def ask(self, **commands: Any) -> str:
        """The output of a request with these commands, which is answered with 200."""
        answer = await self.post(commands)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        self.results = found["results"]
        output: str = found["output"]
        assert output
        return output

    async def post(self, commands: Any) -> httpx.Response:
        body = {
            "id": self.session,
            "model": "m",
            "input": self.input,
            "commands": commands,
            "settings": self.settings,
            "max_output_tokens": self.max_output_tokens,
        }
        return await self.client.post(PATH, content=json.dumps(body), headers=self.headers)


@asynccontextmanager
async def codex_of(
    scripted: ScriptedWeb | Settings, key: str | None = None, **more: Any
) -> AsyncGenerator[Codex]:
    """A Codex on a service with these settings, or those of a scripted web."""
    settings = scripted if isinstance(scripted, Settings) else settings_of(scripted, **more)
    async with client_of(settings) as client:
        yield Codex(client, key)
