"""The dialects of the scripted upstream: what each sends, and what each rejects.

They are defined a second time here, and not read from the table under test. Each is stricter than
the real one: it rejects every key that the real one is not known to accept, also where that one
would only ignore it.

    fireworks   reasoning_content, there and back; structured output never beside tools
    deepseek    text only; thinks, so no tool may be forced; json_object, and the word in the prompt
    vllm        reasoning, under this or its older name; one system message at the beginning
    lm_studio   reasoning between tags inside the text, never back; images as data URLs only
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Mapping[str, Any]

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
DATA_URL = re.compile(r"data:image/[a-z+.-]+;base64,[A-Za-z0-9+/]+={0,2}")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
REQUEST_KEYS = frozenset(
    "model messages tools tool_choice stream stream_options response_format max_tokens temperature"
    " top_p presence_penalty frequency_penalty seed stop logprobs top_logprobs".split()
)
MESSAGE_KEYS = {  # by role
    "system": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}


@dataclass(frozen=True)
class Spoken:
    """One dialect. A fact says what is observed of the upstream; nothing asks for the name."""

    name: str
    model: str
    """A model that is served there."""

    # what it gives
    reasoning: Literal["reasoning_content", "reasoning"] | None
    """The field that reasoning comes in; None: between tags inside the text."""
    first: Json
    """The delta of the first chunk."""
    beside_reasoning: Json = field(default_factory=dict)
    beside_text: Json = field(default_factory=dict)
    finish: Json = field(default_factory=dict)
    """The delta beside the finish reason."""
    usage: Literal["on the finish", "at the end"] = "at the end"
    cached: Literal["details", "hit and miss"] = "details"
    envelope: Literal["error", "error with object", "text"] = "error"
    """The shape of an error's body."""

    # what it takes
    keys: frozenset[str] = frozenset()
    """Keys of a request beyond those that all take."""
    returned: frozenset[str] = frozenset()
    """Fields in which the client must return reasoning, unchanged."""
    reasoning_required: bool = False
    """While it thinks, an assistant message with calls has reasoning."""
    efforts: frozenset[str] = frozenset()
    forced_while_thinking: bool = True
    named_choice: bool = True
    formats: frozenset[str] = frozenset({"json_object", "json_schema"})
    format_beside_tools: bool = True
    says_json: bool = False
    """For json_object the word must stand in a message."""
    images: Literal["none", "data URLs", "any"] = "any"
    one_system_message: bool = False
    content_beside_calls: bool = False
    """An assistant message that only calls has a string as content, too."""
    plain_types: bool = False
    """`type` in the schema of a tool is one string."""


SPOKEN = {
    spoken.name: spoken
    for spoken in (
        Spoken(
            "fireworks",
            "accounts/fireworks/models/kimi-k2p6",
            reasoning="reasoning_content",
            first={"role": "assistant"},
            usage="on the finish",
            envelope="error with object",
            keys=frozenset("max_completion_tokens n logit_bias parallel_tool_calls user".split())
            | {"reasoning_effort", "prompt_cache_key"},
            returned=frozenset({"reasoning_content"}),
            efforts=frozenset({"none", "low", "medium", "high"}),
            format_beside_tools=False,
        ),
        Spoken(
            "deepseek",
            "deepseek-v4-pro",
            reasoning="reasoning_content",
            first={"role": "assistant", "content": None, "reasoning_content": ""},
            beside_reasoning={"content": None},
            beside_text={"reasoning_content": None},
            finish={"content": "", "reasoning_content": None},
            usage="on the finish",
            cached="hit and miss",
            keys=frozenset({"thinking", "reasoning_effort"}),
            returned=frozenset({"reasoning_content"}),
            reasoning_required=True,
            efforts=frozenset({"low", "high", "max"}),
            forced_while_thinking=False,
            formats=frozenset({"json_object"}),
            says_json=True,
            images="none",
        ),
        Spoken(
            "vllm",
            "Qwen/Qwen3.6-35B-A3B",
            reasoning="reasoning",
            first={"role": "assistant", "content": ""},
            keys=frozenset("max_completion_tokens n logit_bias parallel_tool_calls user".split())
            | frozenset("reasoning_effort chat_template_kwargs top_k min_p".split())
            | {"repetition_penalty"},
            returned=frozenset({"reasoning", "reasoning_content"}),
            efforts=frozenset(EFFORTS),
            format_beside_tools=False,  # it takes one, and then the model cannot call
            one_system_message=True,
        ),
        Spoken(
            "lm_studio",
            "qwen/qwen3-8b",
            reasoning=None,
            first={"role": "assistant"},
            envelope="text",
            keys=frozenset({"max_completion_tokens", "logit_bias", "repetition_penalty", "top_k"}),
            named_choice=False,
            formats=frozenset({"json_schema"}),
            format_beside_tools=False,
            images="data URLs",
            content_beside_calls=True,
            plain_types=True,
        ),
    )
}
"""By the name that `--dialect` has for it."""


def refusal(body: Json, given: Mapping[str, str], spoken: Spoken) -> str | None:
    """The reason why a strict upstream rejects this request, or None.

    `given` is the reasoning that each call id was made with.
    """
    faults = itertools.chain(
        _request_faults(body, spoken),
        _tool_faults(body, spoken),
        _choice_faults(body, spoken),
        _format_faults(body, spoken),
        _message_faults(body, given, spoken),
    )
    return next(faults, None)


def thinks(body: Json) -> bool:
    """Whether the request leaves the thinking of the model on."""
    return (body.get("thinking") or {}).get("type") != "disabled"


def _request_faults(body: Json, spoken: Spoken) -> Iterator[str]:
    for key in body.keys() - REQUEST_KEYS - spoken.keys:
        yield f"{key}: Extra inputs are not permitted"
    if not isinstance(body.get("model"), str):
        yield "model: is missing"
    if not isinstance(body.get("stream", False), bool):
        yield "stream: is not a boolean"
    if "stream_options" in body and not body.get("stream"):
        yield "stream_options: can only be defined when stream is true"
    if "max_tokens" in body and "max_completion_tokens" in body:
        yield "max_completion_tokens: max_tokens is given, too"
    for key in ("max_tokens", "max_completion_tokens"):
        if key in body and not (isinstance(body[key], int) and body[key] > 0):
            yield f"{key}: is not a positive integer"
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in spoken.efforts:
        yield f"reasoning_effort: Invalid reasoning effort: {effort}"


def _tool_faults(body: Json, spoken: Spoken) -> Iterator[str]:
    if body.get("tools", True) in ([], None):
        yield "tools: is empty"
    if "parallel_tool_calls" in body and "tools" not in body:
        yield "parallel_tool_calls: is only allowed when tools are given"
    names: list[str] = []
    for index, tool in enumerate(body.get("tools") or []):
        at = f"tools[{index}]"
        if tool.get("type") != "function":
            yield f"{at}.type: 'type' of tool must be 'function'"
        elif tool.keys() != {"type", "function"}:
            yield f"{at}: expected the keys type and function"
        elif not TOOL_NAME.fullmatch(tool["function"].get("name", "")):
            yield f"{at}.function.name: is not a name"
        else:
            function = tool["function"]
            names.append(function["name"])
            for key in function.keys() - {"name", "description", "parameters"}:
                yield f"{at}.function.{key}: Extra inputs are not permitted"
            if not isinstance(function.get("description", ""), str):
                yield f"{at}.function.description: is not a string"
            if not isinstance(function.get("parameters", {}), dict):
                yield f"{at}.function.parameters: is not an object"
            elif spoken.plain_types and any(_type_lists(function.get("parameters", {}))):
                yield f"{at}.function.parameters: 'type' must be a string"
    if len(names) != len(set(names)):
        yield "tools: a name comes twice"


def _type_lists(schema: Any) -> Iterator[list[Any]]:
    """Every `type` that is a list, anywhere in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), list):
            yield schema["type"]
        schema = list(schema.values())
    for value in schema if isinstance(schema, list) else ():
        yield from _type_lists(value)


def _choice_faults(body: Json, spoken: Spoken) -> Iterator[str]:
    choice = body.get("tool_choice", "auto")
    if "tool_choice" in body and "tools" not in body:
        yield "tool_choice: is only allowed when tools are given"
    if choice in ("auto", "none"):
        return
    if thinks(body) and not spoken.forced_while_thinking:
        yield "Thinking mode does not support this tool_choice"
    if choice == "required":
        return
    name = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    if choice != {"type": "function", "function": {"name": name}} or not spoken.named_choice:
        yield f"tool_choice: {choice!r} is none of the choices"
    elif name not in [tool["function"]["name"] for tool in body.get("tools") or []]:
        yield f"tool_choice: {name} is not in tools"


def _format_faults(body: Json, spoken: Spoken) -> Iterator[str]:
    wanted = body.get("response_format")
    if wanted is None:
        return
    kind = wanted.get("type")
    if kind not in spoken.formats:
        yield f"response_format.type: {kind} is not one of {', '.join(sorted(spoken.formats))}"
    if "tools" in body and not spoken.format_beside_tools:
        yield "response_format: cannot be combined with tools"
    if kind == "json_schema":
        schema = wanted.get("json_schema", {})
        if not TOOL_NAME.fullmatch(schema.get("name", "")):
            yield "response_format.json_schema.name: is not a name"
        if not isinstance(schema.get("schema"), dict):
            yield "response_format.json_schema.schema: is not an object"
    elif spoken.says_json and "json" not in json.dumps(body.get("messages")).lower():
        yield "Prompt must contain the word 'json' in some form to use response_format json_object"


def _message_faults(body: Json, given: Mapping[str, str], spoken: Spoken) -> Iterator[str]:
    if not body.get("messages"):
        yield "messages: is empty"
    unanswered: list[str] = []
    for index, message in enumerate(body.get("messages", [])):
        at, role = f"messages[{index}]", message.get("role")
        if role not in MESSAGE_KEYS:
            yield f"{at}.role: {role} is not one of {', '.join(MESSAGE_KEYS)}"
            continue
        allowed = MESSAGE_KEYS[role] | (spoken.returned if role == "assistant" else set())
        for key in message.keys() - allowed:
            yield f"{at}.{key}: Extra inputs are not permitted"
        if role == "system" and index > 0 and spoken.one_system_message:
            yield f"{at}.role: System message must be at the beginning."
        if role == "tool":
            if message.get("tool_call_id") not in unanswered:
                yield f"{at}: a tool message must follow the call that it answers"
            else:
                unanswered.remove(message["tool_call_id"])
        elif unanswered:
            yield f"{at}: insufficient tool messages following tool_calls: {unanswered}"
        if role == "assistant" and message.get("tool_calls"):
            unanswered = [call["id"] for call in message["tool_calls"]]
            yield from _call_faults(message, at, given, spoken, thinking=thinks(body))
        yield from _content_faults(message, at, spoken)
    if unanswered:
        yield f"messages: insufficient tool messages following tool_calls: {unanswered}"


def _content_faults(message: Json, at: str, spoken: Spoken) -> Iterator[str]:
    content, role = message.get("content"), message["role"]
    if content is None:
        if not message.get("tool_calls") or spoken.content_beside_calls:
            yield f"{at}.content: is missing"
    elif isinstance(content, list) and role == "user":
        for index, part in enumerate(content):
            yield from _part_faults(part, f"{at}.content[{index}]", spoken)
    elif not isinstance(content, str):
        yield f"{at}.content: is not a string"
    elif role == "assistant" and "<think>" in content:
        yield f"{at}.content: has the reasoning of an earlier turn in it"


def _part_faults(part: Json, at: str, spoken: Spoken) -> Iterator[str]:
    match part:
        case {"type": "text", "text": str()} if part.keys() == {"type", "text"}:
            return
        case {"type": "image_url", "image_url": {"url": str(url)}} if spoken.images != "none":
            if not DATA_URL.fullmatch(url) and (spoken.images != "any" or "://" not in url):
                yield f"{at}.image_url.url: 'url' field must be a base64 encoded image."
        case _:
            yield f"{at}: unknown variant `{part.get('type')}`, expected `text`"


def _call_faults(
    message: Json, at: str, given: Mapping[str, str], spoken: Spoken, *, thinking: bool
) -> Iterator[str]:
    came_back = next((message[name] for name in spoken.returned if name in message), None)
    if spoken.reasoning_required and thinking and not came_back:
        yield f"{at}: The reasoning_content in the thinking mode must be passed back to the API."
    for call in message["tool_calls"]:
        if call.get("type") != "function":
            yield f"{at}.tool_calls: 'type' must be 'function'"
        try:
            is_object = isinstance(json.loads(call["function"]["arguments"]), dict)
        except ValueError:
            is_object = False
        if not is_object:
            yield f"{at}.tool_calls: the arguments of {call['id']} are not a JSON object"
        if spoken.returned and call["id"] in given and came_back != given[call["id"]]:
            yield f"{at}: the reasoning of {call['id']} must be passed back as it was given"
