"""OpenCode, through its OpenAI provider on /v1/responses, and through chat completions.

Each test starts from the opencode.json of docs/clients.md, with the model of the dialect put in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEY, Stage, at, find_program, needed, snippets
from .node_programs import PIXEL, PIXEL_URL, THOUGHT, check_image, check_thought, shown_image
from .opencode import OpenCode, Seen, opencode_run, opencode_server, text
from .recorder import Recorder
from .spoken import SPOKEN, Spoken
from .upstream import SLOW, Call, Trouble, Turn

DOCUMENTED_MODEL = "accounts/fireworks/models/kimi-k2p6"
SETUPS = {  # the provider's name there: how the matrix calls it, and where docs/clients.md has it
    "translator": ("OpenCode (Responses)", "OpenCode"),
    "chat": ("OpenCode (chat)", "OpenCode, and everything that speaks chat"),
}

# LM Studio's reasoning stands between tags in its text: passed through, tags are what users read.
DIALECTS = {
    "translator": ("fireworks", "deepseek", "vllm", "lm_studio"),
    "chat": ("fireworks", "deepseek", "vllm"),
}

Ask = Callable[..., Seen]


def cells(*cases: str, **dialects: tuple[str, ...]) -> pytest.MarkDecorator:
    """The test stands for these cases of both providers, in these dialects."""
    return pytest.mark.parametrize(
        ("provider", "dialect"),
        [
            pytest.param(
                provider,
                dialect,
                marks=[pytest.mark.cell(client=client, case=case) for case in cases],
            )
            for provider, (client, _) in SETUPS.items()
            for dialect in (DIALECTS | dialects)[provider]
        ],
    )


@pytest.fixture(scope="module")
def binary() -> str:
    return needed("OpenCode", find_program("opencode"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("opencode")


@pytest.fixture(scope="module")
def opencode(binary: str, home: Path) -> Iterator[OpenCode]:
    with opencode_server(binary, home) as server:
        yield server


@pytest.fixture(scope="module")
def switch() -> Iterator[Recorder]:
    """What OpenCode knows as its upstream; each test leads it to its stage."""
    with Recorder("http://127.0.0.1:9/v1") as recorder:
        yield recorder


@pytest.fixture(scope="module")
def set_up(home: Path, switch: Recorder) -> Path:
    """A folder as docs/clients.md sets it up, by both APIs, with the models of all dialects.

    One for all tests, for OpenCode takes seconds to open one.
    """
    config: dict[str, Any] = {"provider": {}}
    for provider, (_, heading) in SETUPS.items():
        [block] = snippets(heading, "json")
        documented = json.loads(at(switch.base_url, block))["provider"][provider]
        [entry] = documented["models"].values()
        models = {spoken.model: _seeing(entry, spoken) for spoken in SPOKEN.values()}
        config["provider"][provider] = documented | {"models": models}
    folder = home / "project"
    folder.mkdir()
    (folder / "opencode.json").write_text(json.dumps(config))
    return folder


def _seeing(entry: dict[str, Any], spoken: Spoken) -> dict[str, Any]:
    """The documented entry; a model that reads only has less in it."""
    blind = {"attachment", "modalities"} if spoken.images == "none" else set()
    return {key: value for key, value in entry.items() if key not in blind}


@pytest.fixture
def project(set_up: Path, switch: Recorder, stage: Stage) -> Path:
    switch.lead_to(stage.base_url)
    return set_up


@pytest.fixture
def ask(opencode: OpenCode, project: Path, provider: str, stage: Stage) -> Ask:
    """A prompt to the model of the stage."""
    model = f"{provider}/{stage.model}"
    return lambda *parts, **asked: opencode.ask(project, model, *parts, **asked)


@cells("text", "streaming", "reasoning")
def test_a_plain_turn(ask: Ask, stage: Stage) -> None:
    """The user is shown the thought and the answer, in pieces."""
    stage.play(Turn(reasoning=THOUGHT, text="It is “sunny” ☀."))
    seen = ask(text("What is the weather?"))

    assert (seen.thoughts, seen.texts) == ([THOUGHT], ["It is “sunny” ☀."])
    assert "".join(seen.pieces) == THOUGHT + "It is “sunny” ☀."
    assert len(seen.pieces) > 2
    assert (seen.info["finish"], seen.info["tokens"]["total"]) == ("stop", 150)
    [request] = stage.requests
    assert request["model"] == stage.model
    assert request["messages"][-1] == {"role": "user", "content": "What is the weather?"}
    assert stage.upstream.keys == [f"Bearer {KEY}"]


@cells("tools")
def test_tools(ask: Ask, project: Path, stage: Stage) -> None:
    """A file is read and another one written, side by side; the model sees how it went."""
    (project / "old.txt").write_text("a line of old text\n")
    (project / "new.txt").unlink(missing_ok=True)
    new = {"filePath": str(project / "new.txt"), "content": "“made” by a model\u2028\n"}
    calls = [
        Call("functions.read:0", "read", {"filePath": str(project / "old.txt")}),
        Call("functions.write:1", "write", new),
    ]
    stage.play(
        Turn(reasoning=THOUGHT, text="I copy it.", calls=calls),
        Turn(reasoning="It worked.", text="Both are there."),
    )
    seen = ask(text("Copy the file."))

    assert seen.texts == ["I copy it.", "Both are there."]
    assert seen.thoughts == [THOUGHT, "It worked."]
    assert (project / "new.txt").read_text() == new["content"]
    first, second = stage.requests
    assert second["messages"][: len(first["messages"])] == first["messages"]
    turn, *results = second["messages"][len(first["messages"]) :]
    assert turn["content"] == "I copy it."
    assert [call["id"] for call in turn["tool_calls"]] == [call.id for call in calls]
    assert json.loads(turn["tool_calls"][1]["function"]["arguments"]) == new
    assert [result["tool_call_id"] for result in results] == [call.id for call in calls]
    assert "a line of old text" in results[0]["content"]
    check_thought(stage, turn)


@cells("waiting")
@pytest.mark.heartbeats
def test_a_slow_model(ask: Ask, stage: Stage) -> None:
    stage.play(SLOW)
    assert ask(text("What is the weather?")).texts == [SLOW.text]
    assert len(stage.requests) == 1


@cells("image")
def test_image(ask: Ask, stage: Stage) -> None:
    stage.play(Turn(text="It is red."))
    seen = ask(text("Which colour?"), {"type": "file", "mime": "image/png", "url": PIXEL_URL})

    assert seen.texts == ["It is red."]
    check_image(stage)


# While it thinks, DeepSeek refuses that a tool is forced: passed through, this is an error there.
@cells("structured", chat=("fireworks", "vllm", "lm_studio"))
def test_structured_output(ask: Ask, stage: Stage) -> None:
    """OpenCode asks for it with a tool of its own, which the model has to call."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "number"}},
        "required": ["city", "degrees"],
    }
    stage.play(Turn(calls=[Call("a", "StructuredOutput", {"city": "Rome", "degrees": 4})]))
    seen = ask(text("What is the weather?"), format={"type": "json_schema", "schema": schema})

    assert seen.info["structured"] == {"city": "Rome", "degrees": 4}
    [request] = stage.requests
    tools = {tool["function"]["name"]: tool["function"] for tool in request["tools"]}
    assert tools["StructuredOutput"]["parameters"]["required"] == ["city", "degrees"]


@cells("error")
@pytest.mark.parametrize("status", [400, 401])
def test_an_error(ask: Ask, stage: Stage, status: int) -> None:
    """The user is told the status and the upstream's reason."""
    stage.play(Trouble(status, "This cannot be answered."))
    [error] = ask(text("What is the weather?")).errors

    assert (error["name"], error["data"]["statusCode"]) == ("APIError", status)
    assert "This cannot be answered." in error["data"]["message"]
    assert len(stage.requests) == 1


@cells("error")
def test_a_moment_without_service(ask: Ask, stage: Stage) -> None:
    """The user sees why it waits, and then the answer."""
    stage.play(Trouble(429, "Slow down.", {"retry-after-ms": "1"}), Turn(text="Sunny."))
    seen = ask(text("What is the weather?"))

    assert seen.texts == ["Sunny."]
    assert len(seen.waits) == 1
    assert len(stage.requests) == 2


@pytest.mark.parametrize(("provider", "dialect"), [("translator", "fireworks")])
def test_an_answer_that_breaks_off(ask: Ask, stage: Stage) -> None:
    """Half an answer is thrown away and asked for again, and the user is told why."""
    stage.play(Turn(text="This sentence has no", cut=True), Turn(text="This one has an end."))
    seen = ask(text("Say something."))

    assert "".join(seen.texts) == "This one has an end."
    assert seen.waits == ["The upstream closed the stream before it finished."]
    assert stage.requests[0]["messages"] == stage.requests[1]["messages"]


@cells("incomplete")
def test_an_incomplete_answer(ask: Ask, stage: Stage) -> None:
    stage.play(Turn(text="It is sunny, and", finish="length"))
    seen = ask(text("What is the weather?"))

    assert seen.texts == ["It is sunny, and"]
    assert seen.info["finish"] == "length"


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_the_documented_set_up(binary: str, home: Path, tmp_path: Path, stage: Stage) -> None:
    """On the command line, with the documented lines as they are, a thought, and a picture."""
    assert stage.model == DOCUMENTED_MODEL
    [block] = snippets("OpenCode", "json")
    project, provider = tmp_path, "translator"
    (project / "opencode.json").write_text(at(stage.base_url, block))
    (project / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    stage.play(Turn(reasoning=THOUGHT, text="Hello from a chat model."))
    arguments = ["--thinking", "-f", "pixel.png", "-m", f"{provider}/{stage.model}", "Hello"]
    code, printed, log = opencode_run(binary, home, project, *arguments)

    assert code == 0, log
    assert "Hello from a chat model." in printed
    assert "They ask for the weather." in printed
    [request] = stage.requests
    assert {"type": "text", "text": "Hello"} in request["messages"][-1]["content"]
    assert shown_image(request) == PIXEL_URL


@pytest.mark.parametrize(("provider", "dialect"), [("translator", "fireworks")])
def test_an_error_on_the_command_line(
    binary: str, home: Path, project: Path, provider: str, stage: Stage
) -> None:
    """A script that runs OpenCode learns of it, too."""
    stage.play(Trouble(401, "This key opens nothing."))
    code, printed, log = opencode_run(
        binary, home, project, "-m", f"{provider}/{stage.model}", "Hello"
    )

    assert code != 0
    assert "This key opens nothing." in printed + log
