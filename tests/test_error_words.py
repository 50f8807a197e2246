"""What the sentences of upstreams mean: samples of each meaning, and of what is close to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from translator import UpstreamError, read_upstream_error


def error_of(status: int, message: str, **more: Any) -> UpstreamError:
    return read_upstream_error(status, json.dumps({"error": {"message": message, **more}}).encode())


OVERFLOWS = [
    # seen, each with the status it came with
    (413, "AiError: The estimated number of input and maximum output tokens (35000) exceeded this model context window limit (24000)"),
    (400, "Requested input length 39818 exceeds maximum input length 32767"),
    (400, "Invalid request: total message size 2100954 exceeds limit 2097152"),
    (400, "length of prompt_tokens (170000) must be less than max_seq_len (163840)."),
    (400, "You passed 202753 input tokens and requested 0 output tokens. However, the model's context length is only 202752 tokens, resulting in a maximum input length of 202752 tokens."),
    (400, "tokens in request more than max tokens allowed"),
    (400, "The prompt has 40000 tokens, but the configured context size is 32768 tokens"),
    (400, "The number of input tokens exceeds maximum length of 128000"),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000. Try using a shorter prompt."),
    (400, "too many tokens: size limit exceeded by 11326 tokens. Try using shorter or fewer inputs."),
    (400, "Input is too long for requested model."),
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or `max_tokens` and try again"),
    (400, "Requested tokens (4100) exceed context window of 4096"),
    (400, "This model's maximum prompt length is 131072 but the request contains 200000 tokens."),
    (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens. Please reduce the length of the messages."),
    (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    (400, "Too many input tokens. Max input tokens: 128000, request input token count: 140000"),
    (400, "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."),
    (400, "Your input is too long. Max input length is 30720 bytes, but got 40000 bytes."),
    (422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
    (500, "Context size has been exceeded."),
    (400, "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."),
    (400, "request body size 3.1 MiB exceeds the limit of 2 MiB"),
    (400, "The request is too large: 2.4 MiB, but at most 2 MiB are allowed"),
    (413, "Request Entity Too Large"),
    (413, "Payload Too Large"),
    (400, "max_tokens must be at least 1, got -1234."),
    (400, "The sum of prompt length (40000.0) and max_tokens (1000) should not exceed max_num_tokens (32768)"),
    (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8800 in the messages, 200 in the completion). Please reduce the length of the messages or completion."),
    (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8800 in the messages, 200 in the functions). Please reduce the length of the messages, functions, or completion."),
    (400, "The prompt (length 70000) exceeds the model's max_model_len of 65536"),
    (400, "Prompt length 33000 is over the maximum sequence length 32768"),
    (400, "conversation is too long for this model"),
    (400, "The total number of tokens in your messages is larger than the model supports: 131072"),
    (400, "Invalid 'messages[3].content': string too long. Expected a string with maximum length 1048576, but got a string with length 2000000 instead."),
    (400, "Your prompt contains 300000 tokens which is more than the 262144 allowed"),
    (400, "input tokens 70000 + max_new_tokens 1 is larger than max_input_len 65536"),
    (400, "请求的输入长度超过了模型的最大上下文"),
    # other wordings
    (400, "Input exceeds maximum allowed tokens"),
    (400, "prompt tokens (9000) exceed model limit (8192)"),
    (400, "Request exceeds the maximum size of 4194304 bytes"),
    (400, "Total tokens of image and text exceed max message tokens"),
    (400, "Input length 300000 exceeds the maximum length 229376"),
    (400, "The conversation exceeds the model's context limit"),
    (400, "input_tokens + max_tokens must be <= 8192"),
    (400, "Requested 9000 tokens but only 8192 available in the context"),
    (400, "maximum number of input tokens is 4096, got 5000"),
    (400, "Prompt is too large for this model"),
    (400, "payload size exceeds the limit: 20971520 bytes"),
    (400, "request size exceeded 2 MiB limit"),
    (400, "message too long"),
    (400, "Request payload size exceeds the limit"),
    (400, "Content length 3000000 exceeds 2097152"),
    (400, "The input is longer than the context window"),
    (400, "The prompt is longer than the maximum of 32768 tokens"),
    (400, "Your request has 200000 tokens, exceeding the limit of 131072"),
    (400, "Total input tokens 140000 > 131072"),
    (400, "the number of tokens in the prompt (140000) exceeds the context size"),
    (400, "sequence length is longer than the specified maximum sequence length for this model (9000 > 8192)"),
    (400, "Token indices sequence length is longer than the specified maximum"),
    (400, "Input too long: 9000 > 8192"),
    (400, "the request exceeds the available context size. try increasing the context size or enable context shift"),
    (400, "prompt length (9000) + max_tokens exceeds context length 8192"),
    (400, "ValidationException: Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again."),
    (400, "Input is longer than the model's maximum of 8192 tokens"),
    (400, "Your messages exceed the maximum of 131072 tokens"),
    (400, "inputTokens exceed limit 8192"),
    (400, "Exceeded model context window"),
    (400, "Model context limit exceeded"),
    (400, "maximum tokens allowed for input is 8192"),
    (400, "Conversation too long; please start a new one"),
    (400, "Input text is too long"),
    (400, "This request would exceed the model's context window of 200000 tokens"),
    (400, "request too large: 3MB > 2MB"),
    (400, "HTTP body larger than 2097152 bytes"),
    (400, "The input token count 131073 exceeds the limit 131072"),
    (400, "Prompt has too many tokens"),
    (400, "prompt_tokens 9000 exceeds n_ctx 8192"),
    (400, "Max context is 8192 but input has 9000"),
    (400, "The number of prompt tokens is 9000, which is larger than the allowed 8192"),
    (400, "Sorry, the message list is too long: 9000 tokens, limit 8192"),
    (400, "Token count 300000 exceeds limit of 262144"),
    (400, "The conversation history is too long. Please start a new chat."),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message"), OVERFLOWS)
def test_the_input_is_longer_than_a_limit(status: int, message: str) -> None:
    error = error_of(status, message)
    assert (error.status_hint, error.code) == (400, "context_length_exceeded")
    assert error.type == "invalid_request_error"


NO_OVERFLOWS = [
    # limits of the output
    (400, "too many tokens: max_tokens must be less than 8192, the maximum output for this model - received 32000."),
    (400, "too many tokens: max tokens must be less than or equal to 4096, the maximum output for this model - received 9000."),
    (400, "max_tokens is too large: 400000. This model supports at most 16384 completion tokens, whereas you provided 400000."),
    (400, "max_completion_tokens is too large: 32000. This model supports at most 16384 completion tokens."),
    (400, "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for claude-opus-4"),
    (400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
    (400, "Range of max_tokens should be [1, 8192]"),
    (400, "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for `max_completion_tokens` is less than the `context_window` for this model"),
    (400, "max_tokens: Input should be less than or equal to 8192"),
    (400, "Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is from 1 (inclusive) to 65537 (exclusive)."),
    (400, "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096."),
    (400, "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 8192 tokens and your request has 500 input tokens (32000 > 8192 - 500)."),
    # other quantities
    (400, "The image exceeds the limit of 20 MB."),
    (413, "image size 22 MB exceeds the maximum size of 20 MB"),
    (400, "The number of tools exceeds the limit of 128 functions."),
    (400, "Too many images in request. Maximum is 20."),
    (400, "Invalid 'messages[3].tool_calls[0].id': string too long. Expected a string with maximum length 40, but got a string with length 64 instead."),
    (400, "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64, but got a string with length 70 instead."),
    (400, "Invalid 'user': string too long. Expected a string with maximum length 64."),
    (400, "The request exceeded the time limit."),
    (400, "stop: at most 4 stop sequences are allowed"),
    (400, "Invalid input: tools must not be empty"),
    (400, "The context of this conversation could not be found."),
    (400, "messages: at least one message is required"),
    (400, "temperature must be less than or equal to 2"),
    (400, "Tool schema exceeds maximum depth of 5"),
    (400, "The requested number of output tokens (9000) exceeds the limit 4096"),
    (400, "Requested max completion tokens 9000 is higher than 4096"),
    (400, "maxTokens 9000 exceeds the maximum 4096"),
    (400, "max_output_tokens must be less than or equal to 4096"),
    (400, "Maximum output length exceeded: 9000 > 4096"),
    (400, "max_tokens (9000) exceeds limit 4096 for this model"),
    (400, "The value of max_tokens is too high, must not exceed 8192"),
    (400, "max_completion_tokens: must be <= 4096"),
    (400, "generation length 9000 exceeds the maximum of 4096"),
    (400, "max_new_tokens must be <= 4096"),
    (400, "String should have at most 64 characters"),
    (400, "List should have at most 128 items after validation, not 200"),
    (400, "The maximum number of messages is 100"),
    (400, "Too many tools: 200 > 128"),
    (400, "Too many stop sequences"),
    (400, "JSON schema too large"),
    (400, "Image too large: 20MB > 10MB"),
    (400, "The file size exceeds limit"),
    (400, "Batch size exceeds the maximum"),
    (400, "Context caching is not supported"),
    (400, "the function description exceeds 1024 characters"),
    (400, "tool name is too long"),
    (400, "logit_bias has too many tokens"),
    (400, "top_k exceeds the limit of 100"),
    (400, "input should be a list"),
    (400, "Request timed out after exceeding 60 seconds"),
    (400, "Too many concurrent requests"),
    (400, "Message content must not be empty"),
    (400, "audio input is longer than 30 seconds"),
    (400, "n exceeds maximum of 1"),
    (400, "temperature: Input should be less than or equal to 2"),
    (400, "Your prompt contains more than 5 images, limit 5"),
    (400, "File input is too large: 60 pages, at most 50 are supported"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message"), NO_OVERFLOWS)
def test_something_else_is_too_much(status: int, message: str) -> None:
    """Codex would compact a conversation that is short enough, and get the same error again."""
    error = error_of(status, message)
    assert error.code is None
    assert error.type == "invalid_request_error"
    assert not error.again


def test_a_short_wait_is_a_rate_whatever_it_is_called() -> None:
    """Gemini says of its limits per minute that they are quotas."""
    text = "You exceeded your current quota, limit: 10."
    short = [f"{text} Please retry in {wait}." for wait in ("38.6s", "900ms", "20 seconds")]
    for message in (*short, "Reached the usage limit of 5 concurrent requests"):
        error = error_of(429, message)
        assert (error.status_hint, error.code, error.lacks) == (429, "rate_limit_exceeded", "")
    body = json.dumps({"error": {"message": text}}).encode()
    for wait, code in (("30", "rate_limit_exceeded"), ("90000", "insufficient_quota")):
        assert read_upstream_error(429, body, retry_after=wait).code == code
    assert error_of(429, text).code == "insufficient_quota"


@pytest.mark.parametrize(
    "message",
    [
        "Request too large for model `x` on tokens per minute (TPM): Limit 8000, Requested 16175, please reduce your message size and try again.",
        "Input tokens per minute exceeds the limit of 40000 for this model.",
        "Too many tokens per day, please wait.",
    ],
)  # fmt: skip
def test_tokens_in_a_time_are_a_rate(message: str) -> None:
    for status in (413, 429):
        error = error_of(status, message)
        assert (error.status_hint, error.code) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("status", "message", "more"),
    [
        (400, "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.", {"code": "tool_use_failed"}),
        (400, "Failed to generate JSON.", {"code": "json_validate_failed"}),
        (400, "Tool choice is required, but model did not call a tool", {"code": "tool_use_failed"}),
        (400, "invalid tool call arguments", {}),
        (400, "HarmonyError: unexpected tokens remaining in message header", {}),
        (400, "unexpected tokens remaining in message header: Some(\"to=functions\")", {}),
        (500, "Failed to parse tool call arguments as JSON", {}),
        (400, "error parsing tool call: raw='{\"command\":' err=unexpected end of JSON input", {}),
        (422, "Could not parse the model's tool call output", {}),
        (400, "The model produced output that does not match the expected format", {}),
        (400, "Model generated malformed function call", {"code": "MALFORMED_FUNCTION_CALL"}),
        (400, "Tool call validation failed: parameters for tool shell did not match schema", {}),
        (500, "The model produced output that does not match the expected peg-native format", {}),
        (400, "The model's output could not be parsed", {}),
        (400, "Model output is not valid JSON", {}),
        (400, "tool call parser failed", {}),
        (400, "Failed to decode function arguments", {}),
        (400, "openai_harmony.HarmonyError: Unknown role", {}),
        (400, "Function call arguments generated by the model are not valid JSON", {}),
        (400, "Parsing failed. The model generated output that could not be parsed. Please adjust your prompt.", {}),
        (400, "Invalid JSON in tool call", {}),
        (400, "failed to parse tool call: unexpected end of JSON input", {}),
        (400, "Error parsing tool calls from model output", {}),
        (400, "model returned invalid function call", {}),
        (400, "invalid tool call arguments: unexpected end of JSON input", {}),
        (400, "Could not parse tool call arguments", {}),
        (400, "The model returned an invalid tool call", {}),
        (400, "model generated an unparsable tool call", {}),
        (400, "tool call could not be parsed", {}),
        (400, "Unable to parse function call from model response", {}),
        (400, "generated tool call is malformed", {}),
        (400, "error decoding tool call arguments", {}),
        (400, "tool_call arguments must be valid JSON generated by the model", {}),
    ],
)  # fmt: skip
def test_a_failure_of_the_model(status: int, message: str, more: dict[str, Any]) -> None:
    """Codex asks again after a 5xx, and never after a 400."""
    error = error_of(status, message, **more)
    assert (error.status_hint, error.code, error.type) == (502, "upstream_error", "server_error")
    assert error.again


@pytest.mark.parametrize(
    "message",
    [
        "Function id '87ea0ddc': DEGRADED function cannot be invoked",
        "The model has crashed without additional information. (Exit code: 6)",
        "Model is still loading, please wait",
        "Loading model",
        "The inference engine is not ready",
        "no healthy upstream",
        "CUDA error: an illegal memory access was encountered",
        "llama runner process has terminated: exit status 2",
        "Function is in DEGRADED state",
        "Worker degraded",
        "Deployment is not ready",
        "instance is unhealthy",
        "Model is currently loading",
        "Backend not available",
        "GPU out of memory",
        "model reloading",
        "The model is being loaded",
        "Engine is not running",
        "server is starting up",
        "The model is not loaded yet",
        "Model unloaded.",
        "engine process died",
        "Service is temporarily unavailable",
        "upstream server is unavailable, try again",
        "Replica is not healthy",
        "The model crashed",
        "Inference server restarted",
        "The model is warming up",
        "worker exited unexpectedly",
    ],
)
def test_a_server_that_is_not_well(message: str) -> None:
    error = error_of(400, message)
    assert (error.status_hint, error.code, error.type) == (503, "upstream_error", "server_error")
    assert error.again


@pytest.mark.parametrize(
    "message",
    [
        "messages[2].tool_calls[0].function.arguments: invalid JSON",
        "invalid function arguments json string, tool_call_id: call_1 (2013)",
        "Invalid tool call arguments in the history: expected an object",
        "An assistant message with 'tool_calls' must be followed by tool messages",
        "function name is invalid, must start with a letter",
        "The model does not support tools",
        "tools param requires --jinja flag",
        "Failed to parse tools: Missing tool function",
        "Failed to validate tools: function 'f' has no name",
        "Unable to parse function schema: type missing",
        "Failed to parse response_format json schema",
        "Invalid function call arguments: must be a JSON string",
        "Blocked by policy. Your text: 'why has the server crashed?'",
        "The description 'if the worker died' is not allowed",
    ],
)
def test_a_mistake_in_the_history_is_the_clients(message: str) -> None:
    error = error_of(400, message)
    assert (error.status_hint, error.type) == (400, "invalid_request_error")
    assert not error.again


@pytest.mark.parametrize(
    "message",
    [
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "audio input is not supported",
        "Jinja Exception: After the optional system message, conversation roles must alternate",
        "Template error: raise_exception: System message must be at the beginning.",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Internal error while rendering: reasoning_effort must be one of ['low', 'medium'], got 'high'",
        "Unsupported reasoning_effort: high. Supported levels are xhigh, medium, low.",
    ],
)  # fmt: skip
def test_a_500_that_is_about_the_request(message: str) -> None:
    """It comes again each time, so no client should send it again."""
    error = error_of(500, message, code=500, type="server_error")
    assert (error.status_hint, error.code, error.type) == (400, None, "invalid_request_error")


@pytest.mark.parametrize(
    "message",
    ["Internal server error", "EngineCore encountered an issue", "nginx", "worker failed"],
)
def test_any_other_500_stays_one(message: str) -> None:
    assert error_of(500, message).status_hint == 500


@pytest.mark.parametrize(
    ("status", "message", "more"),
    [
        (429, "Usage limit reached for 5 hour. Your limit will reset at 2026-12-01 00:00:00", {"code": "1308"}),
        (429, "Your plan has expired", {"code": "1309"}),
        (429, "Weekly/Monthly Limit Exhausted. Your limit will reset at 2026-12-01", {"code": "1310"}),
        (429, "Subscription quota", {"type": "GoUsageLimitError"}),
        (401, "Free usage", {"type": "FreeUsageLimitError"}),
        (429, "You have reached your weekly limit, which resets on Monday.", {}),
        (429, "Monthly usage limit reached. Your limit will reset in 9 days.", {}),
        (403, "Your monthly limit has been reached", {}),
        (429, "You've hit your usage limit. Upgrade to Pro, or try again at 3:00 PM.", {"type": "usage_limit_reached"}),
        (400, "Your coding plan package has expired.", {}),
    ],
)  # fmt: skip
def test_a_plan_that_is_used_up(status: int, message: str, more: dict[str, Any]) -> None:
    """For hours or days, in which a client should not ask again."""
    error = error_of(status, message, **more)
    assert (error.status_hint, error.code) == (429, "insufficient_quota")
    assert error.headers == {"x-should-retry": "false"}
    assert error.lacks == "credit"


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached for model `x` on tokens per day (TPD): Limit 100000, Used 99000. Please try again in 7m12s. Need more tokens? Upgrade at https://example.org/settings/billing",
        "Too many requests. Upgrade your plan for higher limits until you reset.",
        "Rate limit exceeded: free-models-per-min.",
        "Concurrency limit reached",
    ],
)  # fmt: skip
def test_a_rate_limit_of_a_plan_is_a_rate_limit(message: str) -> None:
    error = error_of(429, message)
    assert (error.status_hint, error.code) == (429, "rate_limit_exceeded")


def test_cloudflare_has_no_capacity() -> None:
    body = {
        "errors": [{"message": "Capacity temporarily exceeded, please try again.", "code": 3040}]
    }
    error = read_upstream_error(429, json.dumps(body).encode())
    assert (error.status_hint, error.code) == (503, "server_is_overloaded")


def test_a_function_of_nvidia_is_a_model() -> None:
    detail = "Function '87ea0ddc': Not found for account 'x'"
    body = {"status": 404, "title": "Not Found", "detail": detail}
    error = read_upstream_error(404, json.dumps(body).encode())
    assert (error.status_hint, error.code, error.message) == (404, "model_not_found", detail)


def test_snowflake_has_two_codes() -> None:
    body = {"message": "no", "error_code": "399504", "request_id": "r"}
    error = read_upstream_error(400, json.dumps(body).encode())
    assert (error.code, error.message) == ("399504", "no")
