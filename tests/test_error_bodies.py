"""Where the message of an error stands, and what else an upstream says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from translator import read_upstream_error
from translator.reader.error_bodies import MAX_DEPTH, MAX_REMARKS, error_in

REASON = "The reasoning_content in the thinking mode must be passed back to the API."


def envelope(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def nested(times: int) -> str:
    """A body whose message is a body, and so on."""
    text = REASON
    for _ in range(times):
        text = json.dumps(envelope(text, code="outer"))
    return text


BODIES: list[tuple[str, bytes | str | dict[str, Any] | list[Any], str]] = [
    # where, body, message
    ("event and data", 'event:error\ndata:{"error":{"message":"no"}}\n\n', "no"),
    ("other lines before", ': hello\nid: 1\nevent: error\nretry: 3\ndata: {"error":{"message":"no"}}\n\ndata: [DONE]\n\n', "no"),
    ("lines end in CR LF", 'event: error\r\ndata: {"error":{"message":"no"}}\r\n\r\n', "no"),
    ("data, and a message that is data", {"code": "InvalidParameter", "message": 'data: {"error":{"message":"no","code":"inner"}}'}, "no"),
    ("an event within an event", 'event:error\ndata:{"request_id":"r","message":"data: {\\"error\\":{\\"message\\":\\"no\\"}}"}\n\n', "no"),
    ("JSON in JSON", nested(2), REASON),
    ("JSON in JSON in JSON", nested(3), REASON),
    ("a JSON string", json.dumps("no"), "no"),
    ("JSON in a JSON string", json.dumps(json.dumps(envelope("no"))), "no"),
    ("a list in the message", {"object": "error", "message": '[{"error":{"message":"no"}}]'}, "no"),
    ("braces that are no body", envelope("{oops} it broke"), "{oops} it broke"),
    ("data without JSON", "event: error\ndata: it broke\n\n", "event: error data: it broke"),
    ("an event without data", "event: error\n\n", "event: error"),
    ("a sentence in param", envelope("Param Incorrect", param=REASON), f"Param Incorrect: {REASON}"),
    ("a path in param", envelope("Wrong", param="messages[0]"), "Wrong"),
    ("a field in param", envelope("Unsupported parameter", param="top_p"), "Unsupported parameter: 'top_p'"),
    ("a field in both", envelope("Unknown field top_p", param="top_p"), "Unknown field top_p"),
    ("openrouter, raw JSON", envelope("Provider returned error", metadata={"raw": json.dumps(envelope("no"))}), "Provider returned error: no"),
    ("openrouter, raw object", envelope("Provider returned error", metadata={"raw": envelope("no")}), "Provider returned error: no"),
    ("openrouter, raw nothing", envelope("Provider returned error", metadata={"raw": None}), "Provider returned error"),
    ("cloudflare", {"success": False, "errors": [{"code": 7, "message": "AiError: no"}], "messages": [], "result": {}}, "AiError: no"),
    ("errors in errors", {"errors": [{"errors": []}]}, "The upstream reported an error without a message."),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_the_message_of_a_body(body: Any, message: str) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    assert read_upstream_error(400, raw.encode()).message == message


def test_the_innermost_code_counts() -> None:
    inner = json.dumps(envelope("no", code="context_length_exceeded"))
    error = read_upstream_error(400, json.dumps(envelope(inner, code="outer")).encode())
    assert (error.code, error.message) == ("context_length_exceeded", "no")
    inner = json.dumps(envelope("no"))
    error = read_upstream_error(400, json.dumps(envelope(inner, code="outer")).encode())
    assert error.code == "outer"


TEXTS: list[tuple[str, Any]] = [
    ("a detail", {"status": 400, "title": "Bad Request", "message": "no", "detail": REASON}),
    ("details", envelope("no", details=[{"reason": REASON}])),
    ("a list of texts", envelope("no", details=[REASON, 7, None])),
    ("fastapi", {"message": "no", "detail": [{"loc": ["body", 1], "msg": REASON}]}),
    ("fastapi in a text", {"message": "no", "detail": json.dumps([{"error": envelope(REASON)}])}),
    ("a reason", {"error": {"message": "no", "innererror": {"message": REASON}}}),
    ("behind a sentence", envelope(f"litellm.BadRequestError: {json.dumps(envelope('x', detail=REASON))} Received")),
    ("text around JSON", envelope(f"Provider said {json.dumps(envelope(REASON))}")),
]  # fmt: skip


@pytest.mark.parametrize("body", [t[1] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_all_that_is_said_is_read(body: Any) -> None:
    """The client gets the message; what an error teaches may stand elsewhere."""
    error = read_upstream_error(400, json.dumps(body).encode())
    assert REASON in error.text


def test_what_the_client_or_the_model_wrote_is_not_what_the_upstream_says() -> None:
    body = envelope("no", failed_generation=REASON, input=REASON, value=REASON)
    body["detail"] = [{"loc": ["body", "seed"], "msg": "wrong", "input": REASON}]
    error = read_upstream_error(400, json.dumps(body).encode())
    assert REASON not in error.text
    assert "body.seed: wrong" in error.text


def test_a_body_is_read_only_so_deep_and_so_far() -> None:
    """Some upstreams repeat the whole request; a hostile one may nest without end."""
    body = envelope("no", details=[f"remark {number}" for number in range(10 * MAX_REMARKS)])
    text = read_upstream_error(400, json.dumps(body).encode()).text
    assert text.count("remark") == MAX_REMARKS
    message = read_upstream_error(400, nested(MAX_DEPTH + 3).encode()).message
    assert message.startswith('{"error"')
    assert REASON in message
    deeper: Any = REASON
    for _ in range(MAX_DEPTH + 2):
        deeper = {"error": deeper}
    assert REASON not in read_upstream_error(400, json.dumps(envelope("no", details=deeper)).encode()).text  # fmt: skip
    sentence = "x"
    for _ in range(MAX_DEPTH + 3):
        sentence = f"said {json.dumps(envelope(sentence))}"
    assert error_in(envelope(sentence)) is not None


def test_braces_in_any_order_are_no_body() -> None:
    for text in ('} {"', '{"a": 1', '{"no": "error"}', "said {oops}", 'said {"a":1} b'):
        assert read_upstream_error(400, json.dumps(envelope(text)).encode()).message == text
