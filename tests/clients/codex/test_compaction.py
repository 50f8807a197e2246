"""What Codex does when its context is full: it asks for a summary, and goes on with that.

How it asks depends on the provider's name. Of a server that calls itself "OpenAI" it wants a
compaction item, by a `compaction_trigger`; any other one gets a message that asks the model.
`/v1/responses/compact` it never calls.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Stage, serving
from tests.clients.recorder import Recorder
from tests.clients.upstream import ScriptedUpstream, Trouble, Turn, Usage
from translator.request.compaction import PREFIX, SUMMARY_REQUEST

from .chat_requests import items, results, roles, run
from .session import PROVIDER, Session

LIMIT = 20_000  # tokens, from which on Codex compacts
FULL = Usage(prompt=50_000, completion=100)
THOUGHT = "First I look.\n"
SUMMARY = "The folder was read: it holds “nothing”.\nNext: say so. 😀 \\n"
TRIGGER = {"type": "compaction_trigger"}
OVERFLOW = Trouble(400, "This model's maximum context length is 262143 tokens, however …")
OUT_OF_ROOM = "Codex ran out of room in the model's context window"


@pytest.fixture(autouse=True)
def limited(request: pytest.FixtureRequest) -> None:
    if "codex" not in request.fixturenames:
        return
    codex: Session = request.getfixturevalue("codex")
    codex.config["model_auto_compact_token_limit"] = LIMIT


def looks() -> Turn:
    """A turn after which the context is full."""
    return Turn(reasoning=THOUGHT, text="I look.", calls=[run("echo nothing")], usage=FULL)


def sent_answer(codex: Session, number: int) -> list[dict[str, Any]]:
    """The output of one answer that Codex got."""
    lines = codex.wire.exchanges[number].body.decode().splitlines()
    frames = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    output: list[dict[str, Any]] = json.loads(frames[-1])["response"]["output"]
    return output


def test_the_model_is_asked_by_a_message(codex: Session, stage: Stage) -> None:
    """In mid-turn: the model goes on with the summary in place of what it did."""
    stage.play(looks(), Turn(reasoning="What matters?", text=SUMMARY), Turn(text="It is empty."))
    outcome = codex.exec("what is here?")

    assert (outcome.code, outcome.last_message) == (0, "It is empty."), outcome.log
    assert "context compacted" in outcome.log
    asked, after = codex.requests[1:]
    assert items(asked, "function_call_output")
    assert asked["input"][-1]["role"] == "user"
    assert "CONTEXT CHECKPOINT" in asked["input"][-1]["content"][0]["text"]
    assert not items(after, "function_call")
    assert SUMMARY in after["input"][-1]["content"][0]["text"]
    before, summing, going_on = stage.requests
    assert summing["messages"][: len(before["messages"])] == before["messages"]
    assert "tools" not in summing
    assert "nothing" in results(summing)["functions.exec_command:0"]
    assert roles(going_on)[-2:] == ["user", "user"]
    assert SUMMARY in going_on["messages"][-1]["content"]
    assert results(going_on) == {}


def test_a_server_named_openai_is_asked_by_a_trigger(codex: Session, stage: Stage) -> None:
    """Codex gets exactly one compaction and sends it back as it was given."""
    codex.config[f"{PROVIDER}.name"] = "OpenAI"
    stage.play(looks(), Turn(reasoning="What matters?", text=SUMMARY), Turn(text="It is empty."))
    outcome = codex.exec("what is here?")

    assert (outcome.code, outcome.last_message) == (0, "It is empty."), outcome.log
    assert "context compacted" in outcome.log
    first, asked, after = codex.requests
    assert asked["input"][-1] == TRIGGER
    assert asked["tools"] == first["tools"]
    [made] = sent_answer(codex, 1)
    assert made["encrypted_content"].startswith(PREFIX)
    [returned] = items(after, "compaction")
    assert returned["encrypted_content"] == made["encrypted_content"]
    assert {exchange.path for exchange in codex.wire.exchanges} == {"/v1/responses"}
    before, summing, going_on = stage.requests
    assert summing["messages"][: len(before["messages"])] == before["messages"]
    assert summing["messages"][-1] == {"role": "user", "content": SUMMARY_REQUEST}
    assert summing["tools"] == before["tools"], "the upstream's cache begins with them"
    assert summing["tool_choice"] == "none"
    [told] = [m for m in going_on["messages"] if SUMMARY in str(m["content"])]
    assert told["role"] == "user"
    assert {"role": "user", "content": "what is here?"} in going_on["messages"]
    assert results(going_on) == {}


@pytest.mark.parametrize("dialect", ["fireworks", "vllm"])
@pytest.mark.parametrize("name", ["translator", "OpenAI"])
def test_a_session_goes_on_from_its_summary(codex: Session, stage: Stage, name: str) -> None:
    """Other processes resume it: the summary is made once, and stays where it is, byte for byte."""
    codex.config[f"{PROVIDER}.name"] = name
    stage.play(
        Turn(text="One.", usage=FULL),
        Turn(text=SUMMARY),
        Turn(reasoning=THOUGHT, text="Two.", calls=[run("echo two")]),
        Turn(text="Two, indeed."),
        Turn(text="Three."),
    )
    said = [codex.exec("one")]
    said += [codex.exec(prompt, "resume", "--last") for prompt in ("two", "three")]

    assert [one.last_message for one in said] == ["One.", "Two, indeed.", "Three."], said[-1].log
    [found] = {
        json.dumps([m for m in request["messages"] if SUMMARY in str(m["content"])])
        for request in stage.requests[2:]
    }
    assert len(json.loads(found)) == 1
    for earlier, later in zip(stage.requests[2:], stage.requests[3:], strict=False):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


@pytest.mark.parametrize("dialect", ["fireworks", "deepseek", "lm_studio"])
def test_a_context_that_overflows_is_said_so_and_compacted_next(
    codex: Session, stage: Stage
) -> None:
    """Whatever words the upstream has for it. Codex ends the turn; the next one compacts first."""
    stage.play(
        Turn(text="I look.", calls=[run("echo nothing")]),
        OVERFLOW,
        Turn(text=SUMMARY),
        Turn(text="It is empty."),
    )
    first = codex.exec("what is here?")
    assert first.code != 0
    assert OUT_OF_ROOM in first.log
    second = codex.exec("go on", "resume", "--last")

    assert (second.code, second.last_message) == (0, "It is empty."), second.log
    assert "context compacted" in second.log
    assert SUMMARY in str(stage.requests[3]["messages"][-2]["content"])


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_summary_for_which_there_is_no_room_is_made_of_less(codex: Session, stage: Stage) -> None:
    """Codex takes away its oldest items, as often as the upstream says that it is too much."""
    stage.play(looks(), OVERFLOW, OVERFLOW, Turn(text=SUMMARY), Turn(text="It is empty."))
    outcome = codex.exec("what is here?")

    assert (outcome.code, outcome.last_message) == (0, "It is empty."), outcome.log
    lengths = [len(request["input"]) for request in codex.requests[1:4]]
    assert lengths == [lengths[0], lengths[0] - 1, lengths[0] - 2]


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_compaction_that_fails_is_asked_for_again(codex: Session, stage: Stage) -> None:
    """No summary, then half of one, then nothing but a call: none of them becomes a compaction."""
    codex.config[f"{PROVIDER}.name"] = "OpenAI"
    stage.play(
        looks(),
        Turn(text="The folder was", cut=True),
        Turn(
            reasoning="I would rather look again.",
            calls=[run("echo again", "functions.exec_command:1")],
        ),
        Turn(text=SUMMARY),
        Turn(text="It is empty."),
    )
    outcome = codex.exec("what is here?")

    assert (outcome.code, outcome.last_message) == (0, "It is empty."), outcome.log
    assert [request["input"][-1] == TRIGGER for request in codex.requests] == [False, True, True, True, False]  # fmt: skip
    assert len(items(codex.requests[-1], "compaction")) == 1


@pytest.mark.parametrize("dialect", ["fireworks"])
@pytest.mark.parametrize(
    ("step", "reason"),
    [(Turn(text="The folder was", finish="length"), "max_output_tokens"), (OVERFLOW, OUT_OF_ROOM)],
)
def test_a_compaction_that_cannot_be_is_said_so(
    codex: Session, stage: Stage, step: Turn | Trouble, reason: str
) -> None:
    """Codex ends the turn and says why, and keeps its history."""
    codex.config[f"{PROVIDER}.name"] = "OpenAI"
    stage.play(looks(), step)
    outcome = codex.exec("what is here?")

    assert outcome.code != 0
    assert reason in outcome.log


@pytest.mark.parametrize("dialect", ["fireworks"])
@pytest.mark.parametrize("name", ["translator", "OpenAI"])
def test_over_a_websocket_too(codex: Session, stage: Stage, name: str) -> None:
    """Where only what is new travels, what was replaced must not come back from what is known."""
    codex.config[f"{PROVIDER}.name"] = name
    codex.config[f"{PROVIDER}.supports_websockets"] = True
    codex.config[f"{PROVIDER}.base_url"] = stage.base_url  # the recorder passes on no WebSocket
    stage.play(
        looks(),
        Turn(text=SUMMARY),
        Turn(text="Once more.", calls=[run("echo two", "functions.exec_command:1")]),
        Turn(text="It is empty."),
    )
    outcome = codex.exec("what is here?")

    assert (outcome.code, outcome.last_message) == (0, "It is empty."), outcome.log
    _, summing, going_on, last = stage.requests
    assert "functions.exec_command:0" in results(summing)
    assert results(going_on) == {}
    assert SUMMARY in going_on["messages"][-1]["content"]
    assert last["messages"][: len(going_on["messages"])] == going_on["messages"]
    assert list(results(last)) == ["functions.exec_command:1"]


def test_another_model_writes_the_summary(codex_binary: str, tmp_path: Path) -> None:
    """`compact_with`: on its own upstream, in its dialect; the first model goes on with it."""
    with ScriptedUpstream() as first, ScriptedUpstream(speaks="deepseek") as second:
        model = first.spoken.model
        file = tmp_path / "settings.toml"
        file.write_text(
            f'[upstreams.first]\nbase_url = "{first.base_url}"\ndialect = "fireworks"\n'
            f'[upstreams.second]\nbase_url = "{second.base_url}"\ndialect = "deepseek"\n'
            f'[models."{model}"]\nupstream = "first"\ncompact_with = "writer"\n'
            f'[models."writer"]\nupstream = "second"\nupstream_model = "{second.spoken.model}"\n'
        )
        with serving(None, "--config", str(file)) as base, Recorder(base) as recorder:
            codex = Session(codex_binary, tmp_path, recorder, model)
            codex.config["model_auto_compact_token_limit"] = LIMIT
            codex.config[f"{PROVIDER}.name"] = "OpenAI"
            first.play(looks(), Turn(text="It is empty."))
            second.play(Turn(reasoning="What matters?", text=SUMMARY))
            outcome = codex.exec("what is here?")

    assert (outcome.code, outcome.last_message) == (0, "It is empty."), outcome.log
    assert "context compacted" in outcome.log
    assert first.refusals == second.refusals == []
    [summing] = second.requests
    assert summing["messages"][-1] == {"role": "user", "content": SUMMARY_REQUEST}
    assert SUMMARY in first.requests[1]["messages"][-1]["content"]
    assert {sent["model"] for sent in codex.requests} == {model}
