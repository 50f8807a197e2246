"""A second choice: another upstream of a model, or another model, where the first does not answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest

from tests.service.websocket.client import ask, open_socket
from translator.common.sealed import unseal
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Server, Settings, SettingsError
from translator.service.turns import fallbacks

from .chat_bodies import HELLO, chunk, frame
from .responses_api import PATH, events
from .wire import Call, Script, ScriptedUpstream, client_of, say_hello, serving

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "first", "input": "Hi", "stream": True}
CHAIN = {"first": {"fallbacks": ["second", "third"]}, "second": {}, "third": {}}
"""Three models, each on an upstream of its own."""


class Upstreams:
    """Three upstreams; each model is on the one of its name."""

    def __init__(self, **named: ScriptedUpstream) -> None:
        self._named = named

    def __getattr__(self, name: str) -> ScriptedUpstream:
        return self._named[name]

    def settings(
        self,
        models: dict[str, Any] | None = None,
        clients: dict[str, Any] | None = None,
        keys: tuple[str, ...] = (),
        **server: Any,
    ) -> Settings:
        sections = {
            name: {"base_url": one.url, **({"api_key_env": "KEY"} if name in keys else {})}
            for name, one in self._named.items()
        }
        table: dict[str, Any] = {
            "server": {"retries": 0, **server},
            "upstreams": sections,
            "models": {name: {"upstream": name, **row} for name, row in (models or CHAIN).items()},
        }
        if clients is not None:
            table["clients"] = clients
        return read_table(table, {"KEY": "sk-operator"})

    def counts(self) -> list[int]:
        """How many requests each has got."""
        return [len(one.calls) for one in self._named.values()]


@pytest.fixture
async def upstreams() -> AsyncGenerator[Upstreams]:
    async with AsyncExitStack() as stack:
        running = {
            name: await stack.enter_async_context(ScriptedUpstream().running())
            for name in ("first", "second", "third")
        }
        yield Upstreams(**running)


class Timer:
    """The service's timer, which a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def status(number: int, body: dict[str, Any] | None = None, **headers: str) -> Script:
    async def script(call: Call) -> None:
        await call.answer(body or {"error": {"message": "No."}}, number, headers=headers)

    return script


async def drops(call: Call) -> None:
    call.drop()


def in_stream(*chunks: bytes) -> Script:
    """A 200, and then these events."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*chunks)
        await call.end()

    return script


def text_of(answer: httpx.Response) -> str:
    last = events(answer.content)[-1]
    assert last["type"] == "response.completed"
    text: str = last["response"]["output"][-1]["content"][0]["text"]
    return text


def error(code: str, message: str = "No.") -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": "invalid_request_error"}}


FAILURES: dict[str, tuple[Script, str]] = {
    "dropped": (drops, "broken"),
    "500": (status(500), "failed"),
    "503": (status(503), "server_is_overloaded"),
    "429": (status(429, **{"retry-after": "60"}), "rate_limit_exceeded"),
    "402": (status(402, error("insufficient_quota")), "insufficient_quota"),
    "quota": (status(429, error("insufficient_quota")), "insufficient_quota"),
    "gone": (status(404, error("model_not_found")), "model_not_found"),
    "in the stream": (in_stream(frame({"error": {"message": "No.", "code": 500}})), "failed"),
    "after a role": (
        in_stream(HELLO[0], frame({"error": {"message": "No.", "code": 502}})),
        "failed",
    ),
    "empty": (in_stream(), "failed"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("stream", [True, False])
async def test_the_next_model_answers_where_the_first_cannot(
    upstreams: Upstreams, failure: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script, why = FAILURES[failure]
    upstreams.first.script = script
    with caplog.at_level(logging.INFO):
        async with client_of(upstreams.settings()) as client:
            answer = await client.post(PATH, json=ASK | {"stream": stream})
    assert answer.status_code == 200
    response = events(answer.content)[-1]["response"] if stream else answer.json()
    assert response["status"] == "completed"
    assert response["model"] == "first"
    assert upstreams.counts()[1:] == [1, 0]
    assert upstreams.second.calls[0].json["model"] == "second"
    assert answer.headers["x-translator-model"] == "second"
    assert "fallback" in answer.headers["x-translator-notices"]
    assert answer.headers["x-translator-fallback"] == why
    line = next(one for one in caplog.messages if f"{PATH} 200" in one)
    assert "model=first" in line
    assert "served_by=second " in line
    assert f"fallback={answer.headers['x-translator-fallback']}" in line


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (400, error("invalid_value", "Invalid 'messages'.")),
        (401, error("invalid_api_key")),
        (400, error("content_filter")),
        (400, error("context_length_exceeded", "maximum context length is 8 tokens")),
    ],
)
async def test_what_another_model_would_not_do_better_is_told(
    upstreams: Upstreams, number: int, body: dict[str, Any]
) -> None:
    upstreams.first.script = status(number, body)
    async with client_of(upstreams.settings()) as client:
        answer = await client.post(PATH, json=ASK)
    assert answer.status_code == number
    assert upstreams.counts() == [1, 0, 0]
    assert "x-translator-model" not in answer.headers


async def test_an_overflow_goes_on_by_setting(upstreams: Upstreams) -> None:
    upstreams.first.script = status(
        400, error("context_length_exceeded", "maximum context length is 8 tokens")
    )
    models = CHAIN | {"first": {"fallbacks": ["second"], "fallback_on_overflow": True}}
    async with client_of(upstreams.settings(models)) as client:
        answer = await client.post(PATH, json=ASK)
    assert text_of(answer) == "Hello world"
    assert answer.headers["x-translator-fallback"] == "context_length_exceeded"


async def test_all_are_asked_in_order_and_the_first_error_is_told(upstreams: Upstreams) -> None:
    upstreams.first.script = status(429, **{"retry-after": "60"})
    upstreams.second.script = status(500)
    upstreams.third.script = status(404, error("model_not_found"))
    async with client_of(upstreams.settings()) as client:
        answer = await client.post(PATH, json=ASK)
        whole = await client.post(PATH, json=ASK | {"stream": False})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert (whole.status_code, whole.headers["retry-after"]) == (429, "60")
    assert upstreams.counts() == [2, 2, 2]


async def test_never_after_something_of_an_answer(upstreams: Upstreams) -> None:
    upstreams.first.script = in_stream(*HELLO[:2], frame({"error": {"message": "x", "code": 500}}))
    async with client_of(upstreams.settings()) as client:
        answer = await client.post(PATH, json=ASK)
    assert events(answer.content)[-1]["type"] == "response.failed"
    assert upstreams.counts() == [1, 0, 0]


async def silent(call: Call) -> None:
    await call.gone()


async def only_a_head(call: Call) -> None:
    await call.head()
    await call.gone()


async def only_keep_alives(call: Call) -> None:
    """As while a request waits in a queue."""
    await call.head()
    with suppress(ConnectionError):
        while True:
            await call.send(b": queued\n\n", HELLO[0])
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("slow", [silent, only_a_head, only_keep_alives])
async def test_a_slow_one_gives_way_before_its_answer_begins(
    upstreams: Upstreams, slow: Script
) -> None:
    """The client sees one stream."""
    upstreams.first.script = upstreams.second.script = slow
    row = {"fallbacks": ["second", "third"], "fallback_after_s": 0.2}
    settings = upstreams.settings(CHAIN | {"first": row}, headers_grace_s=0.1)
    async with client_of(settings) as client:
        answer = await client.post(PATH, json=ASK)
        assert text_of(answer) == "Hello world"
        assert upstreams.counts() == [1, 1, 1]
        whole = await client.post(PATH, json=ASK | {"stream": False})
        assert whole.json()["status"] == "completed"
        assert whole.headers["x-translator-model"] == "third"


async def test_an_answer_that_has_begun_has_all_the_time(upstreams: Upstreams) -> None:
    async def pauses(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await asyncio.sleep(2.2)
        await call.send(*HELLO[2:])
        await call.end()

    upstreams.first.script = pauses
    row = {"fallbacks": ["second"], "fallback_after_s": 2.0}
    async with client_of(upstreams.settings(CHAIN | {"first": row})) as client:
        answer = await client.post(PATH, json=ASK)
    assert text_of(answer) == "Hello world"
    assert upstreams.counts() == [1, 0, 0]


def test_the_budget_outlasts_a_silent_upstream() -> None:
    assert Server().fallback_budget_s > Server().read_timeout_s


async def test_the_last_one_has_all_the_time(upstreams: Upstreams) -> None:
    """`fallback_after_s` is no limit where nobody is left to ask."""
    row = {"fallbacks": ["second"], "fallback_after_s": 1e-9}
    async with client_of(upstreams.settings(CHAIN | {"first": row})) as client:
        answer = await client.post(PATH, json=ASK)
    assert text_of(answer) == "Hello world"


async def test_another_upstream_of_the_same_model(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503)
    models = {"first": {"upstream": ["first", "third"], "upstream_model": "org/m"}}
    async with client_of(upstreams.settings(models)) as client:
        answer = await client.post(PATH, json=ASK)
    assert text_of(answer) == "Hello world"
    assert upstreams.third.calls[0].json["model"] == "org/m"
    assert answer.headers["x-translator-model"] == "first@third"


async def test_each_attempt_is_a_translation_under_its_own_dialect(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503)
    models = {
        "first": {"fallbacks": ["second"], "facts": {"max_tokens_field": "max_tokens"}},
        "second": {
            "facts": {"max_tokens_field": "max_completion_tokens"},
            "max_output_tokens": 50,
            "vision": False,
        },
    }
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    content = [{"type": "input_text", "text": "Look"}, image]
    request = ASK | {"max_output_tokens": 100, "input": [{"role": "user", "content": content}]}
    async with client_of(upstreams.settings(models)) as client:
        answer = await client.post(PATH, json=request)
    assert text_of(answer) == "Hello world"
    first, second = upstreams.first.calls[0].json, upstreams.second.calls[0].json
    assert first["max_tokens"] == 100
    assert second["max_completion_tokens"] == 50
    assert "max_tokens" not in second
    assert "image_url" in json.dumps(first)
    assert "image_url" not in json.dumps(second)


async def test_the_clients_key_goes_only_where_the_client_has_asked(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503)
    upstreams.second.script = status(503)
    settings = upstreams.settings(keys=("second",))
    async with client_of(settings) as client:
        await client.post(PATH, json=ASK, headers={"authorization": "Bearer sk-client"})
    sent = [one.calls[0].headers.get("authorization") for one in (
        upstreams.first, upstreams.second, upstreams.third
    )]  # fmt: skip
    assert sent == ["Bearer sk-client", "Bearer sk-operator", None]


async def test_the_clients_key_goes_to_the_same_host(upstreams: Upstreams) -> None:
    """As where a provider has a section for each kind of its models."""

    async def by_model(call: Call) -> None:
        await (say_hello(call) if call.json["model"] == "second" else call.answer({}, 503))

    upstreams.first.script = by_model
    table = {
        "server": {"retries": 0},
        "upstreams": {name: {"base_url": upstreams.first.url} for name in ("a", "b")},
        "models": {
            "first": {"upstream": "a", "fallbacks": ["second"]},
            "second": {"upstream": "b"},
        },
    }
    async with client_of(read_table(table, {})) as client:
        await client.post(PATH, json=ASK, headers={"authorization": "Bearer sk-client"})
    keys = [call.headers.get("authorization") for call in upstreams.first.calls]
    assert keys == ["Bearer sk-client", "Bearer sk-client"]


async def test_an_operators_key_that_is_refused_is_a_reason(upstreams: Upstreams) -> None:
    upstreams.first.script = status(401, error("invalid_api_key"))
    async with client_of(upstreams.settings(keys=("first",))) as client:
        answer = await client.post(PATH, json=ASK)
    assert text_of(answer) == "Hello world"
    assert answer.headers["x-translator-fallback"] == "credential_refused"


async def test_a_client_limited_to_a_model_gets_its_fallbacks(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503)
    key = new_key()
    clients = {"alice": {"keys": [str(store(key))], "models": ["first"]}}
    async with client_of(upstreams.settings(clients=clients)) as client:
        headers = {"authorization": f"Bearer {key}"}
        answer = await client.post(PATH, json=ASK, headers=headers)
        assert text_of(answer) == "Hello world"
        refused = await client.post(PATH, json=ASK | {"model": "second"}, headers=headers)
        assert refused.status_code == 404


@pytest.mark.parametrize(
    "named",
    [
        {"prompt_cache_key": "c1"},
        {"headers": {"session_id": "c1"}},
        {},
    ],
)
async def test_a_conversation_stays_where_it_was_answered_and_goes_back(
    upstreams: Upstreams, named: dict[str, Any]
) -> None:
    timer = Timer()
    headers = named.get("headers", {})
    more = {key: value for key, value in named.items() if key != "headers"}
    upstreams.first.script = status(503)
    settings = upstreams.settings(fallback_ttl_s=100, breaker_failures=100)
    async with client_of(settings, timer=timer) as client:

        async def turn(text: str) -> httpx.Response:
            history = [
                {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "Hello world"}]},
                {"role": "user", "content": text},
            ]
            body = ASK | more | {"input": history if text else "Hi"}
            return await client.post(PATH, json=body, headers=headers)

        await turn("")
        upstreams.first.script = say_hello
        again = await turn("And now?")
        assert again.headers["x-translator-model"] == "second"
        assert again.headers["x-translator-fallback"] == "conversation"
        assert upstreams.counts() == [1, 2, 0]
        other = await client.post(PATH, json=ASK | {"input": "Something else"})
        assert "x-translator-model" not in other.headers
        timer.now += 101
        back = await turn("And then?")
        assert "x-translator-model" not in back.headers
        assert upstreams.counts() == [3, 2, 0]


@pytest.mark.parametrize("why", ["conversation", "breaker_open"])
async def test_the_first_choice_after_another_one_is_no_fallback(
    upstreams: Upstreams, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """Where a conversation stays with another one, or its upstream was out of order."""
    upstreams.first.script = status(503)
    failures = 1 if why == "breaker_open" else 100
    async with client_of(upstreams.settings(breaker_failures=failures)) as client:
        key = {"prompt_cache_key": "c"}
        before = await client.post(PATH, json=ASK | key)
        assert before.headers["x-translator-model"] == "second"
        upstreams.first.script = say_hello
        upstreams.second.script = upstreams.third.script = status(500)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            after = await client.post(PATH, json=ASK | key)
        page = (await client.get("/metrics")).text
    assert text_of(after) == "Hello world"
    for name in ("x-translator-model", "x-translator-fallback", "x-translator-notices"):
        assert name not in after.headers
    line = next(one for one in caplog.messages if f"{PATH} 200" in one)
    assert "served_by" not in line
    assert "fallback" not in line
    assert 'reason="returned",route="first@first"} 1.0' in page


async def test_what_is_remembered_is_bounded(
    upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallbacks, "MAX_CONVERSATIONS", 2)
    upstreams.first.script = status(503)
    settings = upstreams.settings(breaker_failures=100)
    async with client_of(settings) as client:
        for number in range(3):
            await client.post(PATH, json=ASK | {"prompt_cache_key": f"c{number}"})
        upstreams.first.script = say_hello
        answers = [
            await client.post(PATH, json=ASK | {"prompt_cache_key": f"c{number}"})
            for number in range(3)
        ]
    moved = ["x-translator-model" in answer.headers for answer in answers]
    assert moved == [False, True, True]


async def test_an_upstream_that_keeps_failing_is_asked_last_for_a_while(
    upstreams: Upstreams,
) -> None:
    timer = Timer()
    upstreams.first.script = status(500)
    settings = upstreams.settings(breaker_failures=2, breaker_s=10)
    async with client_of(settings, timer=timer) as client:

        async def new_conversation(number: int) -> httpx.Response:
            return await client.post(PATH, json=ASK | {"prompt_cache_key": f"c{number}"})

        for number in range(2):
            await new_conversation(number)
        answer = await new_conversation(2)
        assert answer.headers["x-translator-fallback"] == "breaker_open"
        assert upstreams.counts() == [2, 3, 0]
        timer.now += 11
        upstreams.first.script = say_hello
        assert "x-translator-model" not in (await new_conversation(3)).headers
        assert upstreams.counts() == [3, 3, 0]


async def test_one_budget_of_time_over_all(upstreams: Upstreams) -> None:
    timer = Timer()

    async def late(call: Call) -> None:
        timer.now += 60
        await call.answer({"error": {"message": "No."}}, 500)

    upstreams.first.script = upstreams.second.script = late
    settings = upstreams.settings(fallback_budget_s=100)
    async with client_of(settings, timer=timer) as client:
        answer = await client.post(PATH, json=ASK)
    assert answer.status_code == 500
    assert upstreams.counts() == [1, 1, 0]


async def test_one_budget_of_retries_over_all(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503, **{"retry-after": "0"})
    upstreams.second.script = status(503, **{"retry-after": "0"})
    async with client_of(upstreams.settings(retries=1)) as client:
        answer = await client.post(PATH, json=ASK)
    assert text_of(answer) == "Hello world"
    assert upstreams.counts() == [2, 1, 1]


async def test_signed_reasoning_goes_back_only_to_its_maker(upstreams: Upstreams) -> None:
    """Its text goes to anyone: it is part of the conversation."""
    details = [{"type": "reasoning.encrypted", "data": "signed", "index": 0}]

    def thinks(text: str) -> Script:
        return in_stream(
            chunk({"role": "assistant", "reasoning": text, "reasoning_details": details}),
            *HELLO[1:],
        )

    facts = {"reasoning_field": "reasoning", "reasoning_details": True}
    models = {
        "first": {"fallbacks": ["second"], "facts": facts},
        "second": {"facts": facts},
    }
    upstreams.first.script = thinks("I see.")
    upstreams.second.script = thinks("I see, too.")
    request = ASK | {"include": ["reasoning.encrypted_content"], "prompt_cache_key": "c"}
    async with client_of(upstreams.settings(models)) as client:
        answer = await client.post(PATH, json=request)
        output = events(answer.content)[-1]["response"]["output"]
        thought = unseal(output[0]["encrypted_content"])
        assert thought is not None
        assert thought.origin == "first/first"
        history = [{"role": "user", "content": "Hi"}, *output, {"role": "user", "content": "Go on"}]
        await client.post(PATH, json=request | {"input": history})
        upstreams.first.script = status(503)
        moved = await client.post(PATH, json=request | {"input": history})
    own = upstreams.first.calls[1].json["messages"][1]
    assert own["reasoning_details"] == details
    foreign = upstreams.second.calls[0].json["messages"][1]
    assert "reasoning_details" not in foreign
    assert foreign["reasoning"] == "I see."
    assert "reasoning_dropped" in moved.headers["x-translator-notices"]


async def test_a_strict_model_is_passed_over_where_it_would_lose_something(
    upstreams: Upstreams,
) -> None:
    upstreams.first.script = status(503)
    models = {
        "first": {"fallbacks": ["second", "third"], "strict": True},
        "second": {"vision": False},
        "third": {},
    }
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    request = ASK | {"input": [{"role": "user", "content": [image]}]}
    async with client_of(upstreams.settings(models)) as client:
        answer = await client.post(PATH, json=request)
    assert text_of(answer) == "Hello world"
    assert upstreams.counts() == [1, 0, 1]
    assert answer.headers["x-translator-fallback"] == "refused"


async def test_a_turn_on_a_websocket(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503)
    async with serving(upstreams.settings()) as url:
        async with open_socket(url) as socket:
            found = await ask(socket, model="first", input="Hi")
    assert found[-1]["type"] == "response.completed"
    assert upstreams.counts() == [1, 1, 0]


async def test_the_metric(upstreams: Upstreams) -> None:
    upstreams.first.script = status(503)
    async with client_of(upstreams.settings()) as client:
        await client.post(PATH, json=ASK)
        page = (await client.get("/metrics")).text
    row = 'translator_fallbacks_total{model="first",reason="server_is_overloaded",route="second@second"} 1.0'
    assert row in page


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ({"a": {"fallbacks": ["b"]}}, 'models."a".fallbacks: "b": there is no such model'),
        ({"a": {"fallbacks": ["a"]}}, 'models."a".fallbacks: names the model itself'),
        ({"a": {"fallbacks": ["b", "b"]}, "b": {}}, 'models."a".fallbacks: names "b" twice'),
        ({"*": {"fallbacks": ["b"]}, "b": {}}, 'models."*".fallbacks: only models'),
        ({"*": {"upstream": ["up"]}}, 'models."*".upstream: takes one upstream'),
        ({"a": {"fallbacks": ["*"]}, "*": {}}, 'models."a".fallbacks: "*": there is no such'),
        ({"a": {"upstream": []}}, 'models."a".upstream: is an empty list'),
        ({"a": {"upstream": ["up", "up"]}}, 'models."a".upstream: names "up" twice'),
        ({"a": {"upstream": ["up", ""]}}, 'models."a".upstream: has an empty name'),
        ({"a": {"upstream": ["up", "x"]}}, 'models."a".upstream: there is no upstream "x"'),
        ({"a": {"fallback_after_s": 0}}, 'models."a".fallback_after_s: expected float > 0'),
    ],
)
def test_settings_that_are_wrong(models: dict[str, Any], problem: str) -> None:
    table = {
        "upstreams": {"up": {"base_url": "http://up.test/v1"}},
        "models": {name: {"upstream": "up", **row} for name, row in models.items()},
    }
    with pytest.raises(SettingsError) as caught:
        read_table(table, {})
    assert [one for one in caught.value.problems if one.startswith(problem)]


def test_all_mistakes_are_told_at_once() -> None:
    table = {
        "upstreams": {"up": {"base_url": "http://up.test/v1"}},
        "models": {"m": {"upstream": "b", "fallbacks": ["m", "zz"]}},
    }
    with pytest.raises(SettingsError) as caught:
        read_table(table, {})
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        'models."m".upstream',
        'models."m".fallbacks',
        'models."m".fallbacks',
    ]
