"""The example of docs/tools.md, as it stands there: a conversation with an approval."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.rounds import call, says, turn
from tests.service.tools.hosting import Model

from .hosting import hosting
from .serving import McpScript

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "tools.md"


async def test_the_example_of_the_page_runs(script: McpScript) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    made = turn(call("docs__add", a=1, b=2), call("docs__write", "call_b", text="tea at five"))
    model = Model(made, says("Noted."))
    said = io.StringIO()
    servers = {"docs": {"url": script.url}}
    async with hosting(model, script, mcp=servers, on_socket=True) as client:
        url = str(client.base_url).rstrip("/")
        assert example.count("http://127.0.0.1:8080/v1") == 1
        code = example.replace("http://127.0.0.1:8080/v1", f"{url}/v1")
        with contextlib.redirect_stdout(said):
            await asyncio.to_thread(exec, compile(code, str(PAGE), "exec"), {})
    asked, answered = said.getvalue().splitlines()
    assert asked == 'docs wants to run write with {"text": "tea at five"}'
    assert answered == "Noted."
    assert model.tool_messages(1) == ["3", "written: tea at five"]
    assert script.methods.count("tools/call") == 2
