"""What later requests know of hosted searches: pages of any language, and responses that ended."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.rounds import REQUEST, call, replayed, says, search, turn

from .hosting import Model, events_of, hosting
from .searching import ScriptedWeb

pytestmark = pytest.mark.anyio

MORE = {"role": "user", "content": "More?"}


async def test_a_page_in_another_script_is_read_line_for_line(scripted: ScriptedWeb) -> None:
    """What the model is pointed to follows what it was shown; the next response shows the same."""
    text = "".join(f"<p>{number}: {'猫は九つの命を持つ。' * 12}</p>" for number in range(400))
    scripted.pages["/cat"] = f"<meta charset=utf-8><title>猫</title>{text}"
    url = f"{scripted.url}/cat"
    request: dict[str, Any] = {
        **REQUEST,
        "input": [{"role": "user", "content": f"Read {url}"}],
        "tools": [{"type": "web_search", "search_context_size": "high"}],
    }
    lines: list[int] = []
    model = Model(turn(call("open_page", url=url)), says("So."), says("More."))
    async with hosting(model, scripted, tools={"max_sealed_bytes": 20_000}) as client:
        first = await events_of(client, request)
        output = first[-1]["response"]["output"]
        await events_of(client, replayed(request, output, MORE))
    [told] = model.tool_messages(1)
    assert 19_000 < len(told.encode()) <= 20_000
    assert "[cut" not in told
    lines = [int(one) for one in re.findall(r"^L(\d+):", told, re.MULTILINE)]
    assert f"at line {lines[-1] + 1}." in told
    before = model.bodies[1]["messages"]
    assert model.bodies[2]["messages"][: len(before)] == before


async def test_a_search_is_not_lost_when_the_next_round_fails(scripted: ScriptedWeb) -> None:
    """A client that goes on from what it got need not search again."""

    async def broken(call_: Any) -> None:
        await call_.answer({"error": {"message": "upstream says no"}}, status=400)

    model = Model(turn(search("a")), broken, says("So."))
    async with hosting(model, scripted) as client:
        events = await events_of(client)
        output = events[-1]["response"]["output"]
        assert events[-1]["type"] == "response.failed"
        await events_of(client, replayed(REQUEST, output, MORE))
    told = model.bodies[1]["messages"]
    assert [one["role"] for one in told] == ["user", "assistant", "tool"]
    assert model.bodies[-1]["messages"][:3] == told
