"""Clients that shorten their conversations by `POST /v1/responses/compact`."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.clients.conftest import Stage, needed_module
from tests.clients.upstream import Turn
from translator.request.compaction import SUMMARY_REQUEST

from . import script

# The SDK's types know no user messages in an output, though OpenAI sends them, too: it warns.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

SUMMARY = "The user counts: one, two. “Naïvely”. 🤔"


def contents(request: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request["messages"]]


def test_the_openai_sdk_goes_on_from_a_compaction(stage: Stage) -> None:
    """What `compact` returns is the next input, and its compaction holds the summary."""
    stage.play(
        Turn(reasoning=script.THOUGHT, text=SUMMARY),
        Turn(reasoning="A greeting.", text="Three."),
    )
    talk: Any = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "two"},
    ]
    with openai.OpenAI(base_url=stage.base_url, api_key=script.KEY, max_retries=0) as client:
        short = client.responses.compact(model=stage.model, input=talk, instructions="Count.")
        more: Any = [*short.output, {"role": "user", "content": "three"}]
        answer = client.responses.create(model=stage.model, input=more, instructions="Count.")

    assert [item.type for item in short.output] == ["message", "message", "compaction"]
    assert short.usage.output_tokens == 30
    assert answer.output_text == "Three."
    asked, going_on = map(contents, stage.requests)
    said = [(message["role"], message["content"]) for message in talk]
    assert asked == [("system", "Count."), *said, ("user", SUMMARY_REQUEST)]
    assert [text for _, text in going_on[:3]] == ["Count.", "one", "two"]
    assert going_on[3][0] == "user"
    assert going_on[3][1].endswith(f"\n\n{SUMMARY}")
    assert going_on[4:] == [("user", "three")]


@pytest.mark.parametrize("dialect", ["fireworks", "deepseek", "vllm"])
def test_a_session_of_openai_agents_compacts_itself(stage: Stage) -> None:
    """The session replaces what it stored, and later turns are made of what it then has."""
    agents = needed_module("agents", "openai-agents")
    stage.play(
        Turn(text="One."),
        Turn(reasoning=script.THOUGHT, text="Two."),
        Turn(text=SUMMARY),
        Turn(text="Three."),
    )

    async def counting() -> tuple[list[str], list[Any]]:
        agents.set_tracing_disabled(True)
        async with openai.AsyncOpenAI(base_url=stage.base_url, api_key=script.KEY) as client:
            stored = agents.SQLiteSession("counting")
            session = agents.OpenAIResponsesCompactionSession(
                "counting",
                stored,
                client=client,
                model="gpt-4.1",  # it refuses names that are not OpenAI's
                compaction_mode="input",
                should_trigger_compaction=lambda seen: len(seen["compaction_candidate_items"]) > 1,
            )
            model = agents.OpenAIResponsesModel(stage.model, client)
            agent = agents.Agent(name="Assistant", model=model)
            said = [
                (await agents.Runner.run(agent, prompt, session=session)).final_output
                for prompt in ("one", "two", "three")
            ]
            items = await session.get_items()
            stored.close()
            return said, items

    said, items = asyncio.run(counting())

    assert said == ["One.", "Two.", "Three."]
    kinds = [item.get("type", "message") for item in items]
    assert kinds == ["message", "message", "compaction", "message", "message"]
    asked, going_on = map(contents, stage.requests[2:])
    assert asked[-1] == ("user", SUMMARY_REQUEST)
    assert ("assistant", "Two.") in asked
    assert [text for _, text in going_on[:2]] == ["one", "two"]
    assert going_on[2][1].endswith(f"\n\n{SUMMARY}")
    assert going_on[3:] == [("user", "three")]
