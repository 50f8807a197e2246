"""Copilot CLI on /v1/responses, set up by the variables of docs/clients.md.

The cells of the matrix are turns in the agent that editors start (`copilot --acp`), all in one
process; the command line is started for what only it has.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEY, Stage, at, find_program, needed, snippets
from .copilot import Copilot, Seen, copilot_agent, copilot_run
from .node_programs import PIXEL, PIXEL_URL, THOUGHT, check_thought, shown_image
from .recorder import Recorder
from .talks import overheard
from .upstream import SLOW, Call, Trouble, Turn

CLIENT = "Copilot CLI"
DIALECTS = ("fireworks", "deepseek", "vllm")
NO_SCHEMA = "Copilot CLI has no way to ask for structured output."

Ask = Callable[..., Seen]

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def cells(*cases: str) -> Callable[[Any], Any]:
    """The test stands for these cases, in each of the dialects."""

    def mark(test: Any) -> Any:
        for case in cases:
            test = pytest.mark.cell(client=CLIENT, case=case)(test)
        return each_dialect(test)

    return mark


def text(prompt: str) -> dict[str, Any]:
    return {"type": "text", "text": prompt}


def variables(base_url: str) -> dict[str, str]:
    """The variables of docs/clients.md, with the base URL of this run."""
    [block, *_] = snippets(CLIENT, "sh")
    pairs = re.findall(r"^export (\w+)=(.*)$", at(base_url, block), re.MULTILINE)
    return {name: value.replace("$FIREWORKS_API_KEY", KEY) for name, value in pairs}


@pytest.fixture(scope="module")
def binary() -> str:
    return needed("Copilot CLI", find_program("copilot"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: at its first start, Copilot unpacks itself into it."""
    return tmp_path_factory.mktemp("copilot")


@pytest.fixture(scope="module")
def switch() -> Iterator[Recorder]:
    """What the agent knows as its upstream; each test leads it to its stage."""
    with Recorder("http://127.0.0.1:9/v1") as recorder:
        yield recorder


@pytest.fixture(scope="module")
def agent(binary: str, home: Path, switch: Recorder) -> Iterator[Copilot]:
    with copilot_agent(binary, home, variables(switch.base_url)) as agent:
        yield agent


@pytest.fixture
def ask(agent: Copilot, switch: Recorder, tmp_path: Path, stage: Stage) -> Ask:
    """A prompt in one session, to the model of the stage."""
    switch.lead_to(stage.base_url)
    session = agent.session(tmp_path)
    return lambda *parts: agent.ask(session, *parts)


@cells("text", "streaming", "reasoning")
@pytest.mark.cell(client=CLIENT, case="structured", limit=NO_SCHEMA)
def test_a_plain_turn(ask: Ask, switch: Recorder, stage: Stage) -> None:
    """The user is shown the thought and the answer, in pieces; a schema is never asked for."""
    stage.play(Turn(reasoning=THOUGHT, text="It is “sunny” ☀."))
    seen = ask(text("What is the weather?"))

    assert ("".join(seen.thoughts), "".join(seen.texts)) == (THOUGHT, "It is “sunny” ☀.")
    assert len(seen.thoughts) > 2 < len(seen.texts)
    assert (seen.stop_reason, seen.tokens) == ("end_turn", 150)
    [request] = stage.requests
    assert request["messages"][-1]["content"].endswith("What is the weather?")
    assert "response_format" not in request
    assert stage.upstream.keys == [f"Bearer {KEY}"]
    [sent] = switch.requests
    assert "format" not in sent.get("text", {})
    assert sent["store"] is False
    assert "previous_response_id" not in sent


@cells("tools")
def test_tools_and_the_turn_after(ask: Ask, tmp_path: Path, stage: Stage) -> None:
    """A command runs and a file is written, side by side; the model sees it all again, word for word."""
    new = {"path": str(tmp_path / "new.txt"), "file_text": "“made” by a model\u2028\n"}
    calls = [
        Call("functions.bash:0", "bash", {"command": "echo one-$((40 + 2))", "description": "Adds."}),
        Call("functions.create:1", "create", new),
    ]  # fmt: skip
    stage.play(
        Turn(reasoning=THOUGHT, text="I do both.", calls=calls),
        Turn(reasoning="It worked.", text="Both are done."),
        Turn(text="As I said: done."),
    )
    seen = ask(text("Do both."))

    assert seen.texts[0] + seen.texts[1] == "I do both."
    assert "".join(seen.texts).endswith("Both are done.")
    assert seen.calls == {call.id: "completed" for call in calls}
    assert (tmp_path / "new.txt").read_text() == new["file_text"]
    assert "".join(ask(text("And?")).texts) == "As I said: done."
    first, second, third = stage.requests
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert third["messages"][: len(second["messages"])] == second["messages"]
    turn, *results = second["messages"][len(first["messages"]) :]
    assert turn["content"] == "I do both."
    assert [call["id"] for call in turn["tool_calls"]] == [call.id for call in calls]
    assert json.loads(turn["tool_calls"][1]["function"]["arguments"]) == new
    assert [result["tool_call_id"] for result in results] == [call.id for call in calls]
    assert "one-42" in results[0]["content"]
    check_thought(stage, turn)
    assert [message["role"] for message in third["messages"][-2:]] == ["assistant", "user"]
    assert third["messages"][-2]["content"] == "Both are done."


@cells("waiting")
@pytest.mark.heartbeats
def test_a_slow_model(ask: Ask, stage: Stage) -> None:
    stage.play(SLOW)
    assert "".join(ask(text("What is the weather?")).texts) == SLOW.text
    assert len(stage.requests) == 1


@cells("image")
def test_image(ask: Ask, stage: Stage) -> None:
    stage.play(Turn(text="It is red."))
    seen = ask(text("Which colour?"), {"type": "image", "mimeType": "image/png", "data": PIXEL})

    assert "".join(seen.texts) == "It is red."
    [request] = stage.requests
    if stage.upstream.spoken.images == "none":
        assert shown_image(request) is None
        assert "[image omitted" in str(request["messages"][-1]["content"])
    else:
        assert shown_image(request) == PIXEL_URL


@cells("error")
def test_an_error(ask: Ask, stage: Stage) -> None:
    """The user is told the status and the upstream's reason, and the next turn works."""
    stage.play(Trouble(400, "This cannot be answered."), Turn(text="Sunny."))
    assert "400 This cannot be answered." in "".join(ask(text("What is the weather?")).texts)
    assert "".join(ask(text("And now?")).texts) == "Sunny."


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_moment_without_service(ask: Ask, stage: Stage) -> None:
    """A limited request, and an answer that breaks off, are asked for again."""
    stage.play(
        Trouble(429, "Slow down.", {"retry-after-ms": "1", "retry-after": "0"}),
        Turn(text="Sunny."),
        Turn(text="This sentence has no", cut=True),
        Turn(text="This one has an end."),
    )
    assert "".join(ask(text("What is the weather?")).texts).endswith("Sunny.")
    assert "".join(ask(text("Say something.")).texts).endswith("This one has an end.")
    assert stage.requests[2]["messages"] == stage.requests[3]["messages"]


@cells("incomplete")
def test_an_incomplete_answer(ask: Ask, stage: Stage) -> None:
    """Copilot shows what it got, and asks the model to go on where it stopped."""
    stage.play(Turn(text="It is sunny, and", finish="length"), Turn(text=" warm."))
    seen = ask(text("What is the weather?"))

    assert "".join(seen.texts) == "It is sunny, and warm."
    cut, asked = stage.requests[1]["messages"][-2:]
    assert (cut["role"], cut["content"]) == ("assistant", "It is sunny, and")
    assert (asked["role"], "continue" in asked["content"]) == ("user", True)


def typed(base_url: str, *commands: str) -> str:
    """The documented block, with these commands in place of the interactive one."""
    [block, *_] = snippets(CLIENT, "sh")
    *exports, last = at(base_url, block).splitlines()
    assert last == "copilot"
    return "\n".join([*exports, *commands])


@pytest.fixture
def shell(binary: str) -> dict[str, str]:
    """The variables of a shell in which `copilot` is on the PATH, and the key is known."""
    path = f"{Path(binary).parent}:{os.environ['PATH']}"
    return {"PATH": path, "FIREWORKS_API_KEY": KEY}


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_the_documented_set_up(
    home: Path, shell: dict[str, str], tmp_path: Path, stage: Stage
) -> None:
    """On the command line, without a login: a turn, and another in a session that is resumed."""
    stage.play(Turn(text="Hello from a chat model."), Turn(text="Hello again."))
    script = typed(stage.base_url, "copilot -s -p Hello", "copilot -s --continue -p 'And now?'")
    code, printed, log = copilot_run(home, tmp_path, script, shell)

    assert code == 0, printed + log
    assert printed.split() == "Hello from a chat model. Hello again.".split()
    first, second = stage.requests
    assert first["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert first["max_tokens"] == 32768
    before, answer, asked = second["messages"][-3:]
    assert before == first["messages"][-1]
    assert (answer["role"], answer["content"]) == ("assistant", "Hello from a chat model.")
    assert asked["content"].endswith("And now?")
    assert stage.upstream.keys == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_over_a_websocket(binary: str, home: Path, tmp_path: Path, stage: Stage) -> None:
    """Copilot sends only what is new, and the model gets the whole conversation.

    After an error it opens another socket, which remembers nothing, and sends everything once.
    """
    call = Call("functions.bash:0", "bash", {"command": "echo one-$((40 + 2))", "description": "Adds."})  # fmt: skip
    stage.play(
        Turn(reasoning=THOUGHT, text="I add.", calls=[call]),
        Turn(text="It is 42."),
        Turn(text="This sentence has no", cut=True),
        Turn(text="This one has an end."),
        Trouble(400, "This cannot be answered."),
        Turn(text="Sunny."),
    )
    websockets = {"COPILOT_PROVIDER_TRANSPORT": "websockets"}
    with overheard(stage.base_url) as (base_url, talks):
        with copilot_agent(binary, home, variables(base_url) | websockets) as agent:
            session = agent.session(tmp_path)
            said = [
                "".join(agent.ask(session, text(prompt)).texts)
                for prompt in ("Add.", "Say something.", "What is the weather?", "And now?")
            ]

    assert said[0] == "I add.It is 42."
    assert said[1].endswith("This one has an end.")
    assert "This cannot be answered." in said[2]
    assert said[3] == "Sunny."
    first_talk, *others = talks
    assert first_talk.headers["authorization"] == f"Bearer {KEY}"
    asked = [one.get("previous_response_id") for one in first_talk.requests]
    assert asked == [None, *first_talk.ids[:2]]
    assert [len(one["input"]) for one in first_talk.requests] == [1, 1, 1]
    assert [talk.requests[0].get("previous_response_id") for talk in others] == [None, None]
    first, second, *_, last = stage.requests
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert "one-42" in second["messages"][-1]["content"]
    assert last["messages"][: len(second["messages"])] == second["messages"]
    check_thought(stage, second["messages"][-2])


PATCH = "*** Begin Patch\n*** Add File: made.txt\n+It’s “made” by C:\\model\n*** End Patch\n"
TASK = {
    "name": "counter",
    "agent_type": "explore",
    "description": "Counts.",
    "prompt": "Count the files.",
    "mode": "sync",
}


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_model_that_is_taken_for_another(
    home: Path, shell: dict[str, str], tmp_path: Path, stage: Stage
) -> None:
    """As one of OpenAI's it has the free-form `apply_patch`; a sub-agent talks to it, too."""
    calls = [Call("a", "apply_patch", {"input": PATCH}), Call("b", "task", TASK)]
    stage.play(
        Turn(reasoning=THOUGHT, text="I do both.", calls=calls),
        Turn(reasoning="I count.", text="There are 42 files."),
        Turn(text="Both are done."),
    )
    with Recorder(stage.base_url) as recorder:
        script = typed(
            recorder.base_url,
            "export COPILOT_PROVIDER_MODEL_ID=gpt-5.4 COPILOT_PROVIDER_WIRE_MODEL=$COPILOT_MODEL",
            "copilot -s -p 'Do both.' --allow-all-tools --reasoning-effort high",
        )
        code, printed, log = copilot_run(home, tmp_path, script, shell)
        tools = {tool["name"]: tool["type"] for tool in recorder.requests[0]["tools"]}

    assert code == 0, printed + log
    assert printed.strip().endswith("Both are done.")
    assert tools["apply_patch"] == "custom"
    assert (tmp_path / "made.txt").read_text() == "It’s “made” by C:\\model\n"
    first, child, last = stage.requests
    assert {request["model"] for request in stage.requests} == {first["model"]}
    assert first["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert first["reasoning_effort"] == "high"
    assert child["messages"][-1]["content"].endswith(TASK["prompt"])
    turn, *results = last["messages"][len(first["messages"]) :]
    assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == {"input": PATCH}
    assert "There are 42 files." in results[1]["content"]
    check_thought(stage, turn)


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_an_error_on_the_command_line(
    home: Path, shell: dict[str, str], tmp_path: Path, stage: Stage
) -> None:
    """A script that runs Copilot learns of it."""
    stage.play(Trouble(400, "This cannot be answered."))
    script = typed(stage.base_url, "copilot -s -p Hello")
    code, printed, log = copilot_run(home, tmp_path, script, shell)

    assert code != 0
    assert "This cannot be answered." in printed + log
