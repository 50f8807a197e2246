"""Input items as clients write them, and the chat messages that they become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.replaying import translation
from translator import InvalidRequest, Target, Translation
from translator.dialects import Dialect


def exchange(
    items: list[Any] | str, *, dialect: str | Dialect = "base", vision: bool = True, **fields: Any
) -> Translation:
    request = {"model": "m", "input": items, **fields}
    return translation(request, dialect=dialect, target=Target(vision=vision))


def messages(items: list[Any] | str, **options: Any) -> list[dict[str, Any]]:
    body = json.loads(exchange(items, **options).chat_body)
    written: list[dict[str, Any]] = body["messages"]
    return written


def codes(items: list[Any], **options: Any) -> dict[str, str]:
    return {notice.path: notice.code for notice in exchange(items, **options).notices}


def refusal(items: list[Any], **options: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        exchange(items, **options)
    return refused.value


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(call_id: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **more,
    }


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": arguments}}


def tool(call_id: str, text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def reasoning(**fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **fields}


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "original"}
CHAT_IMAGE = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,AA==", "detail": "high"},
}
