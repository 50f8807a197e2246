"""pydantic-ai: agents that go on from the response before, or send everything again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.clients.conftest import KEY, Stage, needed_module

from .talk import NEXT_PROMPT, PROMPT, RAIN, TALK, check_talk, weather

cell = pytest.mark.cell

Use = Callable[[Any, Any], Awaitable[Any]]


@pytest.fixture
def on_agent(stage: Stage) -> Callable[[Use], Any]:
    """Runs a coroutine function with an agent that looks up the weather, and its client."""
    ai = needed_module("pydantic_ai", "pydantic-ai-slim[openai]")
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def run(use: Use) -> Any:
        provider = OpenAIProvider(base_url=stage.base_url, api_key=KEY)
        model = OpenAIResponsesModel(stage.model, provider=provider)
        async with model.client:
            return await use(ai.Agent(model, tools=[weather]), model.client)

    return lambda use: asyncio.run(run(use))


OnAgent = Callable[[Use], Any]


async def answered(agent: Any, *arguments: Any, **settings: Any) -> Any:
    return await agent.run(*arguments, **settings)


async def streamed(agent: Any, *arguments: Any, **settings: Any) -> Any:
    async with agent.run_stream_events(*arguments, **settings) as events:
        *_, last = [event async for event in events]
    return last.result


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, marks=cell(client="pydantic-ai", case="by itself")),
        pytest.param(
            {"openai_previous_response_id": "auto"},
            marks=cell(client="pydantic-ai", case="chained"),
        ),
        pytest.param({"openai_background": True}, id="background"),
    ],
)
@pytest.mark.parametrize("ask", [answered, streamed])
def test_a_talk(on_agent: OnAgent, stage: Stage, ask: Any, settings: Any) -> None:
    stage.play(*TALK)

    async def use(agent: Any, _client: Any) -> str:
        first = await ask(agent, PROMPT, model_settings=settings)
        history = first.all_messages()
        second = await ask(agent, NEXT_PROMPT, message_history=history, model_settings=settings)
        return str(second.output)

    assert on_agent(use) == RAIN.text
    check_talk(stage)


@cell(client="pydantic-ai", case="conversation")
@pytest.mark.parametrize("ask", [answered, streamed])
def test_a_conversation(on_agent: OnAgent, stage: Stage, ask: Any) -> None:
    stage.play(*TALK)

    async def use(agent: Any, client: Any) -> str:
        settings = {"openai_conversation_id": (await client.conversations.create()).id}
        first = await ask(agent, PROMPT, model_settings=settings)
        history = first.all_messages()
        second = await ask(agent, NEXT_PROMPT, message_history=history, model_settings=settings)
        return str(second.output)

    assert on_agent(use) == RAIN.text
    check_talk(stage)


@pytest.mark.parametrize("ask", [answered, streamed])
def test_in_the_background(on_agent: OnAgent, stage: Stage, ask: Any) -> None:
    """It polls, or follows the events, and counts the tokens of what goes on from a response."""
    from pydantic_ai import UsageLimits

    stage.play(*TALK)
    settings = {"openai_background": True, "openai_previous_response_id": "auto"}
    limits = UsageLimits(input_tokens_limit=100_000, count_tokens_before_request=True)

    async def use(agent: Any, _client: Any) -> str:
        first = await ask(agent, PROMPT, model_settings=settings)
        history = first.all_messages()
        second = await ask(
            agent, NEXT_PROMPT,
            message_history=history, model_settings=settings, usage_limits=limits,
        )  # fmt: skip
        return str(second.output)

    assert on_agent(use) == RAIN.text
    check_talk(stage)
