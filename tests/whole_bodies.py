"""The chat completion that corresponds to a final response.

It is made from the response and not from the upstream's chunks, and so shares no code with the
decoding of streams.
"""

from __future__ import annotations

import json
from typing import Any

FINISH = {
    "completed": "stop",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}


def completion_of(response: dict[str, Any]) -> dict[str, Any] | None:
    """The completion; None for a response that none can represent.

    A message holds reasoning, then text or a refusal, then calls: anything in another order has no
    such form.
    """
    message: dict[str, Any] = {"role": "assistant"}
    calls: list[dict[str, Any]] = []
    for item in response["output"]:
        match item:
            case {"type": "reasoning", "summary": [{"text": text}]} if len(message) == 1:
                message["reasoning_content"] = text
            case {"type": "message", "content": [part]} if not calls and "content" not in message:
                message["content"] = part.get("text", "")
                message["refusal"] = part.get("refusal")
            case {"type": "function_call", "name": name} if _is_usual(item):
                calls.append(_call(item, name, item["arguments"]))
            case {"type": "custom_tool_call", "name": name, "status": "completed"}:
                calls.append(_call(item, name, json.dumps({"input": item["input"]})))
            case _:
                return None
    reason = (response["incomplete_details"] or {}).get("reason", response["status"])
    if reason not in FINISH:
        return None
    body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": FINISH[reason]}],
    }
    if calls:
        message["tool_calls"] = calls
    if response["usage"] is not None:
        body["usage"] = _usage(response["usage"])
    return body


def _is_usual(item: dict[str, Any]) -> bool:
    return "namespace" not in item and len(item["name"]) <= 64


def _call(item: dict[str, Any], name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": item["call_id"], "type": "function", "function": function}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": usage["input_tokens_details"],
        "completion_tokens_details": usage["output_tokens_details"],
    }
