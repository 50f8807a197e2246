"""A client that leaves: the upstream's request ends at once, wherever the work stands."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from .chat_bodies import HELLO
from .log import Log
from .responses_api import ASK
from .wire import Call, Endless, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

PATHS = ["/v1/responses", "/v1/chat/completions"]


async def ask(
    url: str, path: str, *, stream: bool = True
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose answer is read, or not, by hand."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"model": "m", "input": "Hi", "stream": stream}).encode()
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), len(body), body)
    )
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
async def test_before_the_upstream_has_answered(
    upstream: ScriptedUpstream, path: str, stream: bool
) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await call.gone()
        gone.set()

    upstream.script = script
    async with upstream.service() as url:
        _, writer = await ask(url, path, stream=stream)
        await bounded(arrived.wait())
        writer.close()
        await bounded(gone.wait())


@pytest.mark.parametrize("path", PATHS)
async def test_while_the_upstream_thinks(upstream: ScriptedUpstream, path: str) -> None:
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.gone()
        gone.set()

    upstream.script = script
    async with upstream.service() as url:
        reader, writer = await ask(url, path)
        await bounded(reader.readuntil(b"Hello"))
        writer.close()
        await bounded(gone.wait())


async def test_behind_a_body_that_nobody_reads(upstream: ScriptedUpstream) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await call.gone()
        gone.set()

    upstream.script = script
    async with upstream.service() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        size = 1_000_000
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        writer.write(b"x" * size)
        await bounded(writer.drain())
        await bounded(arrived.wait())
        writer.close()
        await bounded(gone.wait())


async def test_in_the_grace_time(upstream: ScriptedUpstream) -> None:
    """Our status line has not been sent: the first piece of the upstream's body is waited for."""
    answered, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        answered.set()
        await call.gone()
        gone.set()

    upstream.script = script
    async with upstream.service(headers_grace_s=1000) as url:
        _, writer = await ask(url, "/v1/responses")
        await bounded(answered.wait())
        writer.close()
        await bounded(gone.wait())


@pytest.mark.parametrize("path", PATHS)
async def test_while_a_write_is_blocked(upstream: ScriptedUpstream, path: str) -> None:
    """The client has stopped reading: the buffers are full, the upstream waits, then it goes."""
    upstream.script = endless = Endless()
    async with upstream.service() as url:
        _, writer = await ask(url, path)
        before = -1
        while before != endless.sent or endless.sent == 0:  # until nothing moves any more
            before = endless.sent
            await asyncio.sleep(0.2)
        writer.transport.abort()
        await bounded(endless.gone.wait())


async def test_a_client_that_does_not_take_its_answer_is_given_up(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    upstream.script = endless = Endless()
    async with upstream.service(client_timeout_s=0.2) as url:
        _, writer = await ask(url, "/v1/responses")
        await bounded(endless.gone.wait())
        writer.transport.abort()
    assert "it does not read its response" in caplog.text


async def test_a_departure_is_logged_as_one(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await call.gone()
        gone.set()

    upstream.script = script
    async with upstream.service() as url:
        _, writer = await ask(url, "/v1/responses")
        await bounded(arrived.wait())
        writer.close()
        await bounded(gone.wait())
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("tran")]
    assert line.startswith("POST /v1/responses - ")
    assert "outcome='client left'" in line


async def test_a_departure_in_the_middle_of_a_request_is_not_a_fault(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with upstream.service() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        await writer.drain()
        writer.close()
        while "client left" not in caplog.text:
            await asyncio.sleep(0.01)
        assert await reader.read() == b""
    assert upstream.calls == []
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_that_the_end_of_the_service_cuts_is_no_completed_one(
    upstream: ScriptedUpstream, log: Log, path: str
) -> None:
    """As by a third Ctrl-C: asyncio cancels what is left."""
    began = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        began.set()
        await bounded(call.gone())

    upstream.script = script
    async with upstream.client() as client:
        asking = asyncio.create_task(client.post(path, json=ASK))
        await bounded(began.wait())
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bounded(asking)
        page = (await client.get("/metrics")).text
    assert log.request["outcome"] == "failed: the service ended"
    [line] = [
        one
        for one in page.splitlines()
        if one.startswith("translator_requests_total") and not one.endswith(" 0.0")
    ]
    assert 'outcome="failed"' in line
