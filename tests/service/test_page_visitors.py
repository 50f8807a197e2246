"""Who sees the page at `/`: this machine, unless the setting says otherwise, and no other site."""

from __future__ import annotations

from typing import Any

import pytest

from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.page.visitors import Visitor

from .test_page import OURS, Elements, settings_of
from .wire import MODELS, client_of

pytestmark = pytest.mark.anyio


async def test_there_is_a_page_where_only_this_machine_can_reach_the_service() -> None:
    async with client_of(settings_of("http://up.test")) as client:
        answer = await client.get("/", headers=OURS)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        found = Elements(answer.text)
        assert "http://127.0.0.1:8080/v1" in found.text
        assert "small" in found.text
        assert "org/large" in found.text
        for name, kind in (
            ("style.css", "text/css"),
            ("script.js", "text/javascript"),
            ("icon.svg", "image/svg"),
        ):
            file = await client.get(f"/page/{name}", headers=OURS)
            assert file.status_code == 200
            assert file.headers["content-type"].startswith(kind)
        for path in ("/", "/page/live", "/page/content"):
            head = await client.head(path, headers=OURS)
            assert (head.status_code, head.content) == (200, b"")
        for path in ("/page/nothing", "/page/../x", "/page/", "/page"):
            assert (await client.get(path, headers=OURS)).status_code == 404
        assert (await client.post("/", headers=OURS)).status_code == 404


@pytest.mark.parametrize(
    ("server", "keys", "status"),
    [
        ({}, False, 200),
        ({"host": "localhost"}, False, 200),
        ({"host": "0.0.0.0"}, False, 404),
        ({"status_page": False}, False, 404),
        ({"host": "0.0.0.0", "status_page": True}, False, 200),
        ({}, True, 401),
        ({"status_page": False}, True, 401),
        ({"status_page": True}, True, 200),
    ],
)
async def test_the_setting_decides(server: dict[str, Any], keys: bool, status: int) -> None:
    table: dict[str, Any] = {"server": server, "upstreams": {"up": {"base_url": "http://up.test"}}}
    table["models"] = MODELS
    if keys:
        table["clients"] = {"a": {"keys": [str(store(new_key()))]}}
    async with client_of(read_table(table, {})) as client:
        assert (await client.get("/", headers=OURS)).status_code == status
        assert (await client.get("/page/style.css", headers=OURS)).status_code == status


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "a b",
        "127.0.0.1:8080/x",
        "[::2]",
    ],
)
async def test_a_name_that_is_not_of_this_machine_gets_nothing(host: str) -> None:
    """A page of another site that forges the name of the service (DNS rebinding) is one of those."""
    async with client_of(settings_of("http://up.test")) as client:
        for path in ("/", "/page/live", "/page/content", "/page/style.css"):
            assert (await client.get(path, headers={"host": host})).status_code == 404
    async with client_of(settings_of("http://up.test", status_page=True)) as client:
        answer = await client.get("/", headers={"host": host})
        assert answer.status_code == 200
        assert "browsers on this machine only" in answer.text
        live = await client.get("/page/live", headers={"host": host})
        assert (live.status_code, live.json()["error"]["code"]) == (403, "page_refused")


OTHER_SITES = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:8080"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", OTHER_SITES)
@pytest.mark.parametrize("cors", [(), ("*",), ("https://evil.example",)])
async def test_no_page_of_another_origin_reads_it(
    headers: dict[str, str], cors: tuple[str, ...]
) -> None:
    """Whatever `cors_origins` says of the API."""
    async with client_of(settings_of("http://up.test", cors_origins=cors)) as client:
        for path in ("/", "/page/live", "/page/content"):
            answer = await client.get(path, headers=OURS | headers)
            assert answer.status_code == 403, path
            assert answer.json()["error"]["code"] == "origin_not_allowed"
            assert "access-control-allow-origin" not in answer.headers


async def test_a_link_from_another_site_opens_the_page_but_frames_nothing() -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    async with client_of(settings_of("http://up.test", cors_origins=("*",))) as client:
        opened = await client.get("/", headers=OURS | link | {"sec-fetch-dest": "document"})
        assert opened.status_code == 200
        assert "access-control-allow-origin" not in opened.headers
        framed = await client.get("/", headers=OURS | link | {"sec-fetch-dest": "iframe"})
        assert framed.status_code == 403


async def test_the_browser_is_told_to_run_nothing_else() -> None:
    async with client_of(settings_of("http://up.test")) as client:
        answer = await client.get("/", headers=OURS)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        found = Elements(answer.text)
        assert found.names.count("script") == 1
        assert "style" not in found.names
        inline = [name for name, _ in found.attributes if name == "style" or name.startswith("on")]
        assert inline == []


LOCAL = ("127.0.0.1", OURS)


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        (*LOCAL, True),
        ("127.9.9.9", {"host": "localhost"}, True),
        ("::1", {"host": "[::1]:8080"}, True),
        ("::ffff:127.0.0.1", {"host": "service.localhost:1"}, True),
        ("10.1.2.3", OURS, False),
        ("", OURS, False),
        ("::ffff:10.1.2.3", OURS, False),
        ("127.0.0.1", {"host": "llm.example.org"}, False),
        ("127.0.0.1", {}, False),
        *[
            ("127.0.0.1", OURS | {name: "1"}, False)
            for name in ("x-forwarded-for", "Forwarded", "via", "x-real-ip")
        ],
    ],
)
def test_who_is_on_this_machine(peer: str, headers: dict[str, str], local: bool) -> None:
    visitor = Visitor.of(peer, [(name.encode(), value.encode()) for name, value in headers.items()])
    assert visitor.is_local is local


def test_two_hosts_are_none() -> None:
    assert not Visitor.of("127.0.0.1", [(b"host", b"localhost"), (b"host", b"localhost")]).is_local
