"""pydantic-ai: agents that go on from the response before, or send everything again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.conftest import KEY, Stage, needed_module

from .talk import NEXT_PROMPT, PROMPT, RAIN, TALK, check_talk, weather

cell = pytest.mark.cell


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
    ],
)
@pytest.mark.parametrize("ask", [answered, streamed])
def test_a_talk(stage: Stage, ask: Any, settings: Any) -> None:
    ai = needed_module("pydantic_ai", "pydantic-ai-slim[openai]")
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    stage.play(*TALK)

    async def run() -> str:
        provider = OpenAIProvider(base_url=stage.base_url, api_key=KEY)
        model = OpenAIResponsesModel(stage.model, provider=provider)
        async with model.client:
            agent = ai.Agent(model, tools=[weather], model_settings=settings)
            first = await ask(agent, PROMPT)
            second = await ask(agent, NEXT_PROMPT, message_history=first.all_messages())
            return str(second.output)

    assert asyncio.run(run()) == RAIN.text
    check_talk(stage)
