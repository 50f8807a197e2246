"""An upstream that lives and does not answer: silence has a bound, and so have signs of life."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from translator import Options, Translation, UpstreamTimeout
from translator.service.http import responders
from translator.service.turns import progress as progress_timeout
from translator.service.turns.progress import MAX_IDLE_BYTES, ProgressTimeout

from .chat_bodies import HELLO, chunk, frame
from .responses_api import ASK, PATH, events
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, make_settings, serving

SIGNS_OF_LIFE = {
    "comments": b": keep-alive\n\n",
    "blank lines": b"\r\n",
    "empty data": b"data: \n\n",
    "empty texts": chunk({"role": "assistant", "content": ""}),
    "empty deltas": chunk({}),
    "usage": frame({"choices": [{"index": 0, "delta": {}}], "usage": {"prompt_tokens": 3}}),
}


@asynccontextmanager
async def alive(call: Call, sign: bytes) -> AsyncGenerator[None]:
    """Signs of life until the service hangs up."""

    async def live() -> None:
        while True:
            await call.send(sign)
            await asyncio.sleep(0.01)

    living = asyncio.create_task(live())
    try:
        yield
        await bounded(call.gone())
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


@pytest.mark.anyio
async def test_silence_in_mid_reasoning(upstream: ScriptedUpstream) -> None:
    """Thoughts, then nothing more, with the connection open: a failure, and it is closed."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"reasoning_content": "Let me"}))
        await bounded(call.gone())
        gone.set()

    upstream.script = script
    async with upstream.client(read_timeout_s=0.5) as client:
        answer = await bounded(client.post(PATH, json=ASK))
        await bounded(gone.wait())
    found = events(answer.content)
    assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
    failed = found[-1]["response"]
    assert failed["error"]["code"] == "server_error"
    assert "silent" in failed["error"]["message"]
    assert failed["output"] == []  # the thought that was cut is not called done


@pytest.mark.anyio
@pytest.mark.parametrize("sign", SIGNS_OF_LIFE.values(), ids=SIGNS_OF_LIFE)
@pytest.mark.parametrize("stream", [True, False])
async def test_signs_of_life_alone_are_a_504(
    upstream: ScriptedUpstream, sign: bytes, stream: bool
) -> None:
    """Each starts the clock of silence anew, and none the clock of progress."""

    async def script(call: Call) -> None:
        await call.head()
        async with alive(call, sign):
            pass

    upstream.script = script
    settings = make_settings(
        upstream.url, read_timeout_s=5, headers_grace_s=1000, progress_timeout_s=0.1
    )
    async with client_of(settings) as client:
        answer = await bounded(client.post(PATH, json=ASK | {"stream": stream}))
    assert answer.status_code == 504
    assert answer.json()["error"] == {
        "message": "The upstream sent keep-alives, but its answer did not progress.",
        "type": "server_error",
        "param": None,
        "code": "upstream_timeout",
    }


PASSED_ON = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.mark.anyio
@pytest.mark.parametrize("sign", [b": keep-alive\n\n", b": a\n: b\n\n", b"\r\n", b"   "])
@pytest.mark.parametrize("begun", [b"", HELLO[1]], ids=["before", "in mid-answer"])
async def test_signs_of_life_alone_cut_what_is_passed_on(
    upstream: ScriptedUpstream, sign: bytes, begun: bytes
) -> None:
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        if begun:
            await call.send(begun)
        async with alive(call, sign):
            pass
        gone.set()

    upstream.script = script
    settings = make_settings(upstream.url, read_timeout_s=5, progress_timeout_s=0.1)
    async with serving(settings) as url, httpx.AsyncClient(timeout=BOUND_S) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await bounded(client.post(f"{url}/v1/chat/completions", json=PASSED_ON))
        await bounded(gone.wait())


@pytest.mark.anyio
async def test_what_is_passed_on_may_take_its_time_while_it_grows(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        for piece in [*HELLO[:2], *[HELLO[1]] * 8, *HELLO[2:]]:
            await call.send(b": keep-alive\n\n", piece)
            await asyncio.sleep(0.1)
        await call.end()

    upstream.script = script
    settings = make_settings(upstream.url, progress_timeout_s=0.5)
    async with serving(settings) as url, httpx.AsyncClient(timeout=BOUND_S) as client:
        answer = await bounded(client.post(f"{url}/v1/chat/completions", json=PASSED_ON))
    assert answer.content.endswith(HELLO[-1])


@pytest.mark.anyio
@pytest.mark.parametrize("sign", SIGNS_OF_LIFE.values(), ids=SIGNS_OF_LIFE)
@pytest.mark.parametrize(
    "begun", [chunk({"reasoning_content": "Let me"}), HELLO[1]], ids=["reasoning", "text"]
)
async def test_signs_of_life_in_mid_answer_end_it_in_a_failure(
    upstream: ScriptedUpstream, sign: bytes, begun: bytes
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(begun)
        async with alive(call, sign):
            pass

    upstream.script = script
    async with upstream.client(read_timeout_s=5, progress_timeout_s=0.1) as client:
        answer = await bounded(client.post(PATH, json=ASK))
    found = events(answer.content)
    assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
    assert "did not progress" in found[-1]["response"]["error"]["message"]


def progress_of(**options: Any) -> tuple[Translation, ProgressTimeout]:
    """The clock of an answer that begins at 0 seconds; its bound is 10 seconds."""
    count = itertools.count()
    translation = Translation(
        b'{"model":"m","input":"Hi","stream":true}',
        response_id="resp_1",
        created_at=0,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        options=Options(**options),
    )
    return translation, ProgressTimeout(translation, 10, 0)


def stalls(progress: ProgressTimeout, now: float) -> bool:
    try:
        progress.check(now)
    except UpstreamTimeout:
        return True
    return False


PIECES = {
    "reasoning": chunk({"reasoning_content": "Hm."}),
    "text": HELLO[1],
    "refusal": chunk({"refusal": "No."}),
    "call": chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": "{"}}]}),
    "a piece of one body": b'{"choices":',
}


@pytest.mark.parametrize("family", ["summary", "none"])
@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_an_answer_that_goes_on_may_last(piece: bytes, family: str) -> None:
    """Each piece starts the clock anew, though there may be no event that shows it."""
    translation, progress = progress_of(reasoning_events=family)
    last = 0.0
    for number in range(1, 20):
        last = number * 9.0
        translation.receive(piece)
        assert not stalls(progress, last)
    assert stalls(progress, last + 10.5)


@pytest.mark.parametrize("sign", SIGNS_OF_LIFE.values(), ids=SIGNS_OF_LIFE)
@pytest.mark.parametrize("before", [b"", *PIECES.values()], ids=["nothing", *PIECES])
def test_no_sign_of_life_starts_the_clock_anew(before: bytes, sign: bytes) -> None:
    translation, progress = progress_of()
    translation.receive(before)
    assert not stalls(progress, 0)
    found: list[bool] = []
    if before == PIECES["a piece of one body"]:
        sign = b" \n"  # within JSON only blanks are none
    for second in (9, 10, 11):
        translation.receive(sign)
        found.append(stalls(progress, second))
    assert found == [False, False, True]


def test_idle_bytes_are_bounded() -> None:
    """However fast they come; a part of the answer starts the count anew."""
    translation, progress = progress_of()
    translation.receive(PIECES["text"])
    progress.check(0, 1)
    for _ in range(2):
        progress.check(0, MAX_IDLE_BYTES)
        translation.receive(PIECES["text"])
        progress.check(0, MAX_IDLE_BYTES)
    progress.check(0, MAX_IDLE_BYTES)
    with pytest.raises(UpstreamTimeout, match="did not progress"):
        progress.check(0, 1)


@pytest.mark.anyio
async def test_comments_without_end_are_no_answer(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an answer and within it: the client learns it long before the time is up."""
    monkeypatch.setattr(progress_timeout, "MAX_IDLE_BYTES", 100_000)

    async def script(call: Call) -> None:
        await call.head()
        if b"begin" in call.body:
            await call.send(*HELLO[:2])
        while True:
            await call.send(b":\n" * 1000)

    upstream.script = script
    async with upstream.client() as client:
        answer = await bounded(client.post(PATH, json=ASK))
        assert answer.status_code == 504
        answer = await bounded(client.post(PATH, json=ASK | {"input": "begin"}))
        assert events(answer.content)[-1]["type"] == "response.failed"
        answer = await bounded(client.post(PATH, json=ASK | {"stream": False}))
        assert answer.status_code == 504
    async with upstream.socket_client() as client:
        answer = await bounded(client.post(PATH, json=ASK | {"input": "begin"}))
        assert events(answer.content)[-1]["type"] == "response.failed"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b": a\n\n", True), (b":\r\n: b", True), (b"\r\n", True), (b" \t\n:x", True),
        (b": a\n\ndata: 1", False), (b":a\rdata", False), (b" x", False), (b"\n :", False),
    ],
)  # fmt: skip
def test_keep_alives_of_a_body_that_is_passed_through(data: bytes, expected: bool) -> None:
    assert responders._is_keep_alive(data) is expected


@pytest.mark.anyio
async def test_a_chunk_that_is_cut_off_is_a_failure(upstream: ScriptedUpstream) -> None:
    """The body ends inside a chunk of HTTP, as when a proxy in between is restarted."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    upstream.script = script
    async with upstream.client() as client:
        answer = await bounded(client.post(PATH, json=ASK))
    found = events(answer.content)
    assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
    error = found[-1]["response"]["error"]
    assert error["code"] == "server_error"
    assert error["message"] == "The upstream closed the connection in mid-answer."


@pytest.mark.anyio
async def test_a_stall_leaves_the_next_request_alone(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        if call.json["model"] == "quick":
            await call.send(*HELLO)
            await call.end()
        else:
            async with alive(call, SIGNS_OF_LIFE["comments"]):
                pass

    upstream.script = script
    async with (
        upstream.service(headers_grace_s=1000, progress_timeout_s=0.1) as url,
        httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
    ):
        for model, status in (("slow", 504), ("quick", 200), ("slow", 504), ("quick", 200)):
            answer = await bounded(client.post(PATH, json=ASK | {"model": model}))
            assert answer.status_code == status


@pytest.mark.anyio
async def test_the_grace_time_ends_among_signs_of_life(upstream: ScriptedUpstream) -> None:
    """However many there are, the client gets its status line."""

    async def script(call: Call) -> None:
        await call.head()
        async with alive(call, SIGNS_OF_LIFE["comments"]):
            pass

    upstream.script = script
    async with (
        upstream.socket_client(headers_grace_s=0.05) as client,
        client.stream("POST", PATH, json=ASK) as answer,
    ):
        first = await bounded(anext(answer.aiter_raw()))
    assert answer.status_code == 200
    assert first.startswith(b"event: response.created\n")
