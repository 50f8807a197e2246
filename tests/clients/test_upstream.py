"""The scripted upstream is as strict as it says, or the client tests prove nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from .upstream import refusal

Request = dict[str, Any]

GIVEN = {"call_1": "I look."}
GOOD: Request = {
    "model": "scripted",
    "stream": True,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I look.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
}


def spoil(change: Callable[[Request], object]) -> Request:
    request = copy.deepcopy(GOOD)
    change(request)
    return request


def test_a_good_request_is_accepted() -> None:
    assert refusal(GOOD, GIVEN) is None


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("'type' of tool must be", lambda r: r["tools"].append({"type": "custom", "name": "p"})),
        ("comes twice", lambda r: r["tools"].append(r["tools"][0])),
        ("role: developer is not", lambda r: r["messages"][0].update(role="developer")),
        ("Extra inputs", lambda r: r.update(client_metadata={})),
        ("Extra inputs", lambda r: r["messages"][3].update(reasoning_content="")),
        ("insufficient tool messages", lambda r: r["messages"].pop()),
        ("insufficient tool messages", lambda r: r["messages"].insert(3, r["messages"][1])),
        ("must follow the call", lambda r: r["messages"].pop(2)),
        ("must follow the call", lambda r: r["messages"].append(r["messages"][3])),
        ("must be passed back", lambda r: r["messages"][2].pop("reasoning_content")),
        ("must be passed back", lambda r: r["messages"][2].update(reasoning_content="I look. ")),
        (
            "not a JSON object",
            lambda r: r["messages"][2]["tool_calls"][0].update(function={"arguments": "{"}),
        ),
        ("content: is missing", lambda r: r["messages"][1].update(content=None)),
    ],
)
def test_a_fault_is_refused(fault: str, change: Callable[[Request], object]) -> None:
    assert fault in (refusal(spoil(change), GIVEN) or "")
