"""The summary notation of a response, in which the `source.toml` of a fixture states expectations.

    R text                      reasoning
    M text                      a message of one text part
    X text                      a message of one refusal part
    F name call_id arguments    a function call; in a namespace, "namespace/name"
    C name call_id input        a custom tool call; in a namespace likewise
    T type call_id body         a call of any other tool; the body is JSON
    Z text                      a compaction, unsealed

A letter is followed by "!" when the item's status is "incomplete". The notations of a message's
parts are joined by " + ". A call id that was generated here is "*".
"""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

MADE_HERE = re.compile(r"call_\d{24}(?=\Z|~)")
"""Call ids as `run.counting_ids` generates them."""

ACTIONS = {
    "tool_search_call": "arguments",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}


class Summary(Struct):
    """A response in the notation; `cut` is the item that a failure left open."""

    items: list[str] = []
    cut: str | None = None
    citations: list[str] = []
    sealed: list[Any] = []
    status: str | None = None
    usage: tuple[int, int, int, int] | None = None
    message: str = ""


def summary_of(response: dict[str, Any], events: list[Any]) -> Summary:
    """The summary of a final response and its events."""
    output = response["output"]
    parts = [part for item in output for part in item.get("content", [])]
    error: dict[str, Any] = response["error"] or {}
    return Summary(
        items=[item_notation(item) for item in output],
        cut=_cut(events),
        citations=[
            f"{one['url']} {one['start_index']}-{one['end_index']} {one['title']}".rstrip()
            for part in parts
            for one in part.get("annotations", [])
        ],
        sealed=[
            item["encrypted_content"]
            for item in output
            if item["type"] == "reasoning" and "encrypted_content" in item
        ],
        status=_status(response),
        usage=_usage(response["usage"]),
        message=error.get("message", ""),
    )


def item_notation(item: dict[str, Any]) -> str:
    """One output item in the notation."""
    mark = "!" if item.get("status") == "incomplete" else ""
    match item["type"]:
        case "reasoning":
            parts = item["summary"] or item.get("content", [])
            text = "".join(part["text"] for part in parts)
            return f"R{mark} {text}" if text else f"R{mark}"
        case "message":
            return " + ".join(
                f"M{mark} {part['text']}"
                if part["type"] == "output_text"
                else f"X{mark} {part['refusal']}"
                for part in item["content"]
            )
        case "function_call":
            return f"F{mark} {_tool(item)} {_call_id(item)} {item['arguments']}"
        case "custom_tool_call":
            return f"C{mark} {_tool(item)} {_call_id(item)} {item['input']}"
        case "compaction":
            return f"Z {item['encrypted_content']['summary']}"
        case kind:
            body = json.dumps(item[ACTIONS[kind]], ensure_ascii=False)
            return f"T{mark} {kind} {_call_id(item)} {body}"


def _tool(item: dict[str, Any]) -> str:
    return "/".join(filter(None, (item.get("namespace"), item["name"])))


def _call_id(item: dict[str, Any]) -> str:
    return MADE_HERE.sub("*", item["call_id"])


def _cut(events: list[Any]) -> str | None:
    """The item that was added and never done, with the deltas sent so far."""
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    if len(added) == len(done):
        return None
    item = dict(added[-1]["item"])
    deltas = [
        event["delta"]
        for event in events
        if event["type"].endswith(".delta") and event["output_index"] == added[-1]["output_index"]
    ]
    text = "".join(deltas)
    match item["type"]:
        case "reasoning":
            item["summary"] = [{"text": text}]
        case "message":
            item["content"] = [{"type": "output_text", "text": text}]
        case "function_call":
            item["arguments"] = text
        case _:
            item["input"] = text
    return item_notation(item)


def _status(response: dict[str, Any]) -> str:
    match response["status"]:
        case "incomplete":
            return f"incomplete:{response['incomplete_details']['reason']}"
        case "failed":
            return f"failed:{response['error']['code']}"
        case status:
            return str(status)


def _usage(usage: dict[str, Any] | None) -> tuple[int, int, int, int] | None:
    if usage is None:
        return None
    return (
        usage["input_tokens"],
        usage["output_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )
