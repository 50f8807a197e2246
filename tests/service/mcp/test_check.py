"""`translator check`: the tools of each server, and one search."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tests.service.tools.searching import ScriptedWeb, result
from translator.check.tools import tool_rows
from translator.service.config.loading import read_table
from translator.service.config.tools import Tools

from .serving import McpScript, answer

pytestmark = pytest.mark.anyio


def tools_of(section: dict[str, Any]) -> Tools:
    table = {"upstreams": {"up": {"base_url": "http://up.test/v1"}}, "tools": section}
    tools = read_table(table, {}).tools
    assert tools is not None
    return tools


async def test_the_tools_of_each_server_are_listed(script: McpScript) -> None:
    async with McpScript().running() as other:
        other.instead = lambda _asked: answer(401)
        section = {"mcp": {"good": {"url": script.url}, "bad": {"url": other.url}}}
        good, bad = await tool_rows(tools_of(section), offline=False)
    assert (good.name, good.status) == ("good", "ok")
    assert good.summary == "6 tools: add, write, sleep, fail, repeat, picture"
    assert good.details == {"tools": ["add", "write", "sleep", "fail", "repeat", "picture"]}
    assert (bad.name, bad.status) == ("bad", "failed")
    assert (bad.summary, bad.advice) == (
        "The server answered with HTTP 401.",
        "See that the server runs, and correct `url` and `key_env` of [tools.mcp.bad].",
    )
    assert script.methods == ["initialize", "tools/list"]


async def test_tools_that_are_left_out_are_a_warning(script: McpScript) -> None:
    section = {"mcp": {"max_tools": 2, "one": {"url": script.url}}}
    [row] = await tool_rows(tools_of(section), offline=False)
    assert (row.status, row.summary) == ("warning", "2 tools: add, write")
    assert row.advice == "4 more are left out: see max_tools of [tools.mcp]."


async def test_one_search_is_run() -> None:
    async with ScriptedWeb().running() as scripted:
        section = {"search": {"backend": "searxng", "url": scripted.url}}
        scripted.results = [result("https://a.com/1", "One")]
        [row] = await tool_rows(tools_of(section), offline=False)
        assert (row.status, row.name) == ("ok", "search with searxng")
        assert row.summary == '"weather" has results; the first: One (https://a.com/1)'
        scripted.results = []
        [row] = await tool_rows(tools_of(section), offline=False)
        assert (row.status, row.summary) == ("warning", 'no results for "weather"')
    [row] = await tool_rows(tools_of(section), offline=False)
    assert row.status == "failed"
    assert row.summary.startswith("the search failed: its server could not be reached")
    assert row.advice == "Correct [tools.search]."


@pytest.mark.parametrize("status", [200, 403])
async def test_a_searxng_that_answers_no_json_is_explained(status: int) -> None:
    """Its own settings have only HTML: it refuses JSON, or something in front answers with a page."""

    async def page(request: web.Request) -> web.Response:
        del request
        return web.Response(status=status, text="<html>", content_type="text/html")

    async with ScriptedWeb().running() as scripted:
        scripted.search = page
        section = {"search": {"backend": "searxng", "url": scripted.url}}
        [row] = await tool_rows(tools_of(section), offline=False)
    why = "HTTP 403" if status == 403 else "the answer is not JSON"
    assert (row.status, row.summary) == ("failed", f"the search failed: {why}")
    assert row.advice == "Put json among the search.formats of its settings.yml."


async def test_a_search_by_a_tool_is_run(script: McpScript) -> None:
    section = {
        "mcp": {"web": {"url": script.url}},
        "search": {"backend": "mcp", "server": "web", "tool": "write", "query_argument": "text"},
    }
    server, search = await tool_rows(tools_of(section), offline=False)
    assert (server.status, search.status) == ("ok", "ok")
    assert search.summary == '"weather" has results; the first: written: weather'


async def test_nothing_is_asked_offline(script: McpScript) -> None:
    section = {
        "mcp": {"web": {"url": script.url}},
        "search": {"backend": "searxng", "url": script.url},
    }
    rows = await tool_rows(tools_of(section), offline=True)
    assert [(row.name, row.status) for row in rows] == [
        ("search with searxng", "skipped"),
        ("web", "skipped"),
    ]
    assert script.asked == []


async def test_without_the_sdk_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("translator.check.tools.find_spec", lambda _name: None)
    [row] = await tool_rows(tools_of({"allow": ["https://a.example"]}), offline=False)
    assert row.status == "failed"
    assert "tools" in row.advice
