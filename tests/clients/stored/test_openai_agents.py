"""openai-agents: runs that go on from a response, in Python and in JavaScript."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.clients.conftest import KEY, Stage, needed_module
from tests.clients.node_programs import Program

from .conftest import program
from .talk import NEXT_PROMPT, PROMPT, RAIN, TALK, TALK_ITEMS, check_talk, weather

agents_js = program("agents.mjs", "@openai/agents", "openai", "zod")

cell = pytest.mark.cell


@pytest.fixture
def on_agent(stage: Stage) -> Callable[..., Any]:
    """Runs a coroutine function with the module, an agent that looks up the weather, and a client."""
    agents = needed_module("agents", "openai-agents")
    openai = needed_module("openai", "openai")

    async def run(use: Callable[[Any, Any, Any], Awaitable[Any]]) -> Any:
        async with openai.AsyncOpenAI(base_url=stage.base_url, api_key=KEY) as client:
            model = agents.OpenAIResponsesModel(stage.model, client)
            agent = agents.Agent(name="A", model=model, tools=[agents.function_tool(weather)])
            return await use(agents, agent, client)

    return lambda use: asyncio.run(run(use))


OnAgent = Callable[..., Any]


async def answered(agents: Any, *arguments: Any, **options: Any) -> Any:
    return await agents.Runner.run(*arguments, **options)


async def streamed(agents: Any, *arguments: Any, **options: Any) -> Any:
    result = agents.Runner.run_streamed(*arguments, **options)
    async for _ in result.stream_events():
        pass
    return result


both_ways = pytest.mark.parametrize("ask", [answered, streamed])


@cell(client="openai-agents", case="chained")
@both_ways
def test_each_step_sends_what_is_new(on_agent: OnAgent, stage: Stage, ask: Any) -> None:
    """`auto_previous_response_id` chains the steps of a run, `previous_response_id` two runs."""
    stage.play(*TALK)

    async def use(agents: Any, agent: Any, _client: Any) -> str:
        first = await ask(agents, agent, PROMPT, auto_previous_response_id=True)
        before = first.last_response_id
        second = await ask(agents, agent, NEXT_PROMPT, previous_response_id=before)
        return str(second.final_output)

    assert on_agent(use) == RAIN.text
    check_talk(stage)


@cell(client="openai-agents", case="by itself")
@both_ways
def test_a_run_that_sends_everything(on_agent: OnAgent, stage: Stage, ask: Any) -> None:
    """By itself a run sends all items again, with the ids that they have in the store."""
    stage.play(*TALK)

    async def use(agents: Any, agent: Any, _client: Any) -> str:
        first = await ask(agents, agent, PROMPT)
        items = [*first.to_input_list(), {"role": "user", "content": NEXT_PROMPT}]
        return str((await ask(agents, agent, items)).final_output)

    assert on_agent(use) == RAIN.text
    check_talk(stage)


@cell(client="openai-agents JS", case="chained")
@pytest.mark.parametrize("case", ["chained talk", "streaming chained talk"])
def test_each_run_sends_what_is_new_in_javascript(
    agents_js: Program, stage: Stage, case: str
) -> None:
    stage.play(*TALK)
    assert agents_js.run(case, stage) == {"text": RAIN.text}
    check_talk(stage)


@cell(client="openai-agents JS", case="by itself")
def test_a_run_that_sends_everything_in_javascript(agents_js: Program, stage: Stage) -> None:
    stage.play(*TALK)
    assert agents_js.run("talk", stage) == {"text": RAIN.text}
    check_talk(stage)


@cell(client="openai-agents", case="conversation")
@both_ways
def test_a_conversation(on_agent: OnAgent, stage: Stage, ask: Any) -> None:
    """`conversation_id`: each step sends what is new."""
    stage.play(*TALK)

    async def use(agents: Any, agent: Any, client: Any) -> str:
        conversation = await client.conversations.create()
        await ask(agents, agent, PROMPT, conversation_id=conversation.id)
        second = await ask(agents, agent, NEXT_PROMPT, conversation_id=conversation.id)
        return str(second.final_output)

    assert on_agent(use) == RAIN.text
    check_talk(stage)


@cell(client="openai-agents", case="conversation")
@both_ways
def test_session_roundtrip(on_agent: OnAgent, stage: Stage, ask: Any) -> None:
    """`OpenAIConversationsSession` keeps the items, and sends all of them with each request."""
    stage.play(*TALK)

    async def use(agents: Any, agent: Any, client: Any) -> list[Any]:
        session = agents.OpenAIConversationsSession(openai_client=client)
        await ask(agents, agent, PROMPT, session=session)
        second = await ask(agents, agent, NEXT_PROMPT, session=session)
        types = [item["type"] for item in await session.get_items()]
        popped = await session.pop_item()
        left = len(await session.get_items())
        await session.clear_session()
        return [second.final_output, types, popped["content"][0]["text"], left]

    assert on_agent(use) == [RAIN.text, TALK_ITEMS, RAIN.text, len(TALK_ITEMS) - 1]
    check_talk(stage)


@cell(client="openai-agents JS", case="conversation")
def test_a_conversation_in_javascript(agents_js: Program, stage: Stage) -> None:
    stage.play(*TALK)
    assert agents_js.run("conversation", stage) == {"text": RAIN.text}
    check_talk(stage)


@cell(client="openai-agents JS", case="conversation")
def test_session_roundtrip_in_javascript(agents_js: Program, stage: Stage) -> None:
    stage.play(*TALK)
    seen = agents_js.run("session", stage)
    assert seen == {"text": RAIN.text, "items": len(TALK_ITEMS), "left": len(TALK_ITEMS) - 1}
    check_talk(stage)
