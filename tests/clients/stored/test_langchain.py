"""LangChain's `ChatOpenAI`: by itself it sends everything again; told so, it sends what is new."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import pytest

from tests.clients.conftest import KEY, Stage, needed_module

from .talk import NEXT_PROMPT, PROMPT, RAIN, TALK, check_talk, weather


def invoke(model: Any, messages: Any) -> Any:
    return model.invoke(messages)


def stream(model: Any, messages: Any) -> Any:
    return reduce(add, model.stream(messages))


@pytest.mark.parametrize(
    "chained",
    [
        pytest.param(False, marks=pytest.mark.cell(client="LangChain", case="by itself")),
        pytest.param(True, marks=pytest.mark.cell(client="LangChain", case="chained")),
    ],
)
@pytest.mark.parametrize("ask", [invoke, stream])
def test_a_talk(stage: Stage, ask: Any, chained: bool) -> None:
    langchain = needed_module("langchain_openai", "langchain-openai")
    from langchain_core.messages import ToolMessage

    stage.play(*TALK)
    chat = langchain.ChatOpenAI(
        model=stage.model, base_url=stage.base_url, api_key=KEY,
        use_responses_api=True, use_previous_response_id=chained,
    )  # fmt: skip
    model = chat.bind_tools([weather])
    messages: list[Any] = [("user", PROMPT)]
    turn = ask(model, messages)
    messages.append(turn)
    messages += [
        ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in turn.tool_calls
    ]
    messages += [ask(model, messages), ("user", NEXT_PROMPT)]
    assert ask(model, messages).text == RAIN.text
    check_talk(stage)


@pytest.mark.cell(client="LangChain", case="conversation")
@pytest.mark.parametrize("ask", [invoke, stream])
def test_a_conversation(stage: Stage, ask: Any) -> None:
    """It has no word for one, but passes it on: its user sends what is new."""
    langchain = needed_module("langchain_openai", "langchain-openai")
    openai = needed_module("openai", "openai")
    from langchain_core.messages import ToolMessage

    stage.play(*TALK)
    with openai.OpenAI(base_url=stage.base_url, api_key=KEY) as client:
        conversation = client.conversations.create().id
    chat = langchain.ChatOpenAI(
        model=stage.model, base_url=stage.base_url, api_key=KEY, use_responses_api=True
    )
    model = chat.bind_tools([weather], conversation=conversation)
    turn = ask(model, [("user", PROMPT)])
    ask(
        model,
        [ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in turn.tool_calls],
    )
    assert ask(model, [("user", NEXT_PROMPT)]).text == RAIN.text
    check_talk(stage)


def test_empty_input_with_parent(stage: Stage) -> None:
    """A message of the model at the end leaves nothing to send: the model goes on."""
    langchain = needed_module("langchain_openai", "langchain-openai")
    stage.play(TALK[1], RAIN)
    model = langchain.ChatOpenAI(
        model=stage.model, base_url=stage.base_url, api_key=KEY,
        use_responses_api=True, use_previous_response_id=True,
    )  # fmt: skip
    first = model.invoke(PROMPT)
    assert model.invoke([("user", PROMPT), first]).text == RAIN.text
    seen = [(one["role"], one["content"]) for one in stage.requests[1]["messages"]]
    assert seen == [("user", PROMPT), ("assistant", TALK[1].text)]
