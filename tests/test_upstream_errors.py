"""Every shape of error body that was seen, and what it means for the client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from translator import (
    AccountEmpty,
    CredentialRefused,
    Dialect,
    UpstreamError,
    read_upstream_error,
)
from translator.reader.error_bodies import error_in
from translator.reader.upstream_errors import for_client, read_error_object

ENVELOPES: list[tuple[str, int, Any, tuple[int, str | None, str]]] = [
    # who, HTTP status, body, (our status, code, message)
    ("openai", 400, {"error": {"message": "no", "type": "invalid_request_error", "param": "messages[0]", "code": "bad_value"}}, (400, "bad_value", "no")),
    ("fireworks string", 429, {"error": "Too Many Requests", "message": "over your limits"}, (429, "rate_limit_exceeded", "Too Many Requests: over your limits")),
    ("openrouter", 429, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "busy upstream"}}, "user_id": "u"}, (429, "rate_limit_exceeded", "Provider returned error: busy upstream")),
    ("mistral 401", 401, {"detail": "Invalid API Key"}, (401, "invalid_api_key", "Invalid API Key")),
    ("mistral 422", 422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "store"], "msg": "Extra inputs are not permitted"}]}}, (400, None, "body.store: Extra inputs are not permitted")),
    ("fastapi", 422, {"detail": [{"loc": ["body", 0], "msg": "wrong"}, {"msg": "x", "message": "y"}]}, (400, None, "body.0: wrong; y")),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Argument not supported"}, (400, "Client specified an invalid argument", "Argument not supported")),
    ("sglang", 400, {"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 400}, (400, None, "bad")),
    ("together, older", 400, {"error": {"error": "Input validation error", "error_type": "validation"}}, (400, None, "Input validation error")),
    ("tgi", 422, {"error": "Input validation", "error_type": "validation"}, (400, None, "Input validation")),
    ("gemini", 400, [{"error": {"code": 400, "message": "Unknown name", "status": "INVALID_ARGUMENT"}}], (400, None, "Unknown name")),
    ("azure 401", 401, {"error": {"code": "401", "message": "Access denied"}}, (401, "invalid_api_key", "Access denied")),
    ("azure filter", 400, {"error": {"message": "filtered", "type": None, "param": "prompt", "code": "content_filter", "status": 400}}, (400, "content_filter", "filtered")),
    ("gateway flat", 422, {"message": "openai_error", "type": "bad_response_status_code", "param": "", "code": "bad_response_status_code"}, (400, "bad_response_status_code", "openai_error")),
    ("cerebras", 429, {"message": "slow down", "type": "too_many_requests_error", "code": "request_quota_exceeded"}, (429, "rate_limit_exceeded", "slow down")),
    ("minimax new", 400, {"type": "error", "error": {"type": "bad_request_error", "message": "invalid params (2013)", "http_code": "400"}}, (400, None, "invalid params (2013)")),
    ("minimax overloaded", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, (503, "server_is_overloaded", "busy")),
    ("moonshot overloaded", 429, {"error": {"message": "The engine is currently overloaded", "type": "engine_overloaded_error"}}, (503, "server_is_overloaded", "The engine is currently overloaded")),
    ("moonshot quota", 429, {"error": {"message": "no money", "type": "exceeded_current_quota_error"}}, (429, "insufficient_quota", "no money")),
    ("deepseek balance", 402, {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}}, (429, "insufficient_quota", "Insufficient Balance")),
    ("zai balance", 429, {"error": {"code": "1113", "message": "recharge"}}, (429, "insufficient_quota", "recharge")),
    ("billing words", 403, {"error": {"message": "Check your billing details"}}, (429, "insufficient_quota", "Check your billing details")),
    ("errors list", 500, {"errors": [{"message": "first"}]}, (500, "upstream_error", "first")),
    ("model", 404, {"error": {"message": "Model not found, inaccessible, and/or not deployed", "code": "NOT_FOUND"}}, (404, "model_not_found", "Model not found, inaccessible, and/or not deployed")),
    ("path", 404, {"error": {"message": "Not here"}}, (404, None, "Not here")),
    ("type only", 500, {"error": {"type": "server_error"}}, (500, "upstream_error", "server_error")),
    ("nothing said", 500, {"error": {}}, (500, "upstream_error", "The upstream reported an error without a message.")),
    ("blanks", 500, {"error": {"message": " "}}, (500, "upstream_error", "The upstream reported an error without a message.")),
    ("a blank text", 400, " ", (400, None, "The upstream reported an error without a message.")),
    ("message around", 500, {"error": {}, "message": "outer"}, (500, "upstream_error", "outer")),
    ("conflict", 409, {"error": {"message": "locked"}}, (409, None, "locked")),
    ("gateway timeout", 524, {"error": {"message": "late"}}, (504, "upstream_timeout", "late")),
    ("bad gateway", 520, {"error": {"message": "broken"}}, (502, "upstream_error", "broken")),
    ("overloaded words", 500, {"error": {"message": "Service tier capacity exceeded for this model."}}, (503, "server_is_overloaded", "Service tier capacity exceeded for this model.")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "expected"), [case[1:] for case in ENVELOPES], ids=[c[0] for c in ENVELOPES]
)
def test_envelopes(status: int, body: Any, expected: tuple[int, str | None, str]) -> None:
    error = read_upstream_error(status, json.dumps(body).encode())
    assert (error.status_hint, error.code, error.message) == expected
    envelope = error.envelope()["error"]
    assert envelope.keys() == {"message", "type", "param", "code"}
    # Paths of the chat request mean nothing to the client; "prompt" is what a filter objects to.
    assert envelope["param"] == ("prompt" if expected[1] == "content_filter" else None)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            502,
            b"<html><head><title>502 Bad\nGateway</title></head></html>",
            (502, "502 Bad Gateway"),
        ),
        (503, b"upstream connect error", (503, "upstream connect error")),
        (500, b"<p>no title</p>", (500, "no title")),
        (500, b"", (500, "The upstream answered HTTP 500.")),
        (413, b"", (413, "The upstream answered HTTP 413.")),
        (400, b'data: {"error": {"message": "inner"}}', (400, "inner")),
        (500, b"\xff\xfe", (500, "\ufffd\ufffd")),
        (500, b"7", (500, "7")),
    ],
)
def test_bodies_that_are_no_json(status: int, body: bytes, expected: tuple[int, str]) -> None:
    error = read_upstream_error(status, body)
    assert (error.status_hint, error.message) == expected


CONTEXT = [
    (400, "The prompt is too long: 365407, model maximum context length: 262143"),
    (400, "This model's maximum context length is 1048565 tokens. However, you requested 1250025."),
    (400, "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)"),
    (400, "prompt too long; exceeded max context length by 1119046 tokens"),
    (
        400,
        "request (2009 tokens) exceeds the available context size (512 tokens), try increasing it",
    ),
    (400, "Requested token count exceeds the model's maximum context length of 8192 tokens."),
    (400, "The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
    (400, "invalid params, context window exceeds limit (2013)"),
    (400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 229376]"),
    (400, "The number of tokens to keep is greater than the context length."),
    (400, "Please reduce the length of the messages or completion."),
    (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769."),
    (400, "Prompt exceeds max length"),
    (400, "The total length of all messages is too long."),
    (500, "This endpoint's maximum context length is 200000 tokens."),
    (400, "prompt token count of 153600 exceeds the limit of 128000"),
    (400, "Your input exceeds the limit of 131072 tokens."),
    (400, "The number of input tokens exceeds the limit of 131072."),
]


@pytest.mark.parametrize(("status", "message"), CONTEXT)
def test_a_context_that_is_too_long_has_one_code(status: int, message: str) -> None:
    """Codex compacts on this code, whatever the upstream's words are."""
    error = read_upstream_error(status, json.dumps({"error": {"message": message}}).encode())
    assert (error.status_hint, error.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    "message",
    [
        "The image exceeds the limit of 20 MB.",
        "The number of tools exceeds the limit of 128 functions.",
        "max_tokens is too large: 400000.",
    ],
)
def test_other_limits_are_not_the_context(message: str) -> None:
    """Codex would compact a conversation that is short enough."""
    error = read_upstream_error(400, json.dumps({"error": {"message": message}}).encode())
    assert error.code is None


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (413, b"", "context_length_exceeded"),
        (400, b" \n", "context_length_exceeded"),
        (400, b"no", None),
        (500, b"", "upstream_error"),
        (401, b"", "invalid_api_key"),
    ],
)
def test_an_empty_refusal_of_a_large_request(status: int, body: bytes, code: str | None) -> None:
    assert read_upstream_error(status, body, silent_overflow=True).code == code
    assert read_upstream_error(413, b"").code is None


def test_what_is_a_large_request_is_a_fact_of_the_dialect() -> None:
    known = Dialect("x", silent_overflow_bytes=100)
    assert [known.overflows_silently(size) for size in (99, 100)] == [False, True]
    assert not Dialect("x").overflows_silently(10**9)


@pytest.mark.parametrize("code", ["context_length_exceeded", "request_too_large", "1261"])
def test_context_codes_count_without_words(code: str) -> None:
    error = read_upstream_error(400, json.dumps({"error": {"message": "x", "code": code}}).encode())
    assert error.code == "context_length_exceeded"


def test_a_limit_of_tokens_per_minute_is_a_rate_limit() -> None:
    message = "Request too large on tokens per minute (TPM): please reduce your message size"
    error = read_upstream_error(413, json.dumps({"error": {"message": message}}).encode())
    assert (error.status_hint, error.code) == (429, "rate_limit_exceeded")


def test_the_delay_stands_in_the_header_and_in_the_sentence() -> None:
    """SDKs read the header, Codex the sentence."""
    body = b'{"error": {"message": "Slow down."}}'
    error = read_upstream_error(429, body, retry_after="7")
    assert error.headers["retry-after"] == "7"
    assert error.message == "Slow down. Please try again in 7s."
    said = b'{"error": {"message": "Please try again in 13.5s."}}'
    assert read_upstream_error(429, said, retry_after="14").message == "Please try again in 13.5s."
    dated = read_upstream_error(429, body, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")
    assert dated.message == "Slow down."


def test_no_retry_helps_where_there_is_no_money() -> None:
    error = read_upstream_error(402, b'{"error": {"message": "x"}}')
    assert error.headers == {"x-should-retry": "false"}


def test_long_messages_are_cut() -> None:
    error = read_upstream_error(400, json.dumps({"error": {"message": "x" * 5000}}).encode())
    assert len(error.message) == 1001


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, 429, "rate_limit_exceeded"),
        ({"base_resp": {"status_code": 1008, "status_msg": "balance"}}, 429, "insufficient_quota"),
        ({"base_resp": {"status_code": 1004, "status_msg": "auth"}}, 401, "invalid_api_key"),
        ({"base_resp": {"status_code": 2013, "status_msg": "params"}}, 400, "2013"),
        ({"base_resp": {"status_code": 7777}}, 502, "upstream_error"),
        ({"error": {"message": "x", "code": 429}}, 429, "rate_limit_exceeded"),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, 429, "rate_limit_exceeded"),
        ({"error": "boom"}, 502, "upstream_error"),
        ({"message": "Internal server error"}, 502, "upstream_error"),
        ({"error": {"message": "x", "code": "data_inspection_failed"}}, 400, "content_filter"),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, 400, None),
        ({"error": {"message": "x"}, "status": 400}, 400, None),
        ({"code": "InvalidParameter", "message": "x"}, 400, "InvalidParameter"),
    ],
)  # fmt: skip
def test_errors_inside_a_200(value: Any, status: int, code: str | None) -> None:
    error = read_error_object(value)
    assert error is not None
    assert (error.status_hint, error.code) == (status, code)


@pytest.mark.parametrize(
    "value",
    [
        None, 1, "x", [], [1], {}, {"error": None}, {"error": ""}, {"choices": []}, {"error": 5},
        {"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []},
        {"choices": [], "message": "x", "code": 1}, {"detail": []}, {"errors": []},
    ],
)  # fmt: skip
def test_what_is_no_error(value: Any) -> None:
    assert error_in(value) is None
    assert read_error_object(value) is None


# --- what concerns the account that the request was sent for ----------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "lacks"),
    [
        (401, {"message": "no"}, "key"),
        (403, {"message": "no"}, "key"),
        (400, {"message": "Incorrect API key provided: sk-1***."}, "key"),
        (400, {"message": "API key not valid. Please pass a valid API key."}, "key"),
        (400, {"message": "no", "code": "invalid_api_key"}, "key"),
        (404, {"message": "no", "type": "authentication_error"}, "key"),
        (500, {"message": "login fail: carry the API secret key"}, "key"),
        (402, {"message": "no"}, "credit"),
        (403, {"message": "insufficient credits"}, "credit"),
        (429, {"message": "no", "code": "organization_spend_limit_exceeded"}, "credit"),
        (400, {"message": "Your credit balance is too low."}, "credit"),
        (429, {"message": "Rate limit reached for an invalid API key"}, ""),
        (400, {"message": "The maximum context length, for this invalid API key, is 9"}, ""),
        (400, {"message": "Unknown parameter: 'api_key'."}, ""),
        (400, {"message": "x" * 300 + " invalid API key, out of credits"}, ""),
        (500, {"message": "no"}, ""),
    ],
)
def test_whose_fault_an_error_is(status: int, error: dict[str, Any], lacks: str) -> None:
    found = read_upstream_error(status, json.dumps({"error": error}).encode())
    assert found.lacks == lacks
    assert for_client(found, own_credential=False) is found
    ours = for_client(found, own_credential=True)
    kinds = {"key": CredentialRefused, "credit": AccountEmpty, "": UpstreamError}
    assert type(ours) is kinds[lacks]
    assert (ours is found) == (lacks == "")
    if lacks:
        assert (ours.status_hint, ours.code) == (502, "upstream_error")
        assert ours.headers == {"x-should-retry": "false"}


def test_a_loop_behind_the_upstream_is_not_tried_again() -> None:
    """Another translator found out that the request had come through it before."""
    body = b'{"error":{"message":"It has been here.","type":"server_error","code":"loop_detected"}}'
    error = read_upstream_error(508, body, retry_after="1")
    assert (error.status_hint, error.code, error.type) == (508, "loop_detected", "server_error")
    assert error.message == "It has been here."
    assert error.headers == {"x-should-retry": "false"}
