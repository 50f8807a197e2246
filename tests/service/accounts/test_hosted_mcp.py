"""Tools of MCP servers with accounts: which keys may use which server, and what a call costs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from tests.rounds import REQUEST, call, says, turn
from tests.service.mcp.serving import McpScript
from tests.service.tools.hosting import Model
from tests.service.wire import BOUND_S, serving
from translator.service.accounts.price_book import PriceRow
from translator.service.config.loading import read_table

from .paying import DEAR, Books, bearer, settled
from .test_search import give_tools

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("explained")]

PRICE = 5 * 10**9
MCP_PRICE = PriceRow("tool:mcp", per_request=PRICE)


@asynccontextmanager
async def responding(
    books: Books, key: str, model: Model
) -> AsyncGenerator[tuple[httpx.AsyncClient, McpScript]]:
    """A client with a key, on a service with a real server that clients may name, too."""
    books.upstream.script = model
    async with McpScript().running() as script:
        table = {
            "upstreams": {"up": {"base_url": "http://up.test/v1"}},
            "tools": {
                "allow": [script.url],
                "allow_private": ["127.0.0.0/8"],
                "mcp": {"math": {"url": script.url}},
            },
        }
        tools = read_table(table, {}).tools
        settings = msgspec.structs.replace(books.settings(lease_s=60), tools=tools)
        async with (
            serving(settings) as url,
            httpx.AsyncClient(base_url=url, headers=bearer(key), timeout=BOUND_S) as client,
        ):
            yield client, script


def asking(**declared: Any) -> dict[str, Any]:
    """A request with the operator's server, or another declaration."""
    tool = {"type": "mcp", "server_label": "math", "require_approval": "never", **declared}
    return {**REQUEST, "model": "m", "stream": False, "tools": [tool]}


def add(call_id: str) -> dict[str, Any]:
    return call("math__add", call_id, a=1, b=2)


async def test_each_call_that_ran_is_billed(books: Books) -> None:
    books.account(balance="1")
    books.price(DEAR)
    books.price(MCP_PRICE)
    key = books.key()
    failing = call("math__fail", "c", words="no")
    model = Model(turn(add("a"), add("b"), failing), says("It is 3."))
    async with responding(books, key, model) as (client, script):
        answer = await client.post("/v1/responses", json=asking())
        await settled(books, 4)
    calls = [one for one in answer.json()["output"] if one["type"] == "mcp_call"]
    assert [one["status"] for one in calls] == ["completed", "completed", "failed"]
    assert script.methods.count("tools/call") == 3
    assert books.balance() == 10**12 - 20 * DEAR.input - 10 * DEAR.output - 2 * PRICE
    billed = sorted(books.usages("kind, model, calls, amount"))
    assert billed[:3] == [("mcp", "tool:mcp", n, n * PRICE) for n in (0, 1, 1)]


async def test_a_call_that_was_approved_is_billed_once(books: Books) -> None:
    books.account(balance="1")
    books.price(MCP_PRICE)
    books.price(PriceRow("m", free=True))
    key = books.key()
    request = asking(require_approval="always")
    model = Model(turn(add("a"), reasoning="Add."), says("It is 3."))
    async with responding(books, key, model) as (client, script):
        output = (await client.post("/v1/responses", json=request)).json()["output"]
        assert books.balance() == 10**12
        [wanted] = [one for one in output if one["type"] == "mcp_approval_request"]
        approved = {
            "type": "mcp_approval_response",
            "approval_request_id": wanted["id"],
            "approve": True,
        }
        request["input"] = [*request["input"], *output, approved]
        answer = await client.post("/v1/responses", json=request)
        await settled(books, 3)
    assert answer.json()["output"][0]["output"] == "3"
    assert script.methods.count("tools/call") == 1
    assert books.balance() == 10**12 - PRICE


async def test_a_call_that_is_not_paid_for_is_told_the_model(books: Books) -> None:
    books.account(balance="0.004")
    books.price(DEAR)
    books.price(MCP_PRICE)
    key = books.key()
    model = Model(turn(add("a")), says("I cannot say."))
    async with responding(books, key, model) as (client, script):
        answer = await client.post("/v1/responses", json=asking())
    assert [one["status"] for one in answer.json()["output"] if one["type"] == "mcp_call"] == [
        "failed"
    ]
    assert "tools/call" not in script.methods
    assert model.tool_messages(1)[0].startswith("Not run: ")


@pytest.mark.parametrize(
    ("tools", "by_label", "by_url"),
    [
        (("mcp",), True, True),
        (("mcp:math",), True, False),  # which its URL does not name
        (("mcp:other", "search"), False, False),
        ((), False, False),
    ],
)
async def test_the_rights_of_a_key(
    books: Books, tools: tuple[str, ...], by_label: bool, by_url: bool
) -> None:
    """A URL of the client's own needs the right to every server."""
    books.account(balance="1")
    books.price(DEAR)
    key = books.key()
    give_tools(books, key, tools)
    async with responding(books, key, Model(says("Hello."))) as (client, script):
        labelled = await client.post("/v1/responses", json=asking())
        named = await client.post("/v1/responses", json=asking(server_url=script.url))
    assert labelled.status_code == (200 if by_label else 400)
    if not by_label:
        error = labelled.json()["error"]
        assert error["param"] == "tools[0].server_label"
        assert "no MCP server named 'math'" in error["message"]
    assert named.status_code == (200 if by_url else 400)
    if not by_url:
        error = named.json()["error"]
        assert error["param"] == "tools[0].server_url"
        assert error["message"].startswith("This key may not use MCP servers by their URL.")
    assert bool(script.asked) is (by_label or by_url)
