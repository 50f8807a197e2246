"""Codex's sub-agents: a second conversation on the same upstream, at the same time."""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import Stage
from tests.clients.upstream import Call, Step, Turn

from .chat_requests import Request, items, results
from .session import Session

TASK = "Count the files — “all” of them."
COUNTED = "There are 42 files."
DIALECTS = ["fireworks", "deepseek", "vllm"]


def asks(request: Request) -> str:
    """What the last user message says."""
    said = [message["content"] for message in request["messages"] if message["role"] == "user"]
    return str(said[-1])


def child_or(parent: Call) -> Step:
    """The child's answer to the child; to its parent, who asks at the same time, a call."""

    def step(request: Request) -> Turn:
        if TASK in asks(request):
            return Turn(reasoning="I count.", text=COUNTED)
        spawned = results(request).get("spawn", "{}")
        agent = json.loads(spawned).get("agent_id")
        arguments = {"targets": [agent]} if agent else parent.arguments
        return Turn(reasoning="I wait.", calls=[Call(parent.id, parent.name, arguments)])

    return step


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_sub_agent_has_its_task(codex: Session, stage: Stage) -> None:
    """The child's task arrives upstream as a user's message, its answer as the parent's result."""
    spawn = Call("spawn", "multi_agent_v1__spawn_agent", {"message": TASK})
    wait = child_or(Call("wait", "multi_agent_v1__wait_agent", {}))
    stage.play(Turn(reasoning="I delegate.", calls=[spawn]), wait, wait, Turn(text="42."))
    outcome = codex.exec("how many files?")

    assert (outcome.code, outcome.last_message) == (0, "42."), outcome.log
    [child] = [request for request in stage.requests if TASK in asks(request)]
    assert "how many files?" not in json.dumps(child["messages"])
    calls = items(codex.requests[-1], "function_call")
    assert [(call["namespace"], call["name"]) for call in calls] == [
        ("multi_agent_v1", "spawn_agent"),
        ("multi_agent_v1", "wait_agent"),
    ]
    assert COUNTED in results(stage.requests[-1])["wait"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_message_between_agents(codex: Session, stage: Stage) -> None:
    """In a team the task is an `agent_message`, whose text is said to be encrypted and is not."""
    codex.config["features.multi_agent_v2.enabled"] = True
    spawn = Call("spawn", "collaboration__spawn_agent", {"message": TASK, "task_name": "counter"})
    wait = child_or(Call("wait", "collaboration__wait_agent", {"timeout_ms": 10000}))
    stage.play(Turn(reasoning="I delegate.", calls=[spawn]), wait, wait, Turn(text="42."))
    outcome = codex.exec("how many files?")

    assert (outcome.code, outcome.last_message) == (0, "42."), outcome.log
    [child] = [sent for sent in codex.requests if TASK in str(items(sent, "agent_message"))]
    assert {"type": "encrypted_content", "encrypted_content": TASK} in items(
        child, "agent_message"
    )[0]["content"]
    assert [TASK in asks(request) for request in stage.requests].count(True) == 1
    assert COUNTED in json.dumps(stage.requests[-1]["messages"])
