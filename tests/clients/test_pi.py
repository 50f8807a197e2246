"""pi on /v1/responses, set up by the models.json of docs/clients.md.

The cells of the matrix are turns in the agent that other programs start (`pi --mode rpc`), all in
one process; the command line is started for what only it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEY, ROOT, Stage, at, find_program, needed, snippets
from .node_programs import PIXEL, THOUGHT, check_image, check_thought
from .pi import Pi, Seen, pi_agent, pi_run
from .recorder import Recorder
from .upstream import SLOW, Call, Trouble, Turn

CLIENT = "pi"
MODEL = "translator/accounts/fireworks/models/kimi-k2p6"
DIALECTS = ("fireworks", "deepseek", "vllm")
NO_SCHEMA = "pi has no way to ask for structured output."

Ask = Callable[..., Seen]


def cells(*cases: str) -> Callable[[Any], Any]:
    """The test stands for these cases, in each of the dialects."""

    def mark(test: Any) -> Any:
        for case in cases:
            test = pytest.mark.cell(client=CLIENT, case=case)(test)
        return pytest.mark.parametrize("dialect", DIALECTS)(test)

    return mark


def set_up(home: Path, base_url: str) -> None:
    """The models.json of docs/clients.md in a home."""
    [block] = snippets(CLIENT, "json")
    folder = home / ".pi" / "agent"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.json").write_text(at(base_url, block))


@pytest.fixture(scope="module")
def binary() -> str:
    return needed("pi", find_program("pi"))


@pytest.fixture(scope="module")
def switch() -> Iterator[Recorder]:
    """What the agent knows as its upstream; each test leads it to its stage."""
    with Recorder("http://127.0.0.1:9/v1") as recorder:
        yield recorder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, switch: Recorder) -> Path:
    home = tmp_path_factory.mktemp("pi")
    set_up(home, switch.base_url)
    return home


@pytest.fixture(scope="module")
def agent(binary: str, home: Path) -> Iterator[Pi]:
    with pi_agent(binary, home, "--model", MODEL) as agent:
        yield agent


@pytest.fixture
def ask(agent: Pi, switch: Recorder, stage: Stage) -> Ask:
    """A prompt in one session, to the model of the stage."""
    switch.lead_to(stage.base_url)
    agent.new_session()
    return agent.ask


@cells("text", "streaming", "reasoning")
@pytest.mark.cell(client=CLIENT, case="structured", limit=NO_SCHEMA)
def test_a_plain_turn(ask: Ask, switch: Recorder, stage: Stage) -> None:
    """The user is shown the thought and the answer, in pieces; a schema is never asked for."""
    stage.play(Turn(reasoning=THOUGHT, text="It is “sunny” ☀."))
    seen = ask("What is the weather?")

    assert (seen.thoughts, seen.texts) == ([THOUGHT], ["It is “sunny” ☀."])
    assert "".join(seen.pieces("text_delta")) == "It is “sunny” ☀."
    assert len(seen.pieces("text_delta")) > 2 < len(seen.pieces("thinking_delta"))
    [answer] = seen.answers
    assert (answer["stopReason"], answer["usage"]["totalTokens"]) == ("stop", 150)
    [request] = stage.requests
    assert request["messages"][-1]["content"] == "What is the weather?"
    assert "response_format" not in request
    assert stage.upstream.keys == [f"Bearer {KEY}"]
    [sent] = switch.requests
    assert "text" not in sent
    assert sent["store"] is False


@cells("tools")
def test_tools_and_the_turn_after(ask: Ask, tmp_path: Path, stage: Stage) -> None:
    """A command runs and a file is written, side by side; the model sees it all again, word for word."""
    new = {"path": str(tmp_path / "new.txt"), "content": "“made” by a model\u2028\n"}
    calls = [
        Call("functions.bash:0", "bash", {"command": "echo one-$((40 + 2))"}),
        Call("functions.write:1", "write", new),
    ]
    stage.play(
        Turn(reasoning=THOUGHT, text="I do both.", calls=calls),
        Turn(reasoning="It worked.", text="Both are done."),
        Turn(text="As I said: done."),
    )
    seen = ask("Do both.")

    assert seen.texts == ["I do both.", "Both are done."]
    assert [event["isError"] for event in seen.of("tool_execution_end")] == [False, False]
    assert (tmp_path / "new.txt").read_text() == new["content"]
    assert ask("And?").texts == ["As I said: done."]
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
    assert third["messages"][-1] == {"role": "user", "content": "And?"}


@cells("waiting")
@pytest.mark.heartbeats
def test_a_slow_model(ask: Ask, stage: Stage) -> None:
    stage.play(SLOW)
    assert ask("What is the weather?").texts == [SLOW.text]
    assert len(stage.requests) == 1


@cells("image")
def test_image(ask: Ask, stage: Stage) -> None:
    stage.play(Turn(text="It is red."))
    image = {"type": "image", "mimeType": "image/png", "data": PIXEL}
    seen = ask("Which colour?", images=[image])

    assert seen.texts == ["It is red."]
    check_image(stage)


@cells("error")
def test_an_error(ask: Ask, stage: Stage) -> None:
    """The user is told the status and the upstream's reason, and the next turn works."""
    stage.play(Trouble(400, "This cannot be answered."), Turn(text="Sunny."))
    [answer] = ask("What is the weather?").answers

    assert answer["stopReason"] == "error"
    assert "400" in answer["errorMessage"]
    assert "This cannot be answered." in answer["errorMessage"]
    assert ask("And now?").texts == ["Sunny."]


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_moment_without_service(ask: Ask, stage: Stage) -> None:
    """What may be tried again is tried again, and the user sees why it takes longer."""
    stage.play(Trouble(429, "Slow down.", {"retry-after": "0"}), Turn(text="Sunny."))
    seen = ask("What is the weather?")

    assert seen.texts == ["Sunny."]
    [retry] = seen.of("auto_retry_start")
    assert "Slow down." in retry["errorMessage"]


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_an_answer_that_breaks_off(ask: Ask, stage: Stage) -> None:
    """Half an answer is an error, and the next turn does without it."""
    stage.play(Turn(text="This sentence has no", cut=True), Turn(text="This one has an end."))
    [answer] = ask("Say something.").answers

    assert answer["stopReason"] == "error"
    assert answer["errorMessage"] == "The upstream closed the stream before it finished."
    assert ask("Once more.").texts == ["This one has an end."]
    roles = [message["role"] for message in stage.requests[1]["messages"]]
    assert "assistant" not in roles


@cells("incomplete")
def test_an_incomplete_answer(ask: Ask, stage: Stage) -> None:
    stage.play(Turn(text="It is sunny, and", finish="length"))
    seen = ask("What is the weather?")

    assert seen.texts == ["It is sunny, and"]
    assert seen.answers[-1]["stopReason"] == "length"


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_the_documented_set_up(binary: str, tmp_path: Path, stage: Stage) -> None:
    """On the command line, in an empty home: a turn, and another in a session that is continued."""
    stage.play(Turn(reasoning=THOUGHT, text="Hello from a chat model."), Turn(text="Hello again."))
    set_up(tmp_path, stage.base_url)
    assert f"`pi --model {MODEL}`" in (ROOT / "docs" / "clients.md").read_text("utf-8")
    script = f"pi --model {MODEL} -p Hello\npi --model {MODEL} --continue -p 'And now?'"
    code, printed, log = pi_run(binary, tmp_path, tmp_path, script)

    assert code == 0, printed + log
    assert printed.splitlines() == ["Hello from a chat model.", "Hello again."]
    first, second = stage.requests
    assert first["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert first["max_tokens"] == 32768
    before = len(first["messages"])
    assert second["messages"][:before] == first["messages"]
    answer, asked = second["messages"][before:]
    assert (answer["content"], asked["content"]) == ("Hello from a chat model.", "And now?")
    check_thought(stage, answer)
    assert stage.upstream.keys == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_all_that_pi_knows_of_the_api(binary: str, tmp_path: Path, stage: Stage) -> None:
    """Tools and efforts in the input, free-form tools: the model sees functions and one effort."""
    set_up(tmp_path, stage.base_url)
    agent_folder = tmp_path / ".pi" / "agent"
    models = json.loads((agent_folder / "models.json").read_text())
    [model] = models["providers"]["translator"]["models"]
    model["compat"] = dict.fromkeys(
        (
            "supportsAdditionalTools",
            "supportsMidConvoEffort",
            "supportsMidConvoSystemMessages",
            "supportsOpenAIGrammarTools",
            "supportsToolSearch",
        ),
        True,
    )
    settings = {"defaultTools": ["+codemode", "+tool_search"]}
    (agent_folder / "settings.json").write_text(json.dumps(settings))
    code = "return `${6 * 7} “naïve” \\n`"
    stage.play(
        Turn(reasoning=THOUGHT, calls=[Call("a", "codemode", {"input": code})]),
        Turn(text="It is 42."),
        Turn(text="As I said."),
    )
    with Recorder(stage.base_url) as recorder:
        models["providers"]["translator"]["baseUrl"] = recorder.base_url
        (agent_folder / "models.json").write_text(json.dumps(models))
        with pi_agent(binary, tmp_path, "--model", MODEL) as agent:
            assert agent.ask("Reckon.").texts == ["It is 42."]
            agent.think("high")
            assert agent.ask("Sure?").texts == ["As I said."]
        types = {item.get("type") for sent in recorder.requests for item in sent["input"]}

    assert {"additional_tools", "configuration_update", "custom_tool_call"} <= types
    first, second, third = stage.requests
    assert [request["reasoning_effort"] for request in stage.requests] == [
        "medium",
        "medium",
        "high",
    ]
    names = [tool["function"]["name"] for tool in first["tools"]]
    assert {"codemode", "tool_search", "bash"} <= set(names)
    assert third["tools"] == second["tools"] == first["tools"]
    turn, result = second["messages"][-2:]
    assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == {"input": code}
    assert "42 “naïve”" in result["content"]
    check_thought(stage, turn)


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_an_error_on_the_command_line(binary: str, tmp_path: Path, stage: Stage) -> None:
    """A script that runs pi learns of it."""
    stage.play(Trouble(400, "This cannot be answered."))
    set_up(tmp_path, stage.base_url)
    code, printed, log = pi_run(binary, tmp_path, tmp_path, f"pi --model {MODEL} -p Hello")

    assert code != 0
    assert "This cannot be answered." in printed + log
