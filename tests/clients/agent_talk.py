"""Two turns of openai-agents with one hosted tool, as its users write them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .conftest import KEY, Stage, needed_module


def talk_twice(
    stage: Stage, model: str, tool: Callable[[Any], Any], prompt: str, *, streamed: bool
) -> tuple[str, list[Any], str]:
    """The first answer, its new items, and the answer to a question behind `to_input_list`.

    `tool` makes the hosted tool, given the module `agents`.
    """
    agents = needed_module("agents", "openai-agents")
    openai = needed_module("openai", "openai")

    async def talk() -> tuple[str, list[Any], str]:
        async with openai.AsyncOpenAI(base_url=stage.base_url, api_key=KEY) as client:
            agent = agents.Agent(
                name="Assistant",
                model=agents.OpenAIResponsesModel(model, client),
                model_settings=agents.ModelSettings(store=False),
                tools=[tool(agents)],
            )
            if streamed:
                first = agents.Runner.run_streamed(agent, prompt)
                async for _ in first.stream_events():
                    pass
            else:
                first = await agents.Runner.run(agent, prompt)
            more = [*first.to_input_list(), {"role": "user", "content": "Sure?"}]
            second = await agents.Runner.run(agent, more)
            return first.final_output, first.new_items, second.final_output

    agents.set_tracing_disabled(True)
    return asyncio.run(talk())
