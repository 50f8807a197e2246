"""What a question gets: text in pieces, reasoning, an object that fits a schema, an eye on images."""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import KEY, Stage
from tests.clients.upstream import Turn, Usage
from translator.request.content import IMAGE_OMITTED

from .chat_requests import Request, data_url, functions, image_urls, items, png
from .session import Session

THOUGHT = "A greeting. I am “polite”:\n\n1. hello\n2. no more."
ANSWER = "Grüß Gott 👋, from a chat model.\n\n```c\nint main(void) { return '\\0'; }\n```"
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["n", "why"],
    "additionalProperties": False,
}


@pytest.mark.cell(client="Codex CLI", case="text")
def test_a_question_is_answered(codex: Session, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text=ANSWER, usage=Usage(prompt=4321, completion=56)))
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (0, ANSWER), outcome.log
    assert outcome.printed == f"{ANSWER}\n"
    assert "tokens used\n4,377\n" in outcome.log
    [request] = stage.requests
    assert request["messages"][-1] == {"role": "user", "content": "say hello"}
    assert request["model"] == stage.model
    assert stage.upstream.keys == [f"Bearer {KEY}"]


def told(messages: list[Request], method: str) -> list[str]:
    """The pieces that Codex told an editor under one name."""
    return [m["params"]["delta"] for m in messages if m.get("method") == method]


@pytest.mark.cell(client="Codex CLI", case="streaming")
def test_an_answer_arrives_in_pieces(codex: Session, stage: Stage) -> None:
    """Editors show each piece as the upstream sends it."""
    stage.play(Turn(text=ANSWER, gap_s=0.005))
    pieces = told(codex.talk("say hello"), "item/agentMessage/delta")
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 5


@pytest.mark.cell(client="Codex CLI", case="reasoning")
def test_reasoning_is_shown(codex: Session, stage: Stage) -> None:
    """As a summary: there Codex shows it without further settings, in pieces."""
    stage.play(Turn(reasoning=THOUGHT, text=ANSWER, gap_s=0.005))
    messages = codex.talk("say hello")
    pieces = told(messages, "item/reasoning/summaryTextDelta")
    assert "".join(pieces) == THOUGHT
    assert len(pieces) > 3
    assert "".join(told(messages, "item/agentMessage/delta")) == ANSWER


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_reasoning_is_printed(codex: Session, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text=ANSWER))
    assert THOUGHT in codex.exec("say hello").log


@pytest.mark.cell(client="Codex CLI", case="structured")
def test_an_answer_fits_a_schema(codex: Session, stage: Stage) -> None:
    """--output-schema reaches the upstream in the form that it has for it beside tools, if any."""
    answer = '{"n": 3, "why": "I counted."}'
    (codex.folder / "schema.json").write_text(json.dumps(SCHEMA))
    stage.play(Turn(text=answer))
    outcome = codex.exec("count, as json", "--output-schema", "schema.json")

    assert (outcome.code, json.loads(outcome.last_message)) == (0, json.loads(answer)), outcome.log
    wanted = codex.requests[0]["text"]["format"]
    assert (wanted["type"], wanted["schema"]) == ("json_schema", SCHEMA)
    [request] = stage.requests
    assert functions(request), "Codex always sends tools"
    spoken, notices = stage.upstream.spoken, codex.wire.exchanges[0].notices
    if not spoken.format_beside_tools:
        assert "response_format" not in request
    elif "json_schema" in spoken.formats:
        assert request["response_format"]["json_schema"]["schema"] == SCHEMA
    else:
        assert request["response_format"] == {"type": "json_object"}
        assert "weakened" in notices


@pytest.mark.cell(client="Codex CLI", case="image")
def test_an_image_of_the_command_line(codex: Session, stage: Stage) -> None:
    """It reaches a model that sees, between the words that Codex puts around it."""
    (codex.folder / "image.png").write_bytes(png())
    stage.play(Turn(text="A red square."))
    outcome = codex.exec("what is this?", "--image", "image.png")

    assert (outcome.code, outcome.last_message) == (0, "A red square."), outcome.log
    sent = items(codex.requests[0], "message")[-1]["content"]
    assert data_url(png()) in [part.get("image_url") for part in sent]
    message = stage.requests[0]["messages"][-1]
    if stage.upstream.spoken.images == "none":
        assert IMAGE_OMITTED in message["content"]
        assert message["content"].endswith("what is this?")
    else:
        assert image_urls(message) == [data_url(png())]
        assert message["content"][-1] == {"type": "text", "text": "what is this?"}


@pytest.mark.cell(client="Codex CLI", case="incomplete")
def test_an_answer_that_ran_into_its_limit(codex: Session, stage: Stage) -> None:
    """Codex does not take it for a whole one: it ends with an error that says why."""
    stage.play(Turn(text="This sentence has no", finish="length"))
    outcome = codex.exec("say something")

    assert outcome.code != 0
    assert "This sentence has no" in outcome.log
    assert "Incomplete response returned, reason: max_output_tokens" in outcome.log
