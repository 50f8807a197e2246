"""A tool of an MCP server as the backend of the search."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.rounds import REQUEST, call, says, turn
from tests.service.tools.hosting import Model, events_of, items_of
from tests.service.tools.searching import Codex, codex_of
from translator.service.config.loading import read_table
from translator.service.mcp.search import read_results
from translator.service.mcp.servers import CallResult
from translator.service.tools.domains import Domains
from translator.service.tools.search import Hit, Query

from .hosting import hosting
from .serving import McpScript

pytestmark = pytest.mark.anyio

KEY = "planted-key-of-the-server"


def searching(script: McpScript, **search: Any) -> Any:
    table = {
        "upstreams": {"up": {"base_url": "http://up.test/v1"}},
        "tools": {
            "mcp": {"web": {"url": script.url, "key_env": "KEY"}},
            "search": {"backend": "mcp", "server": "web", "tool": "find", **search},
        },
    }
    return codex_of(read_table(table, {"KEY": KEY}))


async def test_a_tool_is_the_backend(script: McpScript) -> None:
    asked: list[str] = []

    @script.tools.tool(structured_output=False)
    def find(words: str) -> str:
        asked.append(words)
        return json.dumps(
            [
                {"url": "https://a.com/1", "title": "One <|x|>", "snippet": "first"},
                {"link": "https://b.com"},
            ]
        )

    codex: Codex
    async with searching(script, query_argument="words") as codex:
        output = await codex.ask(search_query=[{"q": "cats", "domains": ["a.com"]}])
    assert asked == ["cats site:a.com"]
    assert script.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert codex.results == [
        {
            "ref_id": codex.results[0]["ref_id"],
            "url": "https://a.com/1",
            "title": "One <\u200d|x|\u200d>",
        }
    ]
    assert "(https://a.com/1)\nfirst" in output
    assert "b.com" not in output


async def test_text_without_urls_claims_no_source(script: McpScript) -> None:
    @script.tools.tool(structured_output=False)
    def find(query: str) -> str:
        return f"All about {query}.\nIn lines."

    codex: Codex
    async with searching(script) as codex:
        output = await codex.ask(search_query=[{"q": "cats"}])
    assert codex.results == []
    assert output.endswith("All about cats.\nIn lines.")


async def test_the_hosted_search_cites_no_text_without_urls(script: McpScript) -> None:
    """Nor may a line of the text look like a result."""

    @script.tools.tool(structured_output=False)
    def find(query: str) -> str:
        return f"All about {query}.\n[1] In lines."

    model = Model(turn(call("web_search", query="cats")), says("All [1]."))
    request = {**REQUEST, "include": ["web_search_call.action.sources", "web_search_call.results"]}
    tools = {"search": {"backend": "mcp", "server": "web", "tool": "find"}}
    mcp = {"web": {"url": script.url}}
    async with hosting(model, script, mcp=mcp, tools=tools) as client:
        events = await events_of(client, request)
    [text] = model.tool_messages(1)
    assert text.endswith("\nAll about cats.\n [1] In lines.\n")
    [searched] = items_of(events, "web_search_call")
    assert (searched["status"], searched["action"]["sources"]) == ("completed", [])
    assert searched["results"] == []
    [message] = items_of(events, "message")
    assert message["content"][0]["annotations"] == []


async def test_a_tool_that_fails_is_a_sentence(script: McpScript) -> None:
    async with searching(script) as codex:
        output = await codex.ask(search_query=[{"q": "cats"}])
    assert "The search failed (" in output


async def test_a_slow_tool_is_a_sentence(script: McpScript) -> None:
    async with searching(script, tool="sleep", query_argument="seconds", timeout_s=0.5) as codex:
        output = await codex.ask(search_query=[{"q": "60"}])
    assert "it took more than 0.5 s" in output


QUERY = Query("cats", 5, 100)
A, B = "https://a.com/1", "https://b.com/2"


@pytest.mark.parametrize(
    ("text", "structured", "expected"),
    [
        ("", {"results": [{"url": A, "title": "One", "content": "c", "date": "2026"}]}, [Hit(A, "One", "c", "2026")]),
        ("", {"result": {"items": [{"uri": A, "name": "One"}]}}, [Hit(A, "One", "", "")]),
        (json.dumps({"data": [{"href": A, "headline": "One", "body": "b"}]}), None, [Hit(A, "One", "b", "")]),
        (f"Title: One\nURL: {A}\nDescription: first\nmore\n\nTitle: Two\nURL: {B}", None, [Hit(A, "One", "first more", ""), Hit(B, "Two", "", "")]),
        (f"URL: {A}\nURL: {B}\nPublished: 2026", None, [Hit(A, A, "", ""), Hit(B, B, "", "2026")]),
        (f"**Title:** One\n**Link:** {A}", None, [Hit(A, "One", "", "")]),
        ("Title: One\nno URL", None, [Hit("", "", "Title: One\nno URL", "")]),
        (f"See [One]({A}) and {B}.", None, [Hit("", "", f"See [One]({A}) and {B}.", ""), Hit(A, "One", "", ""), Hit(B, B, "", "")]),
        ("x" * 600, None, [Hit("", "", "x" * 499 + "…", "")]),
        ("", {"url": "ftp://x"}, []),
        ("[" * 100_000, None, [Hit("", "", "[" * 499 + "…", "")]),
    ],
)  # fmt: skip
async def test_results_are_found_in_whatever_a_tool_answers(
    text: str, structured: Any, expected: list[Hit]
) -> None:
    assert read_results(CallResult(text, structured=structured), QUERY) == expected


async def test_domains_are_kept_to() -> None:
    query = Query("cats", 5, 100, Domains(allowed=("b.com",)))
    found = read_results(CallResult(f"Title: One\nURL: {A}\nTitle: Two\nURL: {B}"), query)
    assert [one.url for one in found] == [B]


@pytest.mark.parametrize("text", ["Nothing about '{}'.", "URL: {}", "[One]({})", "Not {}, but {}?"])
async def test_a_url_of_the_query_is_no_result_in_text(text: str) -> None:
    """Text may quote the query, and what a model writes there it must not be able to open."""
    found = read_results(CallResult(text.replace("{}", A)), Query(f"see {A}", 5, 100))
    assert [one.url for one in found] == [""]
