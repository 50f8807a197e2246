"""Which fields an upstream's error text rejects, and the request without them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from translator import Dialect, read_upstream_error
from translator.reader.rejected_fields import (
    MAX_TEXT_CHARACTERS,
    REASONING_REQUIRED,
    RejectedField,
    find_rejected_fields,
    wants_reasoning,
    without,
)

SENT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "temperature": 0.2,
    "top_p": 0.9,
    "presence_penalty": 1,
    "max_tokens": 100,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "none",
    "thinking": {"type": "disabled"},
    "enable_thinking": True,
    "thinking_budget": 4096,
    "reasoning": {"effort": "low"},
    "user": "u",
    "stop": ["x"],
}
BODY = json.dumps(SENT).encode()


def named(text: str) -> dict[str, Any]:
    """The fields that a text refuses: None for the field, else its only value."""
    return {
        one.field: None if one.value is None else json.loads(one.value)
        for one in find_rejected_fields(text, BODY)
    }


FIELDS: list[tuple[str, str, list[str]]] = [
    # who, text, fields
    ("fireworks", "Extra inputs are not permitted, field: 'stream_options'", ["stream_options"]),
    ("fireworks, several", "2 request validation errors: Extra inputs are not permitted, field: 'thinking', value: True; Extra inputs are not permitted, field: 'reasoning', value: 1", ["thinking", "reasoning"]),
    ("fireworks, inside", "Extra inputs are not permitted, field: 'stream_options.include_usage'", ["stream_options"]),
    ("fireworks, message", "Extra inputs are not permitted, field: 'messages[1].reasoning'", []),
    ("fireworks, tool", "Extra inputs are not permitted, field: 'tools[0].eager_input_streaming', value: True; …", []),
    ("groq", "property 'parallel_tool_calls' is unsupported", ["parallel_tool_calls"]),
    ("groq, message", "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property 'reasoning' is unsupported, did you mean 'role'?)]", []),
    ("openai", "Unsupported parameter: 'parallel_tool_calls' is not supported with this model.", ["parallel_tool_calls"]),
    ("openai, unknown", "Unknown parameter: 'reasoning_effort'.", ["reasoning_effort"]),
    ("openai, message", "Unknown parameter: 'messages[1].reasoning_content'", []),
    ("openai, older", "Unrecognized request argument supplied: reasoning_effort", ["reasoning_effort"]),
    ("openai, older, two", "Unrecognized request arguments supplied: parallel_tool_calls, top_p", ["parallel_tool_calls", "top_p"]),
    ("dynamo", "Unsupported parameter(s): `documents`, `thinking`", ["thinking"]),
    ("mistral", "body.parallel_tool_calls: Extra inputs are not permitted; body.thinking.type: Extra inputs are not permitted", ["parallel_tool_calls", "thinking"]),
    ("vllm", "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted', 'input': {}}]", ["stream_options"]),
    ("azure ai", "Validation error at #/stream_options: Extra inputs are not permitted", ["stream_options"]),
    ("azure ai, inside", "Validation error at #/stream_options/include_usage: Extra inputs are not permitted", ["stream_options"]),
    ("pydantic", "1 validation error for ChatRequest\nthinking\n  Extra inputs are not permitted [type=extra_forbidden, input_value=1]", ["thinking"]),
    ("gemini", 'Invalid JSON payload received. Unknown name "parallel_tool_calls": Cannot find field.', ["parallel_tool_calls"]),
    ("gemini, tool", 'Invalid JSON payload received. Unknown name "thinking" at \'tools[0].function\': Cannot find field.', []),
    ("behind a gateway", 'Provider returned error: {"error":{"message":"Unknown name \\"thinking\\": Cannot find field."}}', ["thinking"]),
    ("xai", "Argument not supported on this model: presencePenalty", ["presence_penalty"]),
    ("xai, model", "Model X does not support parameter reasoningEffort.", ["reasoning_effort"]),
    ("litellm", "litellm.UnsupportedParamsError: ollama does not support parameters: ['parallel_tool_calls', 'tool_choice'], for model=m. To drop these, set litellm.drop_params=True", ["parallel_tool_calls", "tool_choice"]),
    ("litellm, table", "bedrock does not support parameters: {'reasoning_effort': 'high'}, for model=m", ["reasoning_effort"]),
    ("litellm, nothing", "bedrock does not support parameters: [], for model=m", []),
    ("quoted", "'user' is not permitted", ["user"]),
    ("unquoted", "parallel_tool_calls is not supported by this engine", ["parallel_tool_calls"]),
    ("a common word", "This user is not allowed to use the model", []),
    ("not sent", "Unknown parameter: 'seed'.", []),
    ("go together", "Unknown parameter: 'logprobs'.", ["logprobs", "top_logprobs"]),
    ("go together, dashscope", "Unknown parameter: 'enable_thinking'.", ["enable_thinking", "thinking_budget"]),
    ("alone", "Unknown parameter: 'top_logprobs'.", ["top_logprobs"]),
    ("never: form", "Unknown parameter: 'response_format'.", []),
    ("never: tools", "property 'tools' is unsupported", []),
    ("never: what was said", "Unknown parameter: 'messages'.", []),
    ("never: stream", "'stream' is not supported", []),
    ("never: stop", "Unsupported parameter: 'stop' is not supported with this model.", []),
    ("never: limit", "Unsupported parameter: 'max_tokens' is not supported with this model.", []),
    ("something else", "This model's maximum context length is 8192 tokens.", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fields"), [c[1:] for c in FIELDS], ids=[c[0] for c in FIELDS])
def test_a_field_that_is_not_known(text: str, fields: list[str]) -> None:
    assert named(text) == dict.fromkeys(fields)


VALUES: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.", {"temperature": 0.2}),
    ("openai, effort", "Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are: 'medium'.", {"reasoning_effort": "none"}),
    ("openai, role", "Unsupported value: 'messages[0].role' does not support 'developer' with this model.", {}),
    ("moonshot", "invalid temperature: only 0.6 is allowed for this model", {"temperature": 0.2}),
    ("moonshot, thinking", "invalid thinking: only type=enabled is allowed for this model", {"thinking": {"type": "disabled"}}),
    ("moonshot, choice", "tool_choice 'required' is incompatible with thinking enabled", {"tool_choice": "required"}),
    ("fireworks", "Invalid reasoning effort: none", {"reasoning_effort": "none"}),
    ("deepseek", "Thinking mode does not support this tool_choice", {"tool_choice": "required"}),
    ("dashscope", "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to required or object in thinking mode", {"tool_choice": "required"}),
    ("mistral", "body.reasoning_effort: Input should be 'high' or 'none'", {"reasoning_effort": "none"}),
    ("a mistake of the client", "body.temperature: Input should be less than or equal to 2", {}),
    ("vllm", "[{'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low'\"}]", {"reasoning_effort": "none"}),
    ("cerebras", "1 validation error for ChatCompletionServerRequest\nreasoning_effort\n Input should be 'low', 'medium' or 'high' [type=enum, input_value='none', input_type=str]", {"reasoning_effort": "none"}),
    ("never: form", "Unsupported value: 'response_format' does not support 'json_object' with this model.", {}),
    ("never: limit", "Unsupported value: 'max_tokens' does not support 100 with this model.", {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values"), [c[1:] for c in VALUES], ids=[c[0] for c in VALUES])
def test_a_value_that_is_not_taken(text: str, values: dict[str, Any]) -> None:
    """Another value of the same field may be taken, so only this one is refused."""
    assert named(text) == values


def test_a_field_that_is_not_known_has_no_value_that_is() -> None:
    text = "Unknown parameter: 'temperature'. Unsupported value: 'temperature' does not support 0.2"
    assert named(text) == {"temperature": None}


@pytest.mark.parametrize(
    ("sent", "text", "instead"),
    [
        ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "max_completion_tokens"),
        ("max_completion_tokens", "property 'max_completion_tokens' is unsupported, did you mean 'max_tokens'?", "max_tokens"),
    ],
)  # fmt: skip
def test_a_limit_that_has_another_name(sent: str, text: str, instead: str) -> None:
    body = json.dumps({"model": "m", sent: 7, "top_p": 1}).encode()
    [refused] = find_rejected_fields(text, body)
    assert refused == RejectedField(sent, instead=instead)
    assert not refused.loses
    changed, gone = without(body, [refused])
    assert list(json.loads(changed).items()) == [("model", "m"), (instead, 7), ("top_p", 1)]
    assert gone == [refused]


def test_what_goes_together_goes_as_far_as_it_is_there() -> None:
    assert find_rejected_fields("Unknown parameter: 'logprobs'.", b'{"logprobs":true}') == [
        RejectedField("logprobs")
    ]


def test_an_endless_text_is_read_only_so_far() -> None:
    text = "x " * MAX_TEXT_CHARACTERS + "Unknown parameter: 'thinking'."
    assert named(text) == {}
    assert named(text[-1000:]) == {"thinking": None}
    assert not wants_reasoning("x " * MAX_TEXT_CHARACTERS + DEEPSEEK)


def test_what_stays_keeps_its_bytes() -> None:
    body = b'{"temperature":1.0e0,"user":"\\u00e9","top_p":0.10,"messages":[ 1 ]}'
    changed, gone = without(body, [RejectedField("top_p"), RejectedField("seed")])
    assert changed == b'{"temperature":1.0e0,"user":"\\u00e9","messages":[ 1 ]}'
    assert gone == [RejectedField("top_p")]
    assert without(body, [RejectedField("seed")]) == (body, [])


def test_only_the_value_that_was_refused_goes() -> None:
    refused = RejectedField("reasoning_effort", b'"none"')
    assert without(b'{"reasoning_effort":"high"}', [refused])[1] == []
    assert without(b'{"reasoning_effort":"none"}', [refused]) == (b"{}", [refused])


def test_what_is_lost_is_said_under_the_name_that_the_client_knows() -> None:
    lost = [one for one in find_rejected_fields(EVERYTHING, BODY) if one.loses]
    assert [(one.field, one.notice().path) for one in lost] == [
        ("temperature", "temperature"),
        ("logprobs", "top_logprobs"),
        ("top_logprobs", "top_logprobs"),
        ("thinking", "reasoning.effort"),
    ]
    assert {one.notice().code for one in lost} == {"refused_upstream"}
    assert RejectedField("top_p").notice().message == "The upstream does not take 'top_p'."
    notice = RejectedField("top_p", b"1").notice()
    assert notice.message == "The upstream does not take this value of 'top_p'."
    assert RejectedField("stream_options").notice().path == "stream_options"


EVERYTHING = "; ".join(
    f"Unknown parameter: '{name}'."
    for name in ("temperature", "stream_options", "parallel_tool_calls", "tool_choice", "logprobs", "thinking")
)  # fmt: skip

DEEPSEEK = "The `reasoning_content` in the thinking mode must be passed back to the API."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (DEEPSEEK, True),
        (DEEPSEEK.replace("`", ""), True),
        ("The `reasoning_text` in the thinking mode must be passed back to the API.", True),
        ("thinking is enabled but reasoning_content is missing in assistant tool call message at index 2", True),
        ("Missing `reasoning_content` field in the assistant message at message index 4.", True),
        ("property 'reasoning_content' is unsupported, did you mean 'reasoning'?", False),
        ("Function call is missing a thought_signature in functionCall parts.", False),
    ],
)  # fmt: skip
def test_reasoning_that_is_missing(text: str, wanted: bool) -> None:
    assert wants_reasoning(text) is wanted


def test_the_facts_of_required_reasoning_are_facts() -> None:
    assert set(REASONING_REQUIRED) <= set(Dialect.__struct_fields__)


def test_the_whole_text_of_an_error_is_read() -> None:
    """What the client is told is cut; what is read here is not."""
    message = "13 request validation errors: " + "; ".join(
        f"Extra inputs are not permitted, field: '{name}', value: {'x' * 2000}"
        for name in ("thinking", "stream_options")
    )
    error = read_upstream_error(400, json.dumps({"error": {"message": message}}).encode())
    assert len(error.message) < len(message)
    assert named(error.text) == {"thinking": None, "stream_options": None}
