"""An upstream that refuses a part of a request is asked again without it, and remembered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from translator.service.turns.adaptive import MAX_ADAPTING_S, MAX_ATTEMPTS

from .chat_bodies import HELLO, chunk, frame
from .responses_api import PATH, events
from .wire import (
    MODELS,
    Call,
    Script,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    say_hello,
)

pytestmark = pytest.mark.anyio

LS = {"type": "function", "name": "ls", "parameters": {"type": "object"}}
ASK: dict[str, Any] = {"model": "m", "input": "Hi", "stream": True, "temperature": 0.5}
DEEPSEEK = "The `reasoning_content` in the thinking mode must be passed back to the API."
MOONSHOT = (
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"
)
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "What is here?"},
    {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "README.md"},
]
"""A history that another proxy built: the call has lost the reasoning that led to it."""


def refusing(
    refuses: Callable[[dict[str, Any]], str | None], status: int = 400, **more: Any
) -> Script:
    """An upstream that answers with an error wherever `refuses` has a text for the request."""

    async def script(call: Call) -> None:
        text = refuses(call.json)
        if text is None:
            await say_hello(call)
        else:
            await call.answer({"error": {"message": text, **more}}, status)

    return script


def unless_without(field: str, text: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda request: text if field in request else None


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        response = answer.json()
    else:
        response = events(answer.content)[-1]["response"]
    assert response["status"] == "completed"
    text: str = response["output"][0]["content"][0]["text"]
    return text


async def test_fireworks_without_stream_options(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """One retry, a normal stream, nothing that the client would miss; and no second refusal."""
    text = "Extra inputs are not permitted, field: 'stream_options'"
    upstream.script = refusing(unless_without("stream_options", text), code="invalid_request_error")
    async with upstream.client() as client:
        for _ in range(2):
            answer = await client.post(PATH, json=ASK)
            assert text_of(answer) == "Hello world"
            assert "x-translator-notices" not in answer.headers
    assert ["stream_options" in call.json for call in upstream.calls] == [True, False, False]
    refused, again, _ = (call.json for call in upstream.calls)
    refused.pop("stream_options")
    assert list(again.items()) == list(refused.items())
    [line] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert line.getMessage() == "upstream up, model 'm': it rejects stream_options; remembered"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "property 'parallel_tool_calls' is unsupported"}}),
        (400, {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'parallel_tool_calls'), 'msg': 'Extra inputs are not permitted', 'input': True}]", "code": 400}),
        (422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "parallel_tool_calls"], "msg": "Extra inputs are not permitted", "input": True}]}}),
        (400, {"code": "Client specified an invalid argument", "error": "Argument not supported on this model: parallelToolCalls"}),
        (400, [{"error": {"code": 400, "message": 'Unknown name "parallel_tool_calls": Cannot find field.', "status": "INVALID_ARGUMENT"}}]),
    ],
    ids=["groq", "vllm", "mistral", "xai", "gemini"],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False])
async def test_parallel_tool_calls_in_the_words_of_several(
    upstream: ScriptedUpstream, status: int, body: Any, stream: bool
) -> None:
    async def script(call: Call) -> None:
        if "parallel_tool_calls" in call.json:
            await call.answer(body, status)
        else:
            await say_hello(call)

    upstream.script = script
    request = ASK | {"stream": stream, "tools": [LS], "parallel_tool_calls": True}
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request)
    assert text_of(answer) == "Hello world"
    assert len(upstream.calls) == 2
    assert upstream.calls[1].json["tools"]


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_lost_is_told(
    upstream: ScriptedUpstream, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    text = "Unknown parameter: 'temperature'."
    upstream.script = refusing(unless_without("temperature", text))
    async with upstream.client() as client:
        for _ in range(2):
            answer = await client.post(PATH, json=ASK | {"stream": stream})
            assert text_of(answer) == "Hello world"
            assert answer.headers["x-translator-notices"] == "1; refused_upstream"
    assert len(upstream.calls) == 3
    lines = [record.getMessage() for record in caplog.records if "POST" in record.getMessage()]
    assert ["notes='1; refused_upstream'" in line for line in lines] == [True, True]


async def test_several_fields_at_once(upstream: ScriptedUpstream) -> None:
    text = "2 request validation errors: Extra inputs are not permitted, field: 'temperature', value: 0.5; Extra inputs are not permitted, field: 'top_p', value: 0.5"  # fmt: skip
    upstream.script = refusing(unless_without("top_p", text))
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"top_p": 0.5})
    assert answer.headers["x-translator-notices"] == "2; refused_upstream"
    assert len(upstream.calls) == 2
    assert not upstream.calls[1].json.keys() & {"temperature", "top_p"}


async def test_fields_that_are_named_one_at_a_time(upstream: ScriptedUpstream) -> None:
    """One more attempt for each, as long as each is a new one; the next request is right at once."""

    def first_of_all(request: dict[str, Any]) -> str | None:
        found = [name for name in ("temperature", "top_p", "user") if name in request]
        return f"property '{found[0]}' is unsupported" if found else None

    upstream.script = refusing(first_of_all)
    request = ASK | {"top_p": 0.5}
    async with upstream.client() as client:
        for _ in range(2):
            answer = await client.post(PATH, json=request)
            assert text_of(answer) == "Hello world"
            assert answer.headers["x-translator-notices"] == "2; refused_upstream"
    kept = [sorted(call.json.keys() & {"temperature", "top_p"}) for call in upstream.calls]
    assert kept == [["temperature", "top_p"], ["top_p"], [], []]


async def test_an_upstream_that_refuses_field_after_field_is_asked_so_often(
    upstream: ScriptedUpstream,
) -> None:
    removable = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "top_k"]
    removable += ["min_p", "repetition_penalty", "chat_template_kwargs", "stream_options"]

    def first_of_all(request: dict[str, Any]) -> str | None:
        found = [name for name in removable if name in request]
        return f"Unknown parameter: '{found[0]}'." if found else None

    upstream.script = refusing(first_of_all)
    request: dict[str, Any] = dict.fromkeys(removable[:-2], 1) | {"chat_template_kwargs": {"a": 1}}
    async with upstream.client() as client:
        refused = await client.post(PATH, json=ASK | request)
        assert (refused.status_code, len(upstream.calls)) == (400, MAX_ATTEMPTS)
        assert text_of(await client.post(PATH, json=ASK | request)) == "Hello world"
    assert len(upstream.calls) == len(removable) + 2  # what had been right counts


async def test_no_attempt_begins_too_late(upstream: ScriptedUpstream) -> None:
    """A client waits for all of them."""
    now = 0.0

    def slowly(request: dict[str, Any]) -> str | None:
        nonlocal now
        now += MAX_ADAPTING_S * 0.6
        found = [name for name in ("temperature", "top_p") if name in request]
        return f"property '{found[0]}' is unsupported" if found else None

    upstream.script = refusing(slowly)
    settings = make_settings(upstream.url)
    async with client_of(settings, timer=lambda: now) as client:
        answer = await client.post(PATH, json=ASK | {"top_p": 0.5})
    assert (answer.status_code, len(upstream.calls)) == (400, 2)


async def test_what_was_learned_is_forgotten_after_a_while(upstream: ScriptedUpstream) -> None:
    """An upstream may have been mended, or a refusal misread."""
    now = 0.0
    upstream.script = refusing(unless_without("temperature", "Unknown parameter: 'temperature'."))
    settings = make_settings(upstream.url, refused_ttl_s=100)
    async with client_of(settings, timer=lambda: now) as client:
        for now in (0.0, 99.0, 100.0, 150.0):  # noqa: B007 - the clock
            assert text_of(await client.post(PATH, json=ASK)) == "Hello world"
    sent = ["temperature" in call.json for call in upstream.calls]
    assert sent == [True, False, False, True, False, False]


async def test_what_did_not_help_is_not_remembered(upstream: ScriptedUpstream) -> None:
    """The words were misread, or something else is wrong: the next request is whole again."""
    upstream.script = refusing(lambda _: "Unknown parameter: 'temperature'.")
    async with upstream.client() as client:
        for _ in range(2):
            answer = await client.post(PATH, json=ASK)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == "Unknown parameter: 'temperature'."
    assert ["temperature" in call.json for call in upstream.calls] == [True, False, True, False]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "Unknown parameter: 'messages'."),
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
        (400, "Unknown parameter: 'seed'."),
        (400, "temperature must be at most 2"),
        (500, "Unknown parameter: 'temperature'."),
        (429, "Unknown parameter: 'temperature'."),
        (404, "Unknown parameter: 'temperature'."),
    ],
)
async def test_any_other_error_is_passed_on_at_once(
    upstream: ScriptedUpstream, status: int, text: str
) -> None:
    upstream.script = refusing(lambda _: text, status)
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"max_output_tokens": 9})
    assert answer.status_code >= 400
    assert text in answer.json()["error"]["message"]
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("setting", [True, False])
async def test_the_setting_turns_it_off(upstream: ScriptedUpstream, setting: bool) -> None:
    upstream.script = refusing(unless_without("temperature", "Unknown parameter: 'temperature'."))
    async with upstream.client(retry_refused=setting) as client:
        answer = await client.post(PATH, json=ASK)
    assert (answer.status_code, len(upstream.calls)) == ((200, 2) if setting else (400, 1))


async def test_a_strict_request_is_not_changed_but_for_what_loses_nothing(
    upstream: ScriptedUpstream,
) -> None:
    models = {"strict": {"upstream": "up", "strict": True}, "open": {"upstream": "up"}}
    same = {"upstream_model": "one"}
    models = {name: model | same for name, model in models.items()}
    upstream.script = refusing(unless_without("temperature", "Unknown parameter: 'temperature'."))
    async with upstream.client(models=models) as client:
        strict = await client.post(PATH, json=ASK | {"model": "strict"})
        assert (strict.status_code, len(upstream.calls)) == (400, 1)
        assert text_of(await client.post(PATH, json=ASK | {"model": "open"})) == "Hello world"
        # What another request found out does not change this one either.
        strict = await client.post(PATH, json=ASK | {"model": "strict"})
        assert strict.status_code == 400
        assert "temperature" in upstream.calls[-1].json
        upstream.script = refusing(unless_without("stream_options", "Unknown parameter: 'stream_options'."))  # fmt: skip
        assert text_of(await client.post(PATH, json=ASK | {"model": "strict"})) == "Hello world"


async def test_a_refused_value_is_left_out_and_others_are_not(upstream: ScriptedUpstream) -> None:
    def no_none(request: dict[str, Any]) -> str | None:
        none = request.get("reasoning_effort") == "none"
        return "Invalid reasoning effort: none" if none else None

    upstream.script = refusing(no_none)
    async with upstream.client(upstream={"dialect": "fireworks"}) as client:
        for effort in ("none", "high", "none"):
            answer = await client.post(PATH, json=ASK | {"reasoning": {"effort": effort}})
            assert text_of(answer) == "Hello world"
            assert ("x-translator-notices" in answer.headers) == (effort == "none")
    asked = [call.json.get("reasoning_effort") for call in upstream.calls]
    assert asked == ["none", None, "high", None]


@pytest.mark.parametrize("dialect", ["base", "openai"])
async def test_a_limit_goes_under_its_other_name(upstream: ScriptedUpstream, dialect: str) -> None:
    names = ["max_tokens", "max_completion_tokens"]
    wrong, right = names if dialect == "base" else reversed(names)
    text = f"Unsupported parameter: '{wrong}' is not supported with this model. Use '{right}' instead."  # fmt: skip
    upstream.script = refusing(unless_without(wrong, text), code="unsupported_parameter")
    async with upstream.client(upstream={"dialect": dialect}) as client:
        for limit in (7, 8):
            answer = await client.post(PATH, json=ASK | {"max_output_tokens": limit})
            assert text_of(answer) == "Hello world"
            assert "x-translator-notices" not in answer.headers
    limits = [(call.json.get(wrong), call.json.get(right)) for call in upstream.calls]
    assert limits == [(7, None), (None, 7), (None, 8)]


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [("required", True), ({"type": "function", "name": "cat"}, False), ("none", False)],
)
async def test_a_refused_tool_choice_is_enforced_on_the_answer(
    upstream: ScriptedUpstream, choice: Any, allowed: bool
) -> None:
    """What it forbids stays forbidden, though the upstream was not told."""

    async def script(call: Call) -> None:
        if call.json.get("tool_choice", "auto") != "auto":
            text = "Thinking mode does not support this tool_choice"
            await call.answer({"error": {"message": text}}, 400)
            return
        function = {"name": "ls", "arguments": "{}"}
        await call.head()
        await call.send(
            chunk({"content": "Hm."}),
            chunk({"tool_calls": [{"index": 0, "id": "c1", "function": function}]}),
            chunk({}, "tool_calls"),
            b"data: [DONE]\n\n",
        )
        await call.end()

    upstream.script = script
    request = ASK | {"tools": [LS, LS | {"name": "cat"}], "tool_choice": choice}
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request)
        assert len(upstream.calls) == 2
        await client.post(PATH, json=request)
        assert len(upstream.calls) == 3
        plain = await client.post(PATH, json=request | {"tool_choice": "auto"})
    assert "x-translator-notices" not in plain.headers
    told = "1; weakened" if allowed else "2; weakened,call_dropped"
    assert answer.headers["x-translator-notices"] == told
    output = events(answer.content)[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", *["function_call"] * allowed]


async def test_a_tool_choice_that_is_not_known_at_all(upstream: ScriptedUpstream) -> None:
    text = "Unknown parameter: 'tool_choice'."
    upstream.script = refusing(unless_without("tool_choice", text))
    async with upstream.client() as client:
        request = ASK | {"tools": [LS], "tool_choice": "auto"}
        answer = await client.post(PATH, json=request)
        assert "x-translator-notices" not in answer.headers
        answer = await client.post(PATH, json=request | {"tool_choice": "required"})
        assert answer.headers["x-translator-notices"] == "1; weakened"
    assert len(upstream.calls) == 3


async def test_a_strict_request_is_told_when_its_tool_choice_cannot_be(
    upstream: ScriptedUpstream,
) -> None:
    text = "tool_choice 'required' is incompatible with thinking enabled"
    upstream.script = refusing(
        lambda request: text if request.get("tool_choice") == "required" else None
    )
    async with upstream.client(strict=True) as client:
        answer = await client.post(PATH, json=ASK | {"tools": [LS], "tool_choice": "required"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tool_choice"
    assert len(upstream.calls) == 1


async def test_an_error_inside_a_200_is_a_refusal_too(upstream: ScriptedUpstream) -> None:
    refusal = frame({"error": {"message": "Unknown parameter: 'temperature'.", "code": 400}})

    async def script(call: Call) -> None:
        if "temperature" not in call.json:
            await say_hello(call)
            return
        await call.head()
        await call.send(b": PROCESSING\n\n", HELLO[0], refusal)
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        for stream in (True, False):
            upstream.calls.clear()
            request = ASK | {"model": f"m{stream}", "stream": stream}
            assert text_of(await client.post(PATH, json=request)) == "Hello world"
            assert len(upstream.calls) == 2


async def late_refusal(
    upstream: ScriptedUpstream, before: bytes, **settings: Any
) -> list[dict[str, Any]]:
    """The events of a request whose temperature is refused when the client has some already."""
    begun = asyncio.Event()
    refusal = frame({"error": {"message": "Unknown parameter: 'temperature'.", "code": 400}})

    async def script(call: Call) -> None:
        if "temperature" not in call.json:
            await say_hello(call)
            return
        await call.head()
        await call.send(before)
        await bounded(begun.wait())
        await call.send(refusal)
        await call.end()

    upstream.script = script
    body = b""
    async with (
        upstream.socket_client(headers_grace_s=0.01, **settings) as client,
        client.stream("POST", PATH, json=ASK) as answer,
    ):
        async for piece in answer.aiter_raw():
            body += piece
            if body.count(b"event: response.in_progress") >= 3 or b"Hello" in body:
                begun.set()
    return events(body)


async def test_a_late_refusal_is_answered_as_long_as_nothing_of_an_answer_was_sent(
    upstream: ScriptedUpstream,
) -> None:
    """The second attempt goes on behind the events that the client has: same id, next number."""
    found = await late_refusal(upstream, b": PROCESSING\n\n", heartbeat_s=0.02)
    types = [event["type"] for event in found]
    assert types[0] == "response.created"
    assert types.count("response.created") == 1
    assert types.count("response.in_progress") >= 3
    assert types[-1] == "response.completed"
    assert len({event["response"]["id"] for event in found if "response" in event}) == 1
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "Hello world"
    assert len(upstream.calls) == 2


async def test_nothing_is_asked_again_when_the_client_has_a_piece_of_an_answer(
    upstream: ScriptedUpstream,
) -> None:
    found = await late_refusal(upstream, HELLO[1])
    assert found[-1]["type"] == "response.failed"
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("text", [DEEPSEEK, MOONSHOT])
@pytest.mark.parametrize("stream", [True, False])
async def test_reasoning_that_is_demanded_gets_a_placeholder(
    upstream: ScriptedUpstream, text: str, stream: bool
) -> None:
    def demands(request: dict[str, Any]) -> str | None:
        said = [one for one in request["messages"] if one["role"] == "assistant"]
        return None if all("reasoning_content" in one for one in said) else text

    upstream.script = refusing(demands)
    request = ASK | {"input": CALLED, "tools": [LS], "stream": stream}
    async with upstream.client() as client:
        for _ in range(2):
            assert text_of(await client.post(PATH, json=request)) == "Hello world"
    placeholders = [call.json["messages"][1].get("reasoning_content") for call in upstream.calls]
    assert placeholders == [None, " ", " "]


async def test_a_field_and_the_reasoning_one_after_the_other(upstream: ScriptedUpstream) -> None:
    def both(request: dict[str, Any]) -> str | None:
        if "temperature" in request:
            return "Unknown parameter: 'temperature'."
        return None if "reasoning_content" in request["messages"][1] else DEEPSEEK

    upstream.script = refusing(both)
    async with upstream.client() as client:
        for _ in range(2):
            answer = await client.post(PATH, json=ASK | {"input": CALLED, "tools": [LS]})
            assert text_of(answer) == "Hello world"
            assert answer.headers["x-translator-notices"] == "1; refused_upstream"
    assert len(upstream.calls) == 4


async def test_what_one_text_teaches_is_tried_at_once(upstream: ScriptedUpstream) -> None:
    texts = (f"Unknown parameter: 'temperature'. Unknown parameter: 'top_p'. {DEEPSEEK}",)
    upstream.script = refusing(lambda _: texts[0])
    request = ASK | {"input": CALLED, "tools": [LS], "top_p": 1}
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request)
    assert (answer.status_code, len(upstream.calls)) == (400, 2)
    [_, again] = [call.json for call in upstream.calls]
    assert not again.keys() & {"temperature", "top_p"}
    assert "reasoning_content" in again["messages"][1]


async def test_reasoning_that_cannot_be_added_is_not_asked_for_again(
    upstream: ScriptedUpstream,
) -> None:
    """There is no answer in the history that could get a placeholder."""
    upstream.script = refusing(lambda _: DEEPSEEK)
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK)
    assert (answer.status_code, len(upstream.calls)) == (400, 1)


async def test_a_finding_is_about_one_model_of_one_upstream(upstream: ScriptedUpstream) -> None:
    upstream.script = refusing(unless_without("temperature", "Unknown parameter: 'temperature'."))
    async with upstream.client(models=MODELS) as client:
        for model in ("small", "org/large", "small"):
            await client.post(PATH, json=ASK | {"model": model})
    asked = [(call.json["model"], "temperature" in call.json) for call in upstream.calls]
    assert asked == [
        ("accounts/up/models/m", True),
        ("accounts/up/models/m", False),
        ("org/large", True),
        ("org/large", False),
        ("accounts/up/models/m", False),
    ]


async def test_two_services_share_no_finding(upstream: ScriptedUpstream) -> None:
    upstream.script = refusing(unless_without("temperature", "Unknown parameter: 'temperature'."))
    for _ in range(2):
        async with upstream.client() as client:
            assert text_of(await client.post(PATH, json=ASK)) == "Hello world"
    assert len(upstream.calls) == 4


CLIENTS_WORDS = [
    "max_tokens must be at most 300 please",
    "assistant messages must include reasoning_content",
    "failed to parse grammar, I say",
]


@pytest.mark.parametrize("words", CLIENTS_WORDS)
@pytest.mark.parametrize("frame", ["Blocked, try again: '{}'", "Input rejected by policy: {}"])
async def test_what_a_client_says_teaches_nothing_for_others(
    upstream: ScriptedUpstream, words: str, frame: str
) -> None:
    """An upstream that quotes the prompt, and takes the second attempt."""
    quoted = frame.format(words)
    upstream.script = refusing(lambda _: quoted if len(upstream.calls) == 1 else None)
    tools = [{"type": "function", "name": "f", "parameters": {"pattern": "a"}}]
    request = {"model": "m", "max_output_tokens": 20000, "tools": tools, "input": "Hi"}
    async with upstream.client() as client:
        await client.post(PATH, json=request | {"input": f"Look: {words}"})
        upstream.calls.clear()
        upstream.script = say_hello
        assert text_of(await client.post(PATH, json=request)) == "Hello world"
    [call] = upstream.calls
    assert call.json["max_tokens"] == 20000
    assert call.json["tools"][0]["function"]["parameters"] == {"pattern": "a"}


async def test_only_what_is_accepted_is_remembered(upstream: ScriptedUpstream) -> None:
    """A second refusal for another reason confirms nothing."""
    texts = ["Unknown parameter: 'temperature'.", "The prompt is no good."]
    upstream.script = refusing(lambda _: texts[min(len(upstream.calls), 2) - 1])
    async with upstream.client() as client:
        refused = await client.post(PATH, json=ASK | {"temperature": 1})
        assert (refused.status_code, len(upstream.calls)) == (400, 2)
        upstream.calls.clear()
        upstream.script = say_hello
        assert text_of(await client.post(PATH, json=ASK | {"temperature": 1})) == "Hello world"
    assert upstream.calls[0].json["temperature"] == 1
