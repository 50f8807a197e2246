"""A client is not kept in the dark: the stream begins in time, and silence is filled with events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .responses_api import ASK, PATH, events
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, make_settings, say_hello

pytestmark = pytest.mark.anyio


class Listener:
    """A client that lets the upstream go on when it has heard enough."""

    def __init__(self, upstream: ScriptedUpstream, **settings: Any) -> None:
        self.upstream = upstream
        self.settings = settings
        self.go = asyncio.Event()

    async def hear(self, enough: int) -> list[dict[str, Any]]:
        """All events; `go` is set as soon as in_progress has come so often."""
        body = b""
        async with (
            self.upstream.socket_client(**self.settings) as client,
            client.stream("POST", PATH, json=ASK) as answer,
        ):
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                body += piece
                if body.count(b"event: response.in_progress\n") >= enough:
                    self.go.set()
        return events(body)


def types(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


async def test_a_stream_begins_before_the_upstream_has_said_a_word(
    upstream: ScriptedUpstream,
) -> None:
    """No status line yet, and the client has one; then the usual events."""
    listener = Listener(upstream, headers_grace_s=0.05, heartbeat_s=1000)

    async def script(call: Call) -> None:
        await bounded(listener.go.wait())
        await say_hello(call)

    upstream.script = script
    found = await listener.hear(enough=1)
    assert types(found)[:3] == [
        "response.created", "response.in_progress", "response.output_item.added",
    ]  # fmt: skip
    assert types(found)[-1] == "response.completed"


async def silent_before_the_status_line(call: Call, go: asyncio.Event) -> None:
    await bounded(go.wait())
    await call.head()
    await call.send(*HELLO)
    await call.end()


async def silent_before_the_body(call: Call, go: asyncio.Event) -> None:
    await call.head()
    await bounded(go.wait())
    await call.send(*HELLO)
    await call.end()


async def silent_in_mid_answer(call: Call, go: asyncio.Event) -> None:
    await call.head()
    await call.send(*HELLO[:2])
    await bounded(go.wait())
    await call.send(*HELLO[2:])
    await call.end()


async def alive_but_silent(call: Call, go: asyncio.Event) -> None:
    """Comments, which no client counts, and chunks that say nothing."""
    await call.head()
    await call.send(HELLO[1])
    while not go.is_set():
        await call.send(b": keep-alive\n\n", chunk({}))
        await asyncio.sleep(0.005)
    await call.send(*HELLO[2:])
    await call.end()


@pytest.mark.parametrize(
    "silent",
    [silent_before_the_status_line, silent_before_the_body, silent_in_mid_answer, alive_but_silent],
)
async def test_silence_is_filled_with_events(upstream: ScriptedUpstream, silent: Any) -> None:
    """`response.in_progress` is repeated, and counted; the answer is the same as ever."""
    listener = Listener(upstream, headers_grace_s=0.02, heartbeat_s=0.02)
    upstream.script = lambda call: silent(call, listener.go)
    found = await listener.hear(enough=4)
    assert types(found).count("response.in_progress") >= 4
    told = [event for event in found if event["type"] != "response.in_progress"]
    assert types(told) == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    beats = [event for event in found if event["type"] == "response.in_progress"]
    assert {beat["response"]["status"] for beat in beats} == {"in_progress"}
    assert all(beat["response"]["output"] == [] for beat in beats)


async def test_an_answer_that_flows_has_no_heartbeat(upstream: ScriptedUpstream) -> None:
    """However long it lasts: each event starts the clock anew."""

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(30):
            await call.send(HELLO[1])
            await asyncio.sleep(0.02)
        await call.send(*HELLO[3:])
        await call.end()

    upstream.script = script
    found = await Listener(upstream, heartbeat_s=BOUND_S).hear(enough=1)
    assert types(found).count("response.in_progress") == 1
    assert types(found)[-1] == "response.completed"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (429, {"message": "Too many requests"}, "rate_limit_exceeded"),
        (400, {"message": "maximum context length is 5"}, "context_length_exceeded"),
        (402, {"message": "no credit"}, "insufficient_quota"),
        (500, {"message": "boom"}, "server_error"),
        (401, {"message": "bad key"}, "server_error"),
    ],
)
async def test_a_late_error_is_a_failure_with_its_code(
    upstream: ScriptedUpstream, status: int, error: dict[str, Any], code: str
) -> None:
    """The 200 has been sent: what would have been the HTTP error is the end of the stream."""
    listener = Listener(upstream, headers_grace_s=0.02, heartbeat_s=0.02)

    async def script(call: Call) -> None:
        await bounded(listener.go.wait())
        await call.answer({"error": error}, status)

    upstream.script = script
    found = await listener.hear(enough=3)
    assert types(found)[-2:] == ["error", "response.failed"]
    assert set(types(found)[:-2]) == {"response.created", "response.in_progress"}
    assert found[-1]["response"]["error"]["code"] == code
    assert error["message"] in found[-1]["response"]["error"]["message"]
    assert found[-2]["code"] == code


async def test_an_early_error_is_still_an_http_error(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await asyncio.sleep(0.1)
        await call.answer({"error": {"message": "Too many requests"}}, 429)

    upstream.script = script
    async with upstream.client(heartbeat_s=0.01) as client:
        answer = await client.post(PATH, json=ASK)
    assert answer.status_code == 429


async def test_an_upstream_that_never_answers_ends_in_a_failure(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await bounded(call.gone())

    upstream.script = script
    settings = make_settings(
        upstream.url, headers_grace_s=0.02, heartbeat_s=0.02, read_timeout_s=0.3
    )
    async with client_of(settings) as client:
        found = events((await bounded(client.post(PATH, json=ASK))).content)
    assert types(found)[-2:] == ["error", "response.failed"]
    assert "silent" in found[-1]["response"]["error"]["message"]


async def test_a_whole_answer_has_nothing_to_fill(upstream: ScriptedUpstream) -> None:
    """JSON begins when it is whole, and an error keeps its status however late it is."""
    late = asyncio.Event()

    async def script(call: Call) -> None:
        await asyncio.sleep(0.2)
        if late.is_set():
            await call.answer({"error": {"message": "Too many requests"}}, 429)
        else:
            await call.answer(COMPLETION)

    upstream.script = script
    async with upstream.client(headers_grace_s=0.01, heartbeat_s=0.01) as client:
        answer = await client.post(PATH, json=ASK | {"stream": False})
        assert answer.json()["status"] == "completed"
        late.set()
        assert (await client.post(PATH, json=ASK | {"stream": False})).status_code == 429


# --- a refused key inside a 200 -------------------------------------------------------------------

LOGIN_FAILED = frame({"base_resp": {"status_code": 1004, "status_msg": "login fail: sk-op…"}})
SENTENCE = "The upstream refused the gateway's credential; its operator must correct it."


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_key_inside_a_200_is_judged_by_whose_it_was(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    """A client is told that its key is wrong only when it was its key."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(LOGIN_FAILED)
        await call.end()

    upstream.script = script
    async with upstream.client(key="operator-key") as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
        assert (answer.status_code, answer.json()["error"]["message"]) == (502, SENTENCE)
        assert answer.headers["x-should-retry"] == "false"
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "login fail" in answer.json()["error"]["message"]


@pytest.mark.parametrize("begun", [True, False])
async def test_so_it_is_in_a_stream_that_has_begun(upstream: ScriptedUpstream, begun: bool) -> None:
    """In mid-answer, and after nothing but a sign of life."""
    listener = Listener(upstream, headers_grace_s=0.02, heartbeat_s=0.02, key="operator-key")

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*(HELLO[:2] if begun else [b": wait\n\n"]))
        await bounded(listener.go.wait())
        await call.send(LOGIN_FAILED)
        await call.end()

    upstream.script = script
    found = await listener.hear(enough=2)
    assert types(found)[-2:] == ["error", "response.failed"]
    failed = found[-1]["response"]["error"]
    assert (failed["code"], failed["message"]) == ("server_error", SENTENCE)
    assert found[-2]["error"]["type"] == "server_error"
    assert found[-2]["message"] == SENTENCE
