"""A conversation that each client has here: a question, two calls, an answer, another question."""

from __future__ import annotations

from tests.clients.conftest import Stage
from tests.clients.upstream import Call, Turn

PROMPT = "What is the weather?"
NEXT_PROMPT = "And tomorrow?"
THOUGHT = "They ask for the weather.\nIt is “fine”, I think."
NOW_KNOWN = "Now I know."

LOOKS_TWICE = Turn(
    reasoning=THOUGHT,
    text="Let me look.",
    calls=[Call("a", "weather", {"city": "Rome"}), Call("b", "weather", {"city": "Reykjavík"})],
)
ANSWERS = Turn(reasoning=NOW_KNOWN, text="Rome is warmer.")
RAIN = Turn(text="Rain.")

TALK = (LOOKS_TWICE, ANSWERS, RAIN)
TALK_ITEMS = [
    *("message", "reasoning", "message", "function_call", "function_call"),
    *("function_call_output", "function_call_output", "reasoning", "message"),
    *("message", "message"),
]
"""The types of its items, as they are listed."""


def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: {len(city)} degrees"


def check_talk(stage: Stage) -> None:
    """After TALK: each request of the model begins with the one before, as it was answered.

    The reasoning is back on its turns, word for word.
    """
    first, second, third = [request["messages"] for request in stage.requests]
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    seen = [one for one in third if one["role"] != "system"]
    assert [(one["role"], one["content"]) for one in seen] == [
        ("user", PROMPT),
        ("assistant", "Let me look."),
        ("tool", "Rome: 4 degrees"),
        ("tool", "Reykjavík: 9 degrees"),
        ("assistant", "Rome is warmer."),
        ("user", NEXT_PROMPT),
    ]
    assert [call["id"] for call in seen[1]["tool_calls"]] == ["a", "b"]
    assert [one["tool_call_id"] for one in seen[2:4]] == ["a", "b"]
    assert [one.get("reasoning_content") for one in (seen[1], seen[4])] == [THOUGHT, NOW_KNOWN]
