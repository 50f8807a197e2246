"""Clients that rely on stored responses, as they come, against a service with a store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEY, Stage, needed_module, serving, settings_file
from .node_programs import Program, running, workshop
from .upstream import Call, ScriptedUpstream, Turn

THOUGHT = "The user asks about the weather."
CALL = Call("call_1", "weather", {"city": "Paris"})


@pytest.fixture(scope="module")
def storing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A scripted upstream, and a translator with a store in front of it."""
    folder = tmp_path_factory.mktemp("stored")
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream(speaks="fireworks"))
        file = settings_file(folder, upstream)
        file.write_text(f"{file.read_text()}\n[store]\n")
        yield Stage(upstream, stack.enter_context(serving(None, "--config", str(file))))


@pytest.fixture
def stage(storing: Stage) -> Iterator[Stage]:
    storing.play()
    yield storing
    assert storing.upstream.left == 0


@pytest.fixture(scope="module")
def ai_sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = workshop(tmp_path_factory.mktemp("ai-sdk"), "ai", "@ai-sdk/openai", "zod")
    with running(folder, "ai-sdk.mjs") as program:
        yield program


def test_the_ai_sdk_refers_to_its_earlier_answers(ai_sdk: Program, stage: Stage) -> None:
    """Without `store: false`, which it needs where nothing is stored."""
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."), Turn(text="Rain."))
    assert ai_sdk.run("conversation", stage, openai={})["text"] == "Rain."
    asked = stage.requests[1]["messages"]
    assert [one["role"] for one in asked] == ["user", "assistant", "user"]
    assert asked[1]["content"] == "Sunny."


def test_the_agents_go_on_from_the_response_before(stage: Stage) -> None:
    """Each step of a run sends what is new; the model sees all of it, its reasoning, too."""
    agents = needed_module("agents", "openai-agents")
    openai = needed_module("openai", "openai")
    stage.play(Turn(reasoning=THOUGHT, calls=[CALL]), Turn(text="Sunny."), Turn(text="Rain."))

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"Sunny in {city}."

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=stage.base_url, api_key=KEY) as client:
            model = agents.OpenAIResponsesModel(stage.model, client)
            agent = agents.Agent(name="A", model=model, tools=[agents.function_tool(weather)])
            first = await agents.Runner.run(agent, "Weather?", auto_previous_response_id=True)
            second = await agents.Runner.run(
                agent, "And tomorrow?", previous_response_id=first.last_response_id
            )
            return [first.final_output, second.final_output]

    assert asyncio.run(run()) == ["Sunny.", "Rain."]
    asked = stage.requests[2]["messages"]
    roles = [one["role"] for one in asked if one["role"] != "system"]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert THOUGHT in json.dumps(asked)


def test_langchain_goes_on_from_the_response_before(stage: Stage) -> None:
    langchain = needed_module("langchain_openai", "langchain-openai")
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."), Turn(text="Rain."))
    model = langchain.ChatOpenAI(
        model=stage.model, base_url=stage.base_url, api_key=KEY,
        use_responses_api=True, use_previous_response_id=True,
    )  # fmt: skip
    messages: list[Any] = [("user", "Weather?")]
    messages += [model.invoke(messages), ("user", "And tomorrow?")]
    assert model.invoke(messages).text == "Rain."
    asked = stage.requests[1]["messages"]
    assert [(one["role"], one["content"]) for one in asked] == [
        ("user", "Weather?"),
        ("assistant", "Sunny."),
        ("user", "And tomorrow?"),
    ]


def test_pydantic_ai_goes_on_from_the_response_before(stage: Stage) -> None:
    ai = needed_module("pydantic_ai", "pydantic-ai-slim[openai]")
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    stage.play(Turn(text="Sunny."), Turn(text="Rain."))

    async def run() -> str:
        model = OpenAIResponsesModel(
            stage.model, provider=OpenAIProvider(base_url=stage.base_url, api_key=KEY)
        )
        async with model.client:
            agent = ai.Agent(model, model_settings={"openai_previous_response_id": "auto"})
            first = await agent.run("Weather?")
            second = await agent.run("And tomorrow?", message_history=first.all_messages())
            return str(second.output)

    assert asyncio.run(run()) == "Rain."
    asked = stage.requests[1]["messages"]
    assert [one["role"] for one in asked] == ["user", "assistant", "user"]


def test_the_sdk_reads_pages_and_deletes(stage: Stage) -> None:
    openai = needed_module("openai", "openai")
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."), Turn(text="Rain."))
    with openai.OpenAI(base_url=stage.base_url, api_key=KEY) as client:
        first = client.responses.create(model=stage.model, input="Weather?")
        with client.responses.stream(
            model=stage.model, input="And tomorrow?", previous_response_id=first.id
        ) as stream:
            second = stream.get_final_response()
        assert client.responses.retrieve(first.id) == first
        assert client.responses.retrieve(second.id).output_text == second.output_text == "Rain."
        pages = client.responses.input_items.list(second.id, limit=1, order="asc")
        assert [item.type for item in pages] == ["message", "reasoning", "message", "message"]
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError):
            client.responses.cancel(second.id)
