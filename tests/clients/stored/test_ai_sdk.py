"""The Vercel AI SDK: by itself it refers to its earlier messages and thoughts by their ids."""

from __future__ import annotations

import pytest

from tests.clients.conftest import KEY, Stage, needed_module
from tests.clients.node_programs import Program
from tests.clients.upstream import Turn

from .conftest import program
from .talk import NEXT_PROMPT, NOW_KNOWN, PROMPT, RAIN, TALK, THOUGHT, check_talk

ai_sdk = program("ai-sdk.mjs", "ai", "@ai-sdk/openai", "zod")

cell = pytest.mark.cell


@cell(client="Vercel AI SDK", case="by itself")
@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("case", ["talk", "streaming talk"])
def test_ai_sdk_defaults_two_turns(ai_sdk: Program, stage: Stage, case: str, thinks: bool) -> None:
    """What it refers to, and what it sends itself: for a model that it takes for a reasoner, less."""
    stage.play(*TALK)
    seen = ai_sdk.run(case, stage, openai={"forceReasoning": True} if thinks else {})
    assert seen["text"] == RAIN.text
    check_talk(stage)


@cell(client="Vercel AI SDK", case="chained")
def test_it_goes_on_from_the_response_before(ai_sdk: Program, stage: Stage) -> None:
    stage.play(*TALK)
    seen = ai_sdk.run("talk from the response before", stage, openai={})
    assert seen["text"] == RAIN.text
    check_talk(stage)


@cell(client="Vercel AI SDK", case="conversation")
def test_a_conversation(ai_sdk: Program, stage: Stage) -> None:
    """It refers to nothing, and sends questions and results again: the results are there once."""
    openai = needed_module("openai", "openai")
    stage.play(*TALK)
    with openai.OpenAI(base_url=stage.base_url, api_key=KEY) as client:
        conversation = client.conversations.create().id
    seen = ai_sdk.run("talk", stage, openai={"conversation": conversation})
    assert seen["text"] == RAIN.text
    asked = stage.requests[2]["messages"]
    answered = [one for one in asked if one["role"] in ("assistant", "tool")]
    assert [one["content"] for one in answered] == [
        *("Let me look.", "Rome: 4 degrees", "Reykjavík: 9 degrees", "Rome is warmer."),
    ]
    assert [one["reasoning_content"] for one in answered[::3]] == [THOUGHT, NOW_KNOWN]
    said = [one["content"] for one in asked if one["role"] == "user"]
    assert said == [PROMPT, PROMPT, PROMPT, NEXT_PROMPT]  # as far as anybody knows


def test_what_it_sends_twice_is_there_once(ai_sdk: Program, stage: Stage) -> None:
    """With all messages beside `previousResponseId` it refers to a text that is in the context."""
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."), RAIN)
    seen = ai_sdk.run("all messages after the response before", stage, openai={})
    assert seen["text"] == RAIN.text
    said = [(one["role"], one["content"]) for one in stage.requests[1]["messages"]]
    assert said == [
        ("user", PROMPT),
        ("assistant", "Sunny."),
        ("user", PROMPT),  # it has no id: as far as anybody knows it was asked twice
        ("user", NEXT_PROMPT),
    ]
