"""Codex's sub-agents: a second conversation on the same upstream, at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import Stage, serving
from tests.clients.upstream import Call, ScriptedUpstream, Step, Turn

from .chat_requests import Request, functions, items, results
from .session import Session
from .test_setup import WARNING, Place

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


# --- roles on other models -----------------------------------------------------------------------

SETTINGS = """\
[upstreams.first]
base_url = {first}
dialect = "fireworks"

[upstreams.second]
base_url = {second}
dialect = "deepseek"

[models."kimi-k2.6"]
upstream = "first"
upstream_model = "accounts/fireworks/models/kimi-k2p6"
context_window = 262144

[models."deepseek-chat"]
upstream = "second"
upstream_model = "deepseek-v4-pro"
context_window = 131072
"""
ROLE = """
[agents.counter]
description = "Counts files. Cheap and quick."
config_file = "agents/counter.toml"
"""
ROLE_FILE = """\
model = "deepseek-chat"
model_reasoning_effort = "high"
"""
"""Without an effort of its own the role inherits the parent's, which its model may not have."""


@pytest.fixture
def second() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(speaks="deepseek") as upstream:
        yield upstream


@pytest.fixture
def two_models(codex_binary: str, tmp_path: Path, second: ScriptedUpstream) -> Iterator[Place]:
    """Codex's folder as it is set up for two models, each on an upstream of its own."""
    home, folder, settings = (tmp_path / name for name in ("home", "folder", "settings.toml"))
    home.mkdir()
    folder.mkdir()
    with ScriptedUpstream() as first:
        urls = {"first": first.base_url, "second": second.base_url}
        settings.write_text(SETTINGS.format(**{k: json.dumps(url) for k, url in urls.items()}))
        with serving(None, "--config", str(settings)) as base_url:
            yield Place(first, base_url, settings, home, folder, codex_binary)


def test_a_role_is_on_a_model_of_its_own(two_models: Place, second: ScriptedUpstream) -> None:
    """Five lines behind `translator codex --write`: each model on its upstream, in its dialect."""
    two_models.set_up()
    role = two_models.home / "agents" / "counter.toml"
    role.parent.mkdir()
    role.write_text(ROLE_FILE)
    config = two_models.home / "config.toml"
    config.write_text(config.read_text() + ROLE)
    task = {"message": TASK, "agent_type": "counter"}
    in_team = task | {"task_name": "count", "fork_turns": "none"}
    _delegates(two_models, second, "multi_agent_v1", task)
    team = ["-c", "features.multi_agent_v2.enabled=true"]
    _delegates(two_models, second, "collaboration", in_team, *team)


def _delegates(
    place: Place, second: ScriptedUpstream, tools: str, task: dict[str, str], *options: str
) -> None:
    """One run in which the first model gives a task to the role, which works on the other one."""

    def waits(request: Request) -> Turn:
        spawned = results(request)["spawn"]
        agent = json.loads(spawned).get("agent_id") if spawned.startswith("{") else None
        arguments = {"targets": [agent]} if agent else {"timeout_ms": 10000}
        return Turn(reasoning="I wait.", calls=[Call("wait", f"{tools}__wait_agent", arguments)])

    spawn = Call("spawn", f"{tools}__spawn_agent", task)
    place.upstream.play(
        Turn(reasoning="I delegate.", calls=[spawn]), waits, Turn(text="There are 42.")
    )
    look = Call("look", "exec_command", {"cmd": "echo 42"})
    second.play(Turn(reasoning="I look.", calls=[look]), Turn(reasoning="I see.", text=COUNTED))
    done = place.exec("how many files?", *options)

    assert done.stdout.strip() == "There are 42."
    assert second.refusals == []
    assert WARNING not in done.stderr, "the catalog knows both models"
    first = place.upstream.requests
    assert {request["model"] for request in first} == {"accounts/fireworks/models/kimi-k2p6"}
    assert {request["model"] for request in second.requests} == {"deepseek-v4-pro"}
    offered = json.dumps(functions(first[0])[f"{tools}__spawn_agent"])
    assert "counter: {" in offered and "Counts files. Cheap and quick." in offered
    assert TASK in asks(second.requests[0])
    assert "42" in results(second.requests[1])["look"]
    assert COUNTED in json.dumps(first[-1]["messages"])
