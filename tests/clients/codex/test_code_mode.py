"""Codex in code mode: its tools are members of namespaces, and a model names them as it likes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.conftest import Stage, needed
from tests.clients.upstream import Call, Turn

from .chat_requests import functions, items, results
from .session import Session

CODE = "text('one-' + (1 + 1));"


@pytest.fixture
def coding(codex: Session) -> Session:
    """Codex with a model of its own catalog, whose only tools are code."""
    del codex.config["model_catalog_json"]
    listed = codex.run("debug", "models")
    models: list[dict[str, Any]] = json.loads(listed.printed or "{}").get("models", [])
    codes = [one["slug"] for one in models if one.get("tool_mode") == "code_mode_only"]
    codex.config["model"] = needed("a Codex CLI with code mode", next(iter(codes), None))
    return codex


@pytest.mark.parametrize("dialect", ["fireworks"])
@pytest.mark.parametrize("name", ["exec", "functions.exec", "functions__exec"])
def test_code_runs_however_the_model_names_the_tool(
    coding: Session, stage: Stage, name: str
) -> None:
    """The item is the declared tool's, so Codex runs it; the model sees the declared name again."""
    stage.play(Turn(calls=[Call("a", name, {"input": CODE})]), Turn(text="It is two."))
    outcome = coding.exec("count")

    assert (outcome.code, outcome.last_message) == (0, "It is two."), outcome.log
    asked, again = stage.requests
    assert {"functions__exec", "functions__wait"} <= functions(asked).keys()
    [call] = items(coding.requests[1], "custom_tool_call")
    assert (call["namespace"], call["name"], call["input"]) == ("functions", "exec", CODE)
    [message] = [message for message in again["messages"] if "tool_calls" in message]
    assert message["tool_calls"][0]["function"]["name"] == "functions__exec"
    assert "one-2" in results(again)["a"]
    assert again["messages"][: len(asked["messages"])] == asked["messages"]
