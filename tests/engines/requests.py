"""Requests that the tests and the comparison send."""

from __future__ import annotations

from typing import Any

from .script import TERSE

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "description": "About a city.",
        "parameters": CITY,
        "strict": False,
        **more,
    }


WEATHER = function("get_weather")
TIME = function("get_time")
NAMESPACE: dict[str, Any] = {
    "type": "namespace",
    "name": "atlas",
    "description": "Cities.",
    "tools": [function("population")],
}
PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Changes files.",
    "format": {"type": "text"},
}
SCHEMA: dict[str, Any] = {
    "format": {
        "type": "json_schema",
        "name": "place",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
            "required": ["city", "people"],
            "additionalProperties": False,
        },
    }
}
LOOKED_UP: list[dict[str, Any]] = [
    {"role": "user", "content": f"What is the weather in Oslo? {TERSE}"},
    {
        "type": "function_call",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": '{"city": "Oslo"}',
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "Sleet"},
]
"""A history in which the tool was called and its outcome is there: the model answers in text."""

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def hi(*cues: str) -> str:
    """A question with cues for the model."""
    return " ".join(("Hi there", *cues))
