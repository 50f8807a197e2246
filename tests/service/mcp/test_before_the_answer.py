"""What is asked of MCP servers before a request goes upstream: lists, and calls that are approved."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import SpanKind
from starlette.types import Receive, Scope, Send

from tests.rounds import says, turn
from tests.service.test_otel import Collected
from tests.service.tools.hosting import Model
from tests.service.wire import bounded
from translator.service.base.drain import Drain

from .hosting import SECRETS, add, asking, hosting
from .serving import McpScript, hang, on
from .test_hosted_servers import approving, response_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
async def test_scenario_29_what_is_awaited_before_the_answer_ends_with_the_service(
    script: McpScript, method: str
) -> None:
    """A list, or a call that the client has approved of: it is a 503, which a client retries."""
    request = asking(script, require_approval="always")
    model, drain, begun = Model(turn(add())), Drain(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        loop.call_soon_threadsafe(begun.set)
        await hang(scope, receive, send)

    async with hosting(model, script, drain=drain) as client:
        if method == "tools/call":
            request = approving(request, (await response_of(client, request))["output"])
        script.instead = on(method, hangs)
        asked = asyncio.create_task(client.post("/v1/responses", json=request))
        await bounded(begun.wait())
        drain.begin()
        assert not asked.done()
        drain.end()
        answer_ = await bounded(asked)
    assert answer_.status_code == 503
    assert answer_.json()["error"]["code"] == "server_shutting_down"
    assert len(model.bodies) == (method == "tools/call")


async def test_lists_are_spans_and_counted(script: McpScript) -> None:
    """Before the turns: a list that is kept takes no time, but is one, too."""
    collected = Collected()
    async with hosting(
        Model(turn(add()), says("It is 3.")), script, observe=collected.factory
    ) as client:
        await response_of(client, asking(script))
    listed, called = collected.of(SpanKind.INTERNAL)
    first, second = collected.of(SpanKind.CLIENT)
    assert (listed.name, called.name) == ("execute_tool mcp_list", "execute_tool mcp")
    assert listed.parent is not None
    assert listed.parent.span_id == collected.server.context.span_id
    for before, after in ((listed, first), (first, called), (called, second)):
        assert before.end_time is not None and after.start_time is not None
        assert before.end_time <= after.start_time
    assert not any(secret in str(listed.attributes) for secret in SECRETS)
    collected.factory.close()
