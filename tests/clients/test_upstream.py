"""The scripted upstream is as strict as it says, or the client tests prove nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .spoken import SPOKEN, refusal
from .upstream import Call, ScriptedUpstream, Trouble, Turn, Usage

Request = dict[str, Any]

GIVEN = {"call_1": "I look."}
SCHEMA = {"name": "shape", "schema": {"type": "object"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
GOOD: Request = {
    "model": "scripted",
    "stream": True,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "I look.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
}


def good(dialect: str) -> Request:
    """A request that the dialect takes."""
    request = copy.deepcopy(GOOD)
    if dialect == "vllm":
        request["messages"][2]["reasoning"] = request["messages"][2].pop("reasoning_content")
    if dialect == "lm_studio":
        del request["messages"][2]["reasoning_content"]
    return request


def image_beside(text: str, part: Request = IMAGE) -> Callable[[Request], object]:
    content = [{"type": "text", "text": text}, part]
    return lambda r: r["messages"][1].update(content=content)


def format_of(kind: str, **more: Any) -> Callable[[Request], object]:
    def change(request: Request) -> None:
        del request["tools"]
        request["response_format"] = {"type": kind} | more

    return change


@pytest.mark.parametrize("dialect", SPOKEN)
def test_a_good_request_is_accepted(dialect: str) -> None:
    assert refusal(good(dialect), GIVEN, SPOKEN[dialect]) is None


@pytest.mark.parametrize(
    ("dialect", "change"),
    [
        ("fireworks", image_beside("What is this?")),
        ("vllm", image_beside("", {"type": "image_url", "image_url": {"url": "https://a/b.png"}})),
        ("lm_studio", image_beside("What is this?")),
        ("fireworks", lambda r: r.update(tool_choice="required", parallel_tool_calls=False)),
        ("vllm", lambda r: r.update(tool_choice={"type": "function", "function": {"name": "f"}})),
        ("fireworks", format_of("json_schema", json_schema=SCHEMA)),
        ("lm_studio", format_of("json_schema", json_schema=SCHEMA)),
        ("vllm", lambda r: r.update(max_tokens=16, chat_template_kwargs={"thinking": True})),
        ("deepseek", lambda r: r.update(thinking={"type": "disabled"}, tool_choice="required")),
        ("fireworks", lambda r: r.update(stream=False)),
    ],
)
def test_what_a_dialect_takes_is_accepted(
    dialect: str, change: Callable[[Request], object]
) -> None:
    request = good(dialect)
    change(request)
    assert refusal(request, GIVEN, SPOKEN[dialect]) is None


@pytest.mark.parametrize(
    ("dialect", "fault", "change"),
    [
        ("fireworks", "'type' of tool must be", lambda r: r["tools"].append({"type": "custom", "name": "p"})),
        ("fireworks", "comes twice", lambda r: r["tools"].append(r["tools"][0])),
        ("fireworks", "strict: Extra", lambda r: r["tools"][0]["function"].update(strict=True)),
        ("fireworks", "role: developer is not", lambda r: r["messages"][0].update(role="developer")),
        ("vllm", "role: critic is not", lambda r: r["messages"][0].update(role="critic")),
        ("fireworks", "Extra inputs", lambda r: r.update(client_metadata={})),
        ("deepseek", "Extra inputs", lambda r: r.update(prompt_cache_key="a")),
        ("fireworks", "Extra inputs", lambda r: r["messages"][3].update(reasoning_content="")),
        ("fireworks", "insufficient tool messages", lambda r: r["messages"].pop()),
        ("fireworks", "insufficient tool messages", lambda r: r["messages"].insert(3, r["messages"][1])),
        ("fireworks", "must follow the call", lambda r: r["messages"].pop(2)),
        ("fireworks", "must follow the call", lambda r: r["messages"].append(r["messages"][3])),
        ("fireworks", "must be passed back", lambda r: r["messages"][2].pop("reasoning_content")),
        ("fireworks", "must be passed back", lambda r: r["messages"][2].update(reasoning_content="I look. ")),
        ("vllm", "must be passed back", lambda r: r["messages"][2].pop("reasoning")),
        ("deepseek", "in the thinking mode", lambda r: r["messages"][2].update(reasoning_content="")),
        ("lm_studio", "Extra inputs", lambda r: r["messages"][2].update(reasoning_content="I look.")),
        ("lm_studio", "earlier turn in it", lambda r: r["messages"][2].update(content="<think>I look.</think>")),
        ("lm_studio", "content: is missing", lambda r: r["messages"][2].pop("content")),
        ("fireworks", "not a JSON object", lambda r: r["messages"][2]["tool_calls"][0].update(function={"arguments": "{"})),
        ("fireworks", "content: is missing", lambda r: r["messages"][1].update(content=None)),
        ("fireworks", "content: is not a string", lambda r: r["messages"][3].update(content=[IMAGE])),
        ("deepseek", "unknown variant `image_url`", image_beside("What is this?")),
        ("lm_studio", "base64 encoded", image_beside("", {"type": "image_url", "image_url": {"url": "https://a/b.png"}})),
        ("vllm", "must be at the beginning", lambda r: r["messages"].insert(0, r["messages"][0])),
        ("deepseek", "does not support this tool_choice", lambda r: r.update(tool_choice="required")),
        ("lm_studio", "none of the choices", lambda r: r.update(tool_choice={"type": "function", "function": {"name": "f"}})),
        ("fireworks", "is not in tools", lambda r: r.update(tool_choice={"type": "function", "function": {"name": "g"}})),
        ("fireworks", "none of the choices", lambda r: r.update(tool_choice={"type": "function", "name": "f"})),
        ("fireworks", "when tools are given", lambda r: (r.pop("tools"), r.update(tool_choice="auto"))),
        ("vllm", "when tools are given", lambda r: (r.pop("tools"), r.update(parallel_tool_calls=True))),
        ("deepseek", "json_schema is not one of", format_of("json_schema", json_schema=SCHEMA)),
        ("deepseek", "must contain the word", format_of("json_object")),
        ("lm_studio", "json_object is not one of", format_of("json_object")),
        ("fireworks", "combined with tools", lambda r: r.update(response_format={"type": "json_object"})),
        ("vllm", "name: is not a name", format_of("json_schema", json_schema={"schema": {}})),
        ("fireworks", "Invalid reasoning effort", lambda r: r.update(reasoning_effort="xhigh")),
        ("fireworks", "when stream is true", lambda r: r.update(stream=False, stream_options={})),
        ("vllm", "max_tokens is given", lambda r: r.update(max_tokens=1, max_completion_tokens=1)),
        ("lm_studio", "'type' must be a string", lambda r: r["tools"][0]["function"].update(parameters={"properties": {"a": {"type": ["string", "null"]}}})),
    ],
)  # fmt: skip
def test_a_fault_is_refused(dialect: str, fault: str, change: Callable[[Request], object]) -> None:
    request = good(dialect)
    change(request)
    assert fault in (refusal(request, GIVEN, SPOKEN[dialect]) or "")


TURN = Turn("Hi.", reasoning="A greeting.", calls=[Call("c", "f", {})], usage=Usage(9, 5, cached=4))


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ("fireworks", {"reasoning_content": "A greeting.", "content": "Hi."}),
        ("deepseek", {"reasoning_content": "A greeting.", "content": "Hi."}),
        ("vllm", {"reasoning": "A greeting.", "content": "Hi."}),
        ("lm_studio", {"content": "<think>A greeting.</think>\n\nHi."}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_is_said_in_the_dialect(dialect: str, message: Request, stream: bool) -> None:
    """A stream's pieces add up to what the answer in one piece has."""
    request = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
    if stream:
        request["stream_options"] = {"include_usage": True}
    with ScriptedUpstream(TURN, speaks=dialect) as upstream:
        answer = httpx.post(f"{upstream.base_url}/chat/completions", json=request)
    assert answer.status_code == 200
    if stream:
        *lines, end = answer.text.split("\n\n")[:-1]
        assert end == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        seen: Request = {}
        for delta in deltas:
            for name in ("reasoning", "reasoning_content", "content"):
                if delta.get(name):
                    seen[name] = seen.get(name, "") + delta[name]
        reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
        [usage] = [chunk["usage"] for chunk in chunks if "usage" in chunk]
    else:
        [choice] = answer.json()["choices"]
        seen = {name: choice["message"][name] for name in choice["message"] if name in message}
        reasons, usage = [choice["finish_reason"]], answer.json()["usage"]
    assert seen == message
    assert [reason for reason in reasons if reason] == ["tool_calls"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (9, 5, 14)
    cached = usage.get("prompt_cache_hit_tokens") or usage["prompt_tokens_details"]["cached_tokens"]
    assert cached == 4


def test_another_script_begins_anew() -> None:
    """What was asked for before is forgotten; a script that is over is a refusal."""
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with ScriptedUpstream(Trouble(429, "wait", {"retry-after": "1"})) as upstream:
        url = f"{upstream.base_url}/chat/completions"
        refused = httpx.post(url, json=request)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["message"] == "wait"
        upstream.play(Turn("Hi."))
        assert upstream.requests == []
        assert httpx.post(url, json=request).json()["choices"][0]["message"]["content"] == "Hi."
        assert httpx.post(url, json=request).status_code == 400
        assert upstream.refusals == ["the script is over"]
