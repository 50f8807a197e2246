"""Invariants of every event stream, checked on its wire form.

`check_events` encodes the events of one response and checks the frames: sequence numbers, nesting,
deltas against the text of their done event, and strictly the types of the `openai` package. Nothing
here knows how the events were made.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jsonschema
import openai.types.responses as sdk
from pydantic import BaseModel

import translator
from translator import Event
from translator.wire import responses

TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
LIFECYCLE = {
    **TERMINAL,
    "response.created": "in_progress",
    "response.queued": "queued",
    "response.in_progress": "in_progress",
}
DELTA_OF = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.refusal.delta": ("response.refusal.done", "refusal"),
    "response.reasoning_text.delta": ("response.reasoning_text.done", "text"),
    "response.reasoning_summary_text.delta": ("response.reasoning_summary_text.done", "text"),
    "response.function_call_arguments.delta": (
        "response.function_call_arguments.done",
        "arguments",
    ),
    "response.custom_tool_call_input.delta": ("response.custom_tool_call_input.done", "input"),
}
DONE_FIELD = dict(DELTA_OF.values())
ITEM_OF_EVENT = {
    "response.output_text": "message",
    "response.refusal": "message",
    "response.content_part": ("message", "reasoning"),
    "response.reasoning_text": "reasoning",
    "response.reasoning_summary_text": "reasoning",
    "response.reasoning_summary_part": "reasoning",
    "response.function_call_arguments": "function_call",
    "response.custom_tool_call_input": "custom_tool_call",
    "response.web_search_call": "web_search_call",
    "response.mcp_list_tools": "mcp_list_tools",
    "response.mcp_call": "mcp_call",
    "response.mcp_call_arguments": "mcp_call",
}
HOSTED = frozenset({"web_search_call", "mcp_call", "mcp_list_tools", "mcp_approval_request"})
"""Items of tools that the service runs: they may have failed, and the response goes on."""
NOTHING = type(None)
RESPONSE_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys("id object status model service_tier truncation".split(), (str,)),
    **dict.fromkeys("created_at top_logprobs".split(), (int,)),
    **dict.fromkeys("temperature top_p presence_penalty frequency_penalty".split(), (int, float)),
    **dict.fromkeys("parallel_tool_calls store background".split(), (bool,)),
    **dict.fromkeys("completed_at max_output_tokens max_tool_calls".split(), (int, NOTHING)),
    **dict.fromkeys("output tools".split(), (list,)),
    **dict.fromkeys("metadata text reasoning".split(), (dict,)),
    **dict.fromkeys("error incomplete_details usage".split(), (dict, NOTHING)),
    **dict.fromkeys(
        "instructions previous_response_id safety_identifier user".split(), (str, NOTHING)
    ),
    **dict.fromkeys("prompt_cache_key prompt_cache_retention moderation".split(), (str, NOTHING)),
    "tool_choice": (str, dict),
}
"""Fields of every response, in every state: clients fail on one that is missing or null."""
MAY_CHANGE = {
    "status",
    "output",
    "usage",
    "error",
    "incomplete_details",
    "completed_at",
    "service_tier",
    "tool_usage",
}

ERROR_TYPES = {
    "context_length_exceeded": "invalid_request_error",
    "insufficient_quota": "insufficient_quota",
    "invalid_prompt": "invalid_request_error",
    "rate_limit_exceeded": "rate_limit_error",
    "server_error": "server_error",
}
"""The type of an error in a stream, by its code."""

SCHEMA = Path(__file__).resolve().parents[2] / "shared/schema/openai-responses.schema.json"


def check_events(events: Sequence[Event], *, retracted: bool = False) -> dict[str, Any]:
    """Check one response's events; returns the final response as JSON.

    `retracted`: it was whole, or cut by a limit, and its end was taken back.
    """
    return check_wire([_wire(event) for event in events], retracted=retracted)


def check_wire(wire: list[dict[str, Any]], *, retracted: bool = False) -> dict[str, Any]:
    """The same for events that are JSON objects."""
    for number, event in enumerate(wire):
        assert event["sequence_number"] == number
        check_types(event)
    _check_lifecycle(wire)
    final: dict[str, Any] = wire[-1]["response"]
    _check_items(wire, final)
    _check_final(final, retracted=retracted)
    return final


def _wire(event: Event) -> dict[str, Any]:
    frame = translator.encode_sse(event)
    head, data, blank, end = frame.split(b"\n")
    assert blank == end == b""
    assert data.startswith(b"data: ")
    body = json.loads(data[6:].decode("utf-8"))
    assert head == b"event: " + body["type"].encode()
    return body


# --- types --------------------------------------------------------------------------------------


@functools.cache
def _event_models() -> dict[str, type[BaseModel]]:
    union = get_args(sdk.ResponseStreamEvent)[0]
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


@functools.cache
def _schema_validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    return jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"})


def check_types(event: dict[str, Any]) -> None:
    """The event validates against its model in the `openai` package."""
    model = _event_models()[event["type"]]
    model.model_validate_json(json.dumps(_in_listed_words(event)), strict=True)


def _in_listed_words(event: dict[str, Any]) -> dict[str, Any]:
    """The event without words that are right although the API's types do not list them."""
    event = _with_listed_code(event)
    if event["type"] == "response.output_item.added" and event["item"]["type"] == "web_search_call":
        # OpenAI's live API leaves the action out, too, which its own types require
        return {**event, "item": {"action": {"type": "search", "query": ""}, **event["item"]}}
    if "response" not in event:
        return event
    return {**event, "response": _with_listed_advice(event["response"])}


LISTED_ADVICE: dict[str, tuple[str, ...]] = {
    "reasoning.effort": get_args(responses.Effort),
    "reasoning.summary": get_args(responses.Summary),
    "text.verbosity": get_args(responses.Verbosity),
    "service_tier": get_args(responses.Tier),
    "truncation": get_args(responses.Truncation),
    "prompt_cache_retention": get_args(responses.CacheRetention),
}


def _with_listed_advice(response: dict[str, Any]) -> dict[str, Any]:
    """A response repeats the client's words, known or not; they are text in any case."""
    listed = dict(response)
    for path, words in LISTED_ADVICE.items():
        outer, _, name = path.rpartition(".")
        holder = listed[outer] if outer else listed
        value = holder[name]
        if value is not None and value not in words:
            assert isinstance(value, str), path
            known = {**holder, name: words[0]}
            listed = {**listed, outer: known} if outer else known
    return listed


def _with_listed_code(event: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's live API sends two codes that its own types do not list, and Codex acts on them."""
    error = event["response"]["error"] if event["type"] == "response.failed" else None
    if error and error["code"] in ("context_length_exceeded", "insufficient_quota"):
        listed = {**error, "code": "server_error"}
        return {**event, "response": {**event["response"], "error": listed}}
    return event


def check_response_types(response: dict[str, Any]) -> None:
    """The same for a response object, the body of an answer that is not streamed."""
    _check_shape(response)
    sdk.Response.model_validate_json(json.dumps(_with_listed_advice(response)), strict=True)


def check_schema(event: dict[str, Any]) -> None:
    """The event validates against OpenAI's JSON Schema, where that is present; slow."""
    _schema_validator("ResponseStreamEvent").validate(_in_listed_words(event))


def _check_shape(response: dict[str, Any]) -> None:
    """Every field is present, and null only where null is allowed."""
    assert response.keys() >= RESPONSE_FIELDS.keys()
    for field, types in RESPONSE_FIELDS.items():
        value = response[field]
        assert isinstance(value, types), field
        assert bool in types or not isinstance(value, bool), field
    assert response["object"] == "response"
    assert response["text"].keys() == {"format", "verbosity"}
    assert response["reasoning"].keys() == {"effort", "summary"}
    for tool in response["tools"]:
        assert tool["type"] != "function" or tool.keys() >= {
            "name",
            "description",
            "parameters",
            "strict",
        }
    if response["incomplete_details"] is not None:
        assert response["incomplete_details"]["reason"] in ("max_output_tokens", "content_filter")


# --- lifecycle ----------------------------------------------------------------------------------


def _check_lifecycle(wire: list[dict[str, Any]]) -> None:
    kinds = [event["type"] for event in wire]
    in_background = wire[0]["response"]["background"]
    first_kinds = ["response.created", "response.queued", "response.in_progress"]
    assert [kind for kind in kinds if kind in first_kinds] == kinds[: 2 + in_background]
    assert kinds[: 2 + in_background] == first_kinds[:: 1 if in_background else 2]
    assert kinds.count("response.created") == kinds.count("response.in_progress") == 1
    assert [kind for kind in kinds if kind in TERMINAL] == [kinds[-1]]
    if "error" in kinds:
        assert kinds.count("error") == 1
        assert kinds[-2:] == ["error", "response.failed"]
        error = wire[-2]
        assert {key: error[key] for key in ("code", "message", "param")} == {
            key: error["error"][key] for key in ("code", "message", "param")
        }
        assert error["error"]["type"] == ERROR_TYPES[error["code"]]
        assert wire[-1]["response"]["error"] == {key: error[key] for key in ("code", "message")}
    first = wire[0]["response"]
    for event in wire:
        status = LIFECYCLE.get(event["type"])
        if status is None:
            continue
        response = event["response"]
        if event["type"] == "response.created" and in_background:
            status = "queued"
        assert response["status"] == status
        _check_shape(response)
        for field, value in first.items():
            assert field in MAY_CHANGE or response[field] == value, field
        if status in ("queued", "in_progress"):
            assert response["output"] == []
            assert response["usage"] is None


def _check_final(final: dict[str, Any], *, retracted: bool) -> None:
    status = final["status"]
    assert (final["error"] is not None) == (status == "failed")
    assert (final["incomplete_details"] is not None) == (status == "incomplete")
    assert (final["completed_at"] is not None) == (status == "completed")
    if status == "completed":
        assert final["completed_at"] >= final["created_at"]
    if status == "failed":
        assert final["error"]["code"]
        assert final["error"]["message"]
    own = [item for item in final["output"] if item["type"] not in HOSTED]
    statuses = [item.get("status", "completed") for item in own]
    may_be_cut = status == "incomplete" or retracted
    allowed_last = {"completed", "incomplete"} if may_be_cut else {"completed"}
    assert all(one == "completed" for one in statuses[:-1])
    assert set(statuses[-1:]) <= allowed_last
    ids = [item["id"] for item in final["output"]]
    assert len(set(ids)) == len(ids)
    call_ids = [item["call_id"] for item in final["output"] if "call_id" in item]
    assert len(set(call_ids)) == len(call_ids)
    if final["usage"] is not None:
        usage = final["usage"]
        details = usage["input_tokens_details"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert 0 <= details["cached_tokens"] <= usage["input_tokens"]
        assert 0 <= details["cache_write_tokens"] <= usage["input_tokens"]
        reasoning = usage["output_tokens_details"]["reasoning_tokens"]
        assert 0 <= reasoning <= usage["output_tokens"]


# --- items --------------------------------------------------------------------------------------


def _check_items(wire: list[dict[str, Any]], final: dict[str, Any]) -> None:
    done: list[dict[str, Any]] = []
    opened = 0
    item: _OpenItem | None = None
    for event in wire:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert item is None, "two items are open"
            assert event["output_index"] == opened
            opened += 1
            item = _OpenItem(event["item"], event["output_index"])
        elif kind == "response.output_item.done":
            assert item is not None
            item.close(event)
            done.append(event["item"])
            item = None
        elif kind not in LIFECYCLE and kind != "error":
            assert item is not None, f"{kind} outside of an item"
            item.feed(event)
    assert item is None or final["status"] == "failed"
    assert final["output"] == done


class _OpenItem:
    """State of one output item between its added and its done event."""

    def __init__(self, item: dict[str, Any], output_index: int) -> None:
        self.item = item
        self.output_index = output_index
        self.parts: dict[str, list[dict[str, Any]]] = {"content": [], "summary": []}
        self.open: dict[str, dict[str, Any]] = {}  # by list: the open part
        self.text: dict[str, list[str]] = {}  # by event family: the deltas so far
        self.finished: set[str] = set()
        self.annotations: list[dict[str, Any]] = []
        assert re.fullmatch(r"[a-z]+_[A-Za-z0-9]{24,}", item["id"])
        for field, empty in (("arguments", ""), ("input", ""), ("content", []), ("summary", [])):
            if item["type"] in ("tool_search_call", "mcp_approval_request"):
                break
            assert item.get(field, empty) == empty
        self.hosted_events: list[str] = []
        if item["type"] in ("mcp_list_tools", "mcp_approval_request"):
            assert not item.get("tools")
        elif item["type"] in HOSTED:
            assert item["status"] == "in_progress"
        elif "call" in item["type"]:
            assert item["call_id"]
        if item["type"] in ("function_call", "custom_tool_call"):
            assert item["name"]

    def feed(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        family = kind.rsplit(".", 1)[0]
        if kind == "response.output_text.annotation.added":
            assert event["annotation_index"] == len(self.annotations)
            self.annotations.append(event["annotation"])
            family = "response.output_text"
        assert self.item["type"] in ITEM_OF_EVENT[family], kind
        assert event["item_id"] == self.item["id"]
        assert event["output_index"] == self.output_index
        if self.item["type"] in HOSTED:
            self.hosted_events.append(kind.rsplit(".", 1)[1])
            if "delta" in event:
                self.text.setdefault("arguments", []).append(event["delta"])
                self.hosted_events.pop()
            if "arguments" in event:
                assert event["arguments"] == "".join(self.text["arguments"])
            return
        where = "summary" if "summary_index" in event else "content"
        index = event.get(f"{where}_index")
        if kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
            assert where not in self.open
            assert index == len(self.parts[where])
            self.open[where] = event["part"]
            self.finished = {name for name in self.finished if not name.startswith(where)}
            self.text = {name: t for name, t in self.text.items() if not name.startswith(where)}
            self.annotations = []
            empty = event["part"].get("text", event["part"].get("refusal"))
            assert empty == ""
            return
        if kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
            opened = self.open.pop(where)
            part = event["part"]
            assert part["type"] == opened["type"]
            assert index == len(self.parts[where])
            text = part.get("text", part.get("refusal"))
            (joined,) = [t for name, t in self.text.items() if name.startswith(where)] or [[]]
            assert text == "".join(joined)
            assert any(name.startswith(where) for name in self.finished), "part without done event"
            if part["type"] == "output_text":
                assert part["annotations"] == self.annotations
            self.parts[where].append(part)
            return
        if index is not None:
            assert where in self.open
            assert index == len(self.parts[where])
        key = f"{where if index is not None else 'whole'}:{family}"
        if kind in DELTA_OF:
            assert isinstance(event["delta"], str)
            assert event["delta"]
            assert key not in self.finished
            self.text.setdefault(key, []).append(event["delta"])
        elif kind in DONE_FIELD:
            assert key not in self.finished
            assert event[DONE_FIELD[kind]] == "".join(self.text.get(key, []))
            self.finished.add(key)

    def close(self, event: dict[str, Any]) -> None:
        done = event["item"]
        assert event["output_index"] == self.output_index
        for field in ("id", "type", "call_id", "name", "namespace", "role"):
            assert done.get(field) == self.item.get(field), field
        assert not self.open
        match done["type"]:
            case "message":
                assert done["content"] == self.parts["content"]
            case "reasoning":
                assert done["summary"] == self.parts["summary"]
                assert done.get("content", []) == self.parts["content"]
            case "function_call":
                assert done["arguments"] == "".join(self._whole())
            case "custom_tool_call":
                assert done["input"] == "".join(self._whole())
            case "web_search_call":
                self._check_search(done)
            case "mcp_call":
                self._check_call(done)
            case "mcp_list_tools":
                end = "failed" if "error" in done else "completed"
                assert self.hosted_events == ["in_progress", end]
                assert None not in done.values()
                assert not any(None in tool.values() for tool in done["tools"])
            case "mcp_approval_request":
                assert done == self.item
                assert self.hosted_events == []

    def _check_call(self, done: dict[str, Any]) -> None:
        assert done["arguments"] == "".join(self.text.get("arguments", []))
        set_ones = [name for name in ("output", "error") if done[name] is not None]
        match done["status"]:
            case "completed" | "failed":
                assert set_ones == ["output" if done["status"] == "completed" else "error"]
                assert self.hosted_events == ["in_progress", "done", done["status"]]
            case _:
                assert done["status"] == "incomplete"
                assert set_ones == []

    def _check_search(self, done: dict[str, Any]) -> None:
        expected = ["in_progress"]
        if done["status"] != "incomplete" and done["action"]["type"] == "search":
            expected.append("searching")
        if done["status"] == "completed":
            expected.append("completed")
        assert self.hosted_events == expected
        assert done["status"] in ("completed", "failed", "incomplete")

    def _whole(self) -> list[str]:
        assert self.finished
        return next(iter(self.text.values()), [])
