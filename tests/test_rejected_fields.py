"""Which fields an upstream's error text rejects, and the request without them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from translator import read_upstream_error
from translator.reader.refusal_words import MAX_MENTIONS, MAX_TEXT_CHARACTERS, levels_in
from translator.reader.rejected_fields import RejectedField, find_rejected_fields, without
from translator.reader.taught_facts import taught_facts

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
    ("cerebras", "body.parallel_tool_calls: property 'body.parallel_tool_calls' is unsupported", ["parallel_tool_calls"]),
    ("transformers serve", "Unexpected fields in the request: {'thinking'}", ["thinking"]),
    ("transformers serve, two", "Unexpected fields in the request: {'thinking', 'top_p'}", ["thinking", "top_p"]),
    ("fastapi, plain", "body.thinking: Extra inputs are not permitted", ["thinking"]),
    ("a path of JSON", "[{'type': 'extra_forbidden', 'loc': ['body', 'thinking'], 'msg': 'Extra inputs are not permitted'}]", ["thinking"]),
    ("json schema", "Additional properties are not allowed ('thinking' was unexpected)", ["thinking"]),
    ("json schema, several", "Additional properties are not allowed ('thinking', 'user' were unexpected)", ["thinking", "user"]),
    ("serde", "Failed to deserialize the JSON body into the target type: unknown field `thinking`, expected one of `model`, `messages` at line 1 column 60", ["thinking"]),
    ("go", "json: unknown field \"thinking\"", ["thinking"]),
    ("words", "This model does not support parallel tool calls.", ["parallel_tool_calls"]),
    ("words, the other way", "parallel tool calls are not supported by this model", ["parallel_tool_calls"]),
    ("removed", "The parameter 'top_p' must be removed.", ["top_p"]),
    ("please remove", "Please remove the field `user` from the request.", ["user"]),
    ("cannot be used", "temperature cannot be used with this model", ["temperature"]),
    ("not allowed to", "stream_options is not allowed when stream is false", ["stream_options"]),
    ("python", "Completions.create() got an unexpected keyword argument 'thinking'", ["thinking"]),
    ("camel case", "property 'parallelToolCalls' is unsupported", ["parallel_tool_calls"]),
    ("a member", "chat_template_kwargs.foo: Extra inputs are not permitted", []),
    ("no thinking", "\"m\" does not support thinking", ["reasoning_effort", "reasoning.effort", "thinking", "enable_thinking", "thinking_budget"]),
    ("effort in words", "reasoning_effort \"none\" was provided, but model x does not support reasoning effort", ["reasoning_effort"]),
    ("in another one", "tools[0].function.parameters: unknown keyword 'user'", []),
    ("in a schema", "Invalid schema for function 'ls': unknown keyword 'user'", []),
    ("at a tool", "Unknown name \"user\" at 'tools[0].function.parameters': Cannot find field.", []),
    ("at a message", "messages[0]: unknown field `user`, expected `role`", []),
    ("of a message", "property 'user' is not allowed in messages", []),
    ("did you mean", "property 'foo' is unsupported, did you mean 'user'?", []),
    ("a person", "user not found", []),
    ("a right", "The user is not permitted to use this model.", []),
    ("another right", "Your account is not allowed to use reasoning models", []),
    ("a type", "'user' must be a string", []),
    ("a range", "temperature must be between 0 and 2", []),
    ("a range, invalid", "Invalid value for 'temperature': must be at most 2", []),
    ("a range of dashscope", "Range of temperature should be [0, 2)", []),
    ("a number", "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.", []),
    ("another type", "top_p: Input should be a valid number, unable to parse string as a number", []),
    ("a model", "Unknown model 'thinking'", []),
    ("tools are missing", "When using `tool_choice`, `tools` must be set.", []),
    ("a flag of the server", "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set", []),
    ("the model's failure", "Tool choice is required, but model did not call a tool", []),
    ("quoted text", "The following text was flagged: 'temperature'", []),
    ("a rate", "Rate limit reached for user", []),
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
    ("one of", "'reasoning_effort' must be one of: 'minimal', 'low', 'medium'", {"reasoning_effort": "none"}),
    ("supported levels", "Unsupported reasoning_effort: none. Supported levels are xhigh, medium, low.", {"reasoning_effort": "none"}),
    ("serde", "reasoning_effort: unknown variant `none`, expected one of `low`, `medium`, `high`", {"reasoning_effort": "none"}),
    ("mandatory", "Reasoning is mandatory for this endpoint and cannot be disabled.", {"reasoning_effort": "none", "thinking": {"type": "disabled"}}),
    ("always on", "Thinking mode cannot be disabled for this model", {"reasoning_effort": "none", "thinking": {"type": "disabled"}}),
    ("dashscope, thinking", "parameter.enable_thinking must be set to false for non-streaming calls", {"enable_thinking": True}),
    ("a choice in words", "Invalid value for tool_choice: 'required' is not supported", {"tool_choice": "required"}),
    ("reasoning, effort", "Invalid value: 'none'. 'reasoning.effort' must be one of 'high'", {"reasoning.effort": "low"}),
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


OTHER = {
    "model": "m",
    "messages": [],
    "stream": True,
    "stream_options": {},
    "user": "u",
    "reasoning_effort": "high",
    "top_p": 1,
    "max_tokens": 50000,
    "temperature": 1,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "prompt_cache_key": "k",
    "verbosity": "low",
    "metadata": {},
}
"""Another request, with the fields of the samples below."""

WORDINGS = [
    ("prompt_cache_key", "invalid parameter: prompt_cache_key"),
    ("prompt_cache_key", "prompt_cache_key: unexpected property"),
    ("prompt_cache_key", "Property prompt_cache_key is not defined in the schema and the schema does not allow additional properties"),
    ("prompt_cache_key", "request body has an error: doesn't match schema: property \"prompt_cache_key\" is unsupported"),
    ("prompt_cache_key", "Unrecognized key(s) in object: 'prompt_cache_key'"),
    ("prompt_cache_key", "#: extraneous key [prompt_cache_key] is not permitted"),
    ("prompt_cache_key", "prompt_cache_key: Extra inputs are not permitted"),
    ("prompt_cache_key", "Unknown field 'prompt_cache_key' in request"),
    ("prompt_cache_key", "The field 'prompt_cache_key' is not recognized"),
    ("prompt_cache_key", "Unsupported field: prompt_cache_key"),
    ("prompt_cache_key", "Got unsupported parameter prompt_cache_key"),
    ("prompt_cache_key", "unsupported params: prompt_cache_key"),
    ("prompt_cache_key", "Unknown arguments: [prompt_cache_key]"),
    ("prompt_cache_key", "The following parameters are not supported: prompt_cache_key, user"),
    ("prompt_cache_key", "Validation error: 'prompt_cache_key' was unexpected"),
    ("prompt_cache_key", "prompt_cache_key is an unknown parameter"),
    ("prompt_cache_key", "must NOT have additional properties: prompt_cache_key"),
    ("prompt_cache_key", "No such parameter: prompt_cache_key"),
    ("prompt_cache_key", "parameter prompt_cache_key is invalid for this model"),
    ("prompt_cache_key", "not a valid parameter: prompt_cache_key"),
    ("prompt_cache_key", "body -> prompt_cache_key\n  extra fields not permitted (type=value_error.extra)"),
    ("prompt_cache_key", "'prompt_cache_key' is not a valid parameter"),
    ("prompt_cache_key", "Bad field prompt_cache_key"),
    ("prompt_cache_key", "request contains invalid field: prompt_cache_key"),
    ("prompt_cache_key", "unexpected keyword argument 'prompt_cache_key'"),
    ("user", "The following parameters are not supported: prompt_cache_key, user"),
    ("user", "unknown field \"user\""),
    ("user", "Unrecognized request argument supplied: user"),
    ("user", "property 'user' is unsupported"),
    ("user", "user: Extra inputs are not permitted"),
    ("user", "body.user: Extra inputs are not permitted"),
    ("user", "loc: ('body','user') Extra inputs are not permitted"),
    ("user", "Unexpected fields in the request: {'user'}"),
    ("verbosity", "Unsupported value: 'verbosity' does not support 'low' with this model. Supported values are: 'medium'."),
    ("verbosity", "verbosity is not supported"),
    ("temperature", "`temperature` is deprecated for this model."),
    ("temperature", "temperature is not supported with this model"),
    ("temperature", "Unsupported value: 'temperature' does not support 1 with this model. Only the default (1) value is supported."),
    ("temperature", "temperature: must not be set"),
    ("temperature", "This model does not support temperature"),
    ("temperature", "invalid temperature: only 1 is allowed for this model"),
    ("temperature", "The parameter `temperature` is not supported by o-series"),
    ("temperature", "Setting 'temperature' is not allowed"),
    ("temperature", "temperature may only be set to 1 when thinking is enabled"),
    ("temperature", "`temperature` may only be set to 1 when thinking is enabled."),
    ("stream_options", "'stream_options' is not allowed"),
    ("stream_options", "Stream options can only be defined when stream=True"),
    ("stream_options", "stream_options unsupported"),
    ("stream_options", "stream_options.include_usage is not supported"),
    ("tool_choice", "tool_choice 'auto' is not supported"),
    ("tool_choice", "Invalid tool_choice"),
    ("tool_choice", "`tool_choice` must be 'none' or 'auto'"),
    ("parallel_tool_calls", "parallel tool calling is not supported"),
    ("parallel_tool_calls", "'parallel_tool_calls' is not supported by this model"),
    ("parallel_tool_calls", "parallel_tool_calls: false is not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "text"), WORDINGS)
def test_other_wordings_of_the_same(field: str, text: str) -> None:
    found = find_rejected_fields(text, json.dumps(OTHER).encode())
    assert field in [one.field for one in found]
    named_too = {one.field for one in found} - {field}
    assert all(re.search(rf"\b{other}\b", text) for other in named_too)


EFFORT_WORDINGS = [
    "This model only supports reasoning effort 'medium'",
    "effort level 'high' is invalid; choose low, medium or max",
    "thinking level HIGH is not supported",
    "'high' is not a valid value for reasoning_effort",
    "high is not a valid reasoning effort",
    "Reasoning effort high is not available for this model",
    "reasoning_effort=high not allowed; allowed: low, max",
    "think value \"high\" is not supported for this model",
    "invalid think value: \"high\" (must be \"max\", \"medium\", \"low\", true, or false)",
    "Unsupported parameter: 'reasoning.effort'",
    "reasoning.effort is not supported with this model",
    "The requested reasoning effort is not supported.",
    "This model does not support the reasoning_effort parameter.",
    "reasoning_effort can only be set to 'low' or 'medium'",
    "Param error: reasoning_effort only support low, medium",
    "Invalid value 'high' for parameter reasoning_effort. Supported: low, medium",
    "Value error, reasoning_effort should be one of none, low",
    "does not support reasoning effort",
    "reasoning effort 'high' unsupported, use medium",
    "ValueError: Invalid reasoning_effort high, expected low/medium",
    "model m doesn't support setting reasoning_effort",
    "reasoning is not supported for this model",
    "reasoning_effort must be 'none' or 'default'",
    "effort values are low, medium",
    "Invalid 'reasoning_effort': 'high'. values are low, medium.",
    "[{'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low' or 'medium'\", 'input': 'high'}]",
]  # fmt: skip


@pytest.mark.parametrize("text", EFFORT_WORDINGS)
def test_other_wordings_of_a_refused_effort(text: str) -> None:
    [refused] = find_rejected_fields(text, json.dumps(OTHER).encode())
    assert refused.field == "reasoning_effort"
    changed, _ = without(json.dumps(OTHER).encode(), [refused])
    assert json.loads(changed).get("reasoning_effort") in (None, "low", "medium", "max", "default")


ORDINARY = [
    "Invalid API key provided",
    "The model `m` does not exist or you do not have access to it.",
    "messages.0.content: Input should be a valid string",
    "messages: at least one message is required",
    "tools.0.function.name: String should match pattern '^[a-zA-Z0-9_-]+$'",
    "Invalid schema for function 'ls': [] is not of type 'object'.",
    "tools[0].function.parameters: schema must have type object",
    "Invalid 'tools[0].function.name': string does not match pattern.",
    "tool_call_id call_1 not found in messages",
    "An assistant message with 'tool_calls' must be followed by tool messages",
    "temperature must be between 0 and 2",
    "top_p must be in (0, 1]",
    "temperature: Input should be less than or equal to 2",
    "seed must be an integer",
    "user must be a string",
    "Invalid type for 'temperature': expected a number, but got a string instead.",
    "Invalid 'seed': integer below minimum value",
    "'messages' is a required property",
    "Missing required parameter: 'messages'.",
    "Unsupported image format",
    "Image URL is not accessible",
    "The image data is not valid",
    "Unknown model: m",
    "Model m is not supported",
    "model is not available in your region",
    "The requested model is not allowed for this user",
    "The user has exceeded the quota",
    "This organization is not permitted to use reasoning",
    "You are not allowed to sample from this model",
    "Your account is not active",
    "service tier capacity exceeded",
    "Request timed out",
    "Bad gateway",
    "The server had an error while processing your request",
    "response_format is not supported",
    "messages[0].role: 'foo' is not one of ['system','user']",
    "stop must be at most 4 sequences",
    "n must be 1",
    "stream must be true",
    "The thinking budget must be less than max_tokens",
    "thinking.budget_tokens: Input should be greater than or equal to 1024",
    "max_tokens must be greater than thinking.budget_tokens",
    "metadata values must be strings",
    "metadata has too many properties",
    "prompt_cache_key: string too long. Expected maximum length 64",
    "Content blocks of type thinking must have a signature",
    "messages.1.content.0: unexpected `thinking` block",
    "Function call is missing a thought_signature",
    "safety: your prompt was flagged",
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
    "'tools' is not supported",
    "functions are not supported by this model",
    "This model does not support tools",
    "registry/m does not support tools",
    "m does not support chat completions",
    "m does not support images",
    "developer mode is not enabled",
    "no user found for key",
    "reasoning tokens exceeded",
    "tool_choice: function 'x' not found in tools",
    "tool_choice references unknown function 'foo'",
    "Tool 'user' is not defined",
    "Unknown tool: 'user'",
    "function 'metadata' is not allowed",
    "The property 'metadata' in tools[0].function.parameters is not allowed",
    "Invalid JSON",
    "Malformed JSON at line 1",
    "Could not parse request body: unexpected token 'u'",
    "invalid character in user field",
    "Expected last role User or Tool but got assistant",
    "Cannot continue the final message",
    "assistant prefill is incompatible with enable_thinking",
    "Prefill is not supported when thinking is enabled.",
    "The 'reasoning' of the user is unclear",
    "You must be logged in as user",
    "Invalid value: 'foo'. Supported values are: 'auto', 'default'.",
    "Request rejected: user banned",
    "system role is not supported",
    "System role not supported",
    "Quota: user limit reached",
    "No endpoints found that support tool use",
    "No endpoints found that support image input",
    "input_schema does not support oneOf at the top level",
    "Upstream provider does not support the thinking signature of another model",
]  # fmt: skip
"""Errors that teach nothing: the request is at fault, or the account, or nobody."""


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_error_teaches_nothing(text: str) -> None:
    sent = {**OTHER, "seed": 1, "thinking": {"type": "enabled"}, "reasoning": {"effort": "high"}}
    sent |= {"service_tier": "auto", "chat_template_kwargs": {"enable_thinking": True}}
    assert find_rejected_fields(text, json.dumps(sent).encode()) == []
    assert taught_facts(text, {}) == {}
    error = read_upstream_error(400, json.dumps({"error": {"message": text}}).encode())
    assert (error.status_hint, error.code, error.again) == (400, None, False)


def test_a_field_that_is_not_known_has_no_value_that_is() -> None:
    text = "Unknown parameter: 'temperature'. Unsupported value: 'temperature' does not support 0.2"
    assert named(text) == {"temperature": None}


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("Supported values are: 'low', 'medium', and 'high'.", "low medium high"),
        ("Supported levels are xhigh, medium, low.", "xhigh medium low"),
        ("must be one of ['low', 'medium'], got 'high'", "low medium"),
        ("must be one of: 'none', 'minimal', 'low'", "none minimal low"),
        ("expected one of `low`, `high`, `max`", "low high max"),
        ("Input should be 'low', 'medium' or 'high' [type=enum, input_value='none']", "low medium high"),
        ("Supported values are: 'medium'.", "medium"),
        ("only supports low and high", "low high"),
        ("allowed values: low|medium|high", "low medium high"),
        ("valid options: low/high", "low high"),
        ("the accepted reasoning efforts for this model are none and default", "none default"),
        ("values are low, medium, high", "low medium high"),
        ("choose from (low, high)", "low high"),
        ("should be either 'low' or 'high'", "low high"),
        ("Invalid reasoning_effort: max. Please use low, medium or high", "low medium high"),
        ("is high, which is not supported", ""),
        ("the load is too high", ""),
    ],
)  # fmt: skip
def test_levels_that_are_listed(text: str, levels: str) -> None:
    assert levels_in(text) == tuple(levels.split())


@pytest.mark.parametrize(
    ("body", "levels", "sent"),
    [
        ({"reasoning_effort": "high"}, "low medium xhigh", "xhigh"),
        ({"reasoning_effort": "max"}, "low medium", "medium"),
        ({"reasoning_effort": "minimal"}, "none low", "low"),
        ({"reasoning_effort": "medium"}, "none medium", "medium"),
        ({"reasoning_effort": "none"}, "low high", "low"),
        ({"reasoning_effort": "none", "enable_thinking": False}, "low high", None),
        ({"reasoning_effort": "none", "thinking": {"type": "disabled"}}, "low high", None),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}}, "low", None),
        ({"reasoning_effort": "none", "chat_template_kwargs": 7}, "low", "low"),
        ({"reasoning_effort": "high"}, "none default", "default"),
        ({"reasoning_effort": "none"}, "default", None),
        ({"reasoning_effort": "high"}, "none", None),
        ({"reasoning_effort": "strange"}, "low", None),
    ],
)  # fmt: skip
def test_the_nearest_level_is_sent(body: dict[str, Any], levels: str, sent: str | None) -> None:
    refused = RejectedField("reasoning_effort", b'"x"', levels=tuple(levels.split()))
    changed, gone = without(json.dumps(body).encode(), [refused])
    assert json.loads(changed).get("reasoning_effort") == sent
    assert gone == ([] if body["reasoning_effort"] == sent else [refused])
    assert refused.notice().message.endswith(f" It takes {', '.join(levels.split())}.")


def test_a_switch_may_be_a_member_of_a_field() -> None:
    body = b'{"chat_template_kwargs":{"enable_thinking":false,"thinking":true}}'
    [refused] = find_rejected_fields("The model does not support disabling thinking", body)
    assert refused == RejectedField("chat_template_kwargs.enable_thinking", b"false")
    assert without(body, [refused]) == (b'{"chat_template_kwargs":{"thinking":true}}', [refused])


def test_a_level_may_be_a_member_of_a_field() -> None:
    sent = {"chat_template_kwargs": {"reasoning_effort": "high", "a": 1}, "top_p": 1}
    text = "reasoning_effort must be one of low, medium"
    [refused] = find_rejected_fields(text, json.dumps(sent).encode())
    assert refused.field == "chat_template_kwargs.reasoning_effort"
    assert refused.notice().path == "chat_template_kwargs"
    changed, _ = without(json.dumps(sent).encode(), [refused])
    assert json.loads(changed)["chat_template_kwargs"] == {"reasoning_effort": "medium", "a": 1}
    text = "chat_template_kwargs.reasoning_effort: Extra inputs are not permitted"
    [refused] = find_rejected_fields(text, json.dumps(sent).encode())
    changed, _ = without(json.dumps(sent).encode(), [refused])
    assert json.loads(changed)["chat_template_kwargs"] == {"a": 1}
    text = "chat_template_kwargs.reasoningEffort, chat_template_kwargs.a: Extra inputs are not permitted"
    [refused] = find_rejected_fields(text, b'{"chat_template_kwargs":{"a":1}}')
    assert refused == RejectedField("chat_template_kwargs.a")
    [refused] = find_rejected_fields(
        "Unknown field: chat_template_kwargs", b'{"chat_template_kwargs":{"a":1}}'
    )
    assert refused == RejectedField("chat_template_kwargs")
    refused = RejectedField("chat_template_kwargs.reasoning_effort")
    alone = b'{"chat_template_kwargs":{"reasoning_effort":"high"},"top_p":1}'
    assert without(alone, [refused]) == (b'{"top_p":1}', [refused])
    for other in (b'{"chat_template_kwargs":{"a":1}}', b'{"chat_template_kwargs":1}', b"{}"):
        assert without(other, [refused]) == (other, [])


@pytest.mark.parametrize(
    ("text", "limit", "once"),
    [
        ("too many tokens: max_tokens must be less than 8192, the maximum output for this model - received 32000.", 8191, False),
        ("max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you provided 32000.", 16384, False),
        ("max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens", 8192, False),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192, False),
        ("Range of max_tokens should be [1, 8192]", 8192, False),
        ("`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window`", 8192, False),
        ("max_tokens: Input should be less than or equal to 8192", 8192, False),
        ("it has a maxOutputTokens value of 32000 but the supported range is from 1 (inclusive) to 8193 (exclusive).", 8192, False),
        ("The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096.", 4095, False),
        ("max_tokens should be between 1 and 8192", 8192, False),
        ("'max_tokens' is too large: 32000. This model's maximum context length is 40960 tokens and your request has 20000 input tokens (32000 > 40960 - 20000).", 20960, True),
        ("input length and `max_tokens` exceed context limit: 188240 + 32000 > 200000, decrease input length or `max_tokens` and try again", 11760, True),
        ("This model's maximum context length is 8192 tokens. However, you requested 33000 tokens (1000 in the messages, 32000 in the completion). Please reduce the length of the messages or completion.", 7192, True),
    ],
)  # fmt: skip
def test_a_limit_that_is_too_high_is_lowered(text: str, limit: int, once: bool) -> None:
    """As far as the text says; `once`, where the rest depends on the length of the input."""
    body = b'{"max_tokens":32000}'
    [refused] = find_rejected_fields(text, body)
    assert refused == RejectedField("max_tokens", limit=limit, once=once)
    assert without(body, [refused]) == (b'{"max_tokens":%d}' % limit, [refused])
    assert without(b'{"max_tokens":5}', [refused]) == (b'{"max_tokens":5}', [])
    assert (refused.notice().path, refused.notice().code) == ("max_output_tokens", "clamped")
    assert refused.loses


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens is too large",
        "max_tokens must be at most 100",  # too little to be worth an attempt
        "max_tokens must be at most 99999",  # it is
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8100 in the messages, 900 in the completion).",
        "The number of tools must be at most 1000",
    ],
)  # fmt: skip
def test_a_limit_that_is_not_stated_stays(text: str) -> None:
    assert find_rejected_fields(text, b'{"max_tokens":32000}') == []
    assert find_rejected_fields(text, b'{"max_tokens":"x"}') == []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "top_p"),
        ("'parallel_tool_calls' is only allowed when 'tools' are specified.", "parallel_tool_calls"),
        ("tool_choice is not allowed without tools", "tool_choice"),
    ],
)  # fmt: skip
def test_a_refusal_may_be_about_this_request_alone(text: str, field: str) -> None:
    assert find_rejected_fields(text, BODY) == [RejectedField(field, once=True)]


def test_a_refusal_that_names_the_model_is_about_all_requests() -> None:
    text = "'top_p' is not supported when using this model"
    assert find_rejected_fields(text, BODY) == [RejectedField("top_p")]


def test_a_level_that_is_listed_is_not_refused() -> None:
    """The error is about something else, which another attempt would not mend."""
    text = "Something broke. The efforts that this model supports: low, high."
    assert find_rejected_fields(text, b'{"reasoning_effort":"high"}') == []
    [refused] = find_rejected_fields(text, b'{"reasoning_effort":"max"}')
    assert refused.levels == ("low", "high")


def test_a_server_that_is_at_fault_may_still_refuse_an_effort() -> None:
    text = "reasoning_effort must be one of ['low']. Unknown parameter: 'temperature'."
    [refused] = find_rejected_fields(text, BODY, efforts_only=True)
    assert (refused.field, refused.levels) == ("reasoning_effort", ("low",))


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


def test_a_text_full_of_names_is_read_only_so_far() -> None:
    text = "top_p, " * MAX_MENTIONS + "Unknown parameter: 'thinking'."
    assert named(text) == {}
    assert find_rejected_fields(text, b"{}") == []


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


def test_the_whole_text_of_an_error_is_read() -> None:
    """What the client is told is cut; what is read here is not."""
    message = "13 request validation errors: " + "; ".join(
        f"Extra inputs are not permitted, field: '{name}', value: {'x' * 2000}"
        for name in ("thinking", "stream_options")
    )
    error = read_upstream_error(400, json.dumps({"error": {"message": message}}).encode())
    assert len(error.message) < len(message)
    assert named(error.text) == {"thinking": None, "stream_options": None}
