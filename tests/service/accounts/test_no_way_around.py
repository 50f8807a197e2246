"""Whatever is done for a client and costs the operator something has a hold, on every path."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.service.responses_api import PATH
from tests.service.tools.searching import SESSION, ScriptedWeb, settings_of
from tests.service.websocket.client import ask as ask_on_socket
from tests.service.websocket.client import open_socket
from tests.service.wire import BOUND_S, serving
from translator.service.config.store import read_store
from translator.service.http.router import Endpoint, PathRouter
from translator.service.tools.web import WebClient
from translator.service.upstreams.client import Upstreams

from .paying import ASK, ASK_CHAT, ON_SQLITE, USAGE, Books, answering, bearer

pytestmark = pytest.mark.anyio

FREE = ("/account", "/conversations", "/responses/{id}/cancel")
"""Beginnings of paths with a POST behind which nothing is asked for anybody."""


@ON_SQLITE
async def test_no_way_around(books: Books, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With all that can be served: each POST of the routes either holds, or sends nothing out."""
    held: list[bool] = []
    paths: dict[str, Endpoint] = {}
    real_open, real_fetch, real_router = Upstreams.open, WebClient._fetch, PathRouter.__init__

    def now() -> None:
        held.append(bool(books.rows("SELECT id FROM acct_holds")))

    async def opened(self: Upstreams, *args: Any, **more: Any) -> Any:
        if more.get("body") is not None:
            now()
        return await real_open(self, *args, **more)

    async def fetched(self: WebClient, *args: Any, **more: Any) -> Any:
        now()
        return await real_fetch(self, *args, **more)

    def routed(self: PathRouter, found: dict[str, Endpoint], **more: Any) -> None:
        paths.update(found)
        real_router(self, found, **more)

    monkeypatch.setattr(Upstreams, "open", opened)
    monkeypatch.setattr(WebClient, "_fetch", fetched)
    monkeypatch.setattr(PathRouter, "__init__", routed)
    books.account(balance="1")
    books.price()
    key = books.key()
    books.upstream.script = answering(USAGE)
    search = {
        "id": SESSION,
        "model": "m",
        "input": [],
        "commands": {"search_query": [{"q": "x"}]},
    }
    requests: dict[str, dict[str, Any]] = {
        "/responses": ASK,
        "/responses/compact": ASK,
        "/responses/input_tokens": ASK,
        "/chat/completions": ASK_CHAT,
        "/alpha/search": search,
    }
    store = read_store({"url": f"sqlite:///{tmp_path / 'store.db'}"}, tmp_path, {}, [])
    async with ScriptedWeb().running() as web:
        settings = msgspec.structs.replace(
            books.settings(lease_s=60), tools=settings_of(web).tools, store=store
        )
        async with serving(settings) as url:
            async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
                for path, fields in requests.items():
                    for prefix in ("/v1", ""):
                        answer = await client.post(
                            f"{prefix}{path}", json=fields, headers=bearer(key)
                        )
                        assert answer.status_code == 200, (path, answer.text)
                made = await client.post(
                    PATH, json=ASK | {"background": True, "store": True}, headers=bearer(key)
                )
                assert made.status_code == 200
                async with asyncio.timeout(BOUND_S):
                    while len(books.usages()) < 11:
                        await asyncio.sleep(0.01)
            async with open_socket(url, key) as socket:
                await ask_on_socket(socket)
    assert len(held) >= 10
    assert all(held)
    assert len(books.usages()) == 12
    posts = {path.removeprefix("/v1") for path, one in paths.items() if "POST" in one._methods}
    posts -= {path for path in posts if path.startswith(FREE)}
    assert posts == set(requests), "a new path that may cost something"
