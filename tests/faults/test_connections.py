"""Connections that only wait, too many of them, no descriptors: nobody is locked out in silence."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded

from .processes import Serving, serve

pytestmark = pytest.mark.anyio

T = TypeVar("T")

BODY = json.dumps(ASK).encode()
POST = b"POST /v1/responses HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"


class Client:
    """A client over a raw socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a response with a length."""
        head = (await bounded(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        body = await bounded(self.reader.readexactly(int(headers["content-length"])))
        return int(first.split()[1]), headers, body

    async def rest(self) -> bytes:
        """All that comes until the service closes the connection."""
        try:
            return await bounded(self.reader.read())
        except ConnectionError:
            return b""


async def each(
    cases: Mapping[str, T], check: Callable[[T], Awaitable[None]], at_once: int = 8
) -> None:
    """Check all cases against one service; the failures, each with the name of its case."""
    several = asyncio.Semaphore(at_once)

    async def one(case: T) -> None:
        async with several:
            await check(case)

    results = await asyncio.gather(*map(one, cases.values()), return_exceptions=True)
    failed = {name: result for name, result in zip(cases, results, strict=True) if result}
    assert not failed, "\n".join(f"{name}: {error!r}" for name, error in failed.items())


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Client]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await bounded(asyncio.open_connection(host, int(port)))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def assert_overloaded(status: int, headers: dict[str, str], body: bytes) -> None:
    assert status == 503
    assert headers["connection"] == "close"
    assert headers["retry-after"] == "1"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "server_is_overloaded"


async def drip(client: Client, data: bytes, pause_s: float = 0.05) -> int:
    """Send byte by byte until the service closes the connection; how many there were."""
    closed = asyncio.ensure_future(client.reader.read())
    sent = 0
    try:
        async with asyncio.timeout(BOUND_S):
            while not closed.done():
                await client.send(data[sent : sent + 1])
                sent = min(sent + 1, len(data) - 1)
                await asyncio.wait((closed,), timeout=pause_s)
    except ConnectionError:
        pass
    await asyncio.wait((closed,))
    closed.exception()
    return sent


# --- each state has its limit in time ---------------------------------------------------------------

NO_REQUESTS = {
    "nothing": b"",
    "blank lines": b"\r\n\r\n",
    "half a line": b"POST /v1/resp",
    "half a head": b"POST /v1/responses HTTP/1.1\r\nhost: a\r\n",
    "half a header": b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-a: b",
    "after a response": HEALTH + b"GET /he",
}


async def test_a_header_that_does_not_come_is_not_waited_for(upstream: ScriptedUpstream) -> None:
    async def check(data: bytes) -> None:
        async with connected(url) as client:
            await client.send(data)
            if data.startswith(HEALTH):
                assert (await client.answer())[0] == 200
            rest = await client.rest()
        begun = bool(data.strip())
        assert rest.startswith(b"HTTP/1.1 408 ") == begun
        assert begun or rest == b""
        if begun:
            error = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
            assert error["message"] == "The request header did not arrive in time."

    async with upstream.service(client_timeout_s=0.4) as url:
        await each(NO_REQUESTS, check)


HEADER = b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-a: " + b"b" * 1000
DRIPPING: dict[str, tuple[bytes, int, bytes]] = {
    "the first header": (b"", 0, HEADER),
    "a header after a response": (HEALTH, 200, HEADER),
    "blank lines": (HEALTH, 200, b"\r\n" * 500),
    # the response has been sent, and the body that it refuses still drips
    "the rest of a body": (
        b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n",
        404,
        b"x" * 1000,
    ),
}


async def test_what_drips_has_one_limit_for_all_of_it(upstream: ScriptedUpstream) -> None:
    async def check(case: tuple[bytes, int, bytes]) -> None:
        first, status, drops = case
        async with connected(url) as client:
            if first:
                await client.send(first)
                assert (await client.answer())[0] == status
            assert 2 <= await drip(client, drops) < 500

    async with upstream.service(client_timeout_s=0.5) as url:
        await each(DRIPPING, check)


async def test_an_idle_connection_has_a_limit_of_its_own(upstream: ScriptedUpstream) -> None:
    settings = {"client_timeout_s": 300, "keep_alive_timeout_s": 0.3}
    async with upstream.service(**settings) as url, connected(url) as client:
        for _ in range(2):
            await client.send(HEALTH)
            assert (await client.answer())[0] == 200
        assert await client.rest() == b""


# --- what is no request that is served --------------------------------------------------------------

UPGRADE = b"host: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"  # fmt: skip
NOT_SERVED = {
    "connect": (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    "connect in 1.0": (b"CONNECT a:80 HTTP/1.0\r\n\r\n", 405),
    "a websocket by post": (b"POST /v1/responses HTTP/1.1\r\n" + UPGRADE + b"\r\n", 400),
    "with a body": (b"POST /v1/responses HTTP/1.1\r\n" + UPGRADE + b"content-length: 2\r\n\r\n{}", 400),
    "a websocket with a body": (b"GET /v1/responses HTTP/1.1\r\n" + UPGRADE + b"content-length: 2\r\n\r\n{}", 400),
    "a websocket in 1.0": (b"GET /v1/responses HTTP/1.0\r\n" + UPGRADE + b"\r\n", 400),
    "a websocket with a long path": (b"GET /v1/responses?" + b"x" * 9000 + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n", 414),
    "a websocket with a long header": (b"GET /v1/responses HTTP/1.1\r\nx-a: " + b"x" * 9000 + b"\r\n" + UPGRADE + b"\r\n", 431),
    "a websocket without its key": (b"GET /v1/responses HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "the version 2": (b"GET /healthz HTTP/2.0\r\nhost: a\r\n\r\n", 400),
    "the version 0.9": (b"GET /healthz\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
}  # fmt: skip


async def test_what_is_not_served_is_refused_and_closed(upstream: ScriptedUpstream) -> None:
    async def check(case: tuple[bytes, int]) -> None:
        data, status = case
        async with connected(url) as client:
            await client.send(data)
            answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 4") == 1

    async with upstream.service() as url:
        await each(NOT_SERVED, check)
    assert upstream.calls == []


@pytest.mark.parametrize(
    "data",
    [b"no HTTP\r\n\r\n", b"GET /v1/responses HTTP/1.1\r\n" + UPGRADE + b"\r\n"],
    ids=["no http", "a websocket"],
)
async def test_a_refused_request_does_not_cut_the_response_before_it(
    upstream: ScriptedUpstream, data: bytes
) -> None:
    """Its error comes in its turn: behind the end of the stream, not within."""
    held = Held(upstream)
    async with upstream.service() as url, streaming(url, held, 1) as [client]:
        await bounded(client.reader.readuntil(b"Hello"))
        await client.send(data)
        await asyncio.sleep(0.1)
        held.go_on.set()
        stream = await bounded(client.reader.readuntil(b"0\r\n\r\n"))
        assert b"data: [DONE]" in stream
        assert b"HTTP/1.1" not in stream
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


# --- as many as there may be ------------------------------------------------------------------------


class Held:
    """An upstream whose answers are held back."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        upstream.script = self._script

    async def _script(self, call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        self.begun.release()
        await self.go_on.wait()
        await call.send(*HELLO[2:])
        await call.end()


@asynccontextmanager
async def streaming(url: str, held: Held, count: int) -> AsyncGenerator[list[Client]]:
    """So many clients with a response in progress."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(url)) for _ in range(count)]
        for client in clients:
            await client.send(POST)
            await bounded(held.begun.acquire())
        yield clients


async def metric(url: str, name: str) -> float:
    async with connected(url) as client:
        await client.send(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        _, _, body = await client.answer()
    found = re.search(rf"^{re.escape(name)} (\S+)$", body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_idle_connections_give_way_the_oldest_first(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with upstream.service(max_connections=3) as url, AsyncExitStack() as stack:
        silent = await stack.enter_async_context(connected(url))
        await asyncio.sleep(0.2)
        idle = await stack.enter_async_context(connected(url))
        await idle.send(HEALTH)
        await idle.answer()
        half = await stack.enter_async_context(connected(url))
        await half.send(b"GET /healthz HTTP/1.1\r\n")
        await asyncio.sleep(0.2)
        for gone, left in ((silent, b"HTTP/1.1 503 "), (idle, b""), (half, b"HTTP/1.1 503 ")):
            new = await stack.enter_async_context(connected(url))
            await new.send(HEALTH)
            assert (await new.answer())[0] == 200
            rest = await gone.rest()
            assert rest.startswith(left)
            assert bool(rest) == bool(left)
        assert await metric(url, 'translator_connections_cut_total{reason="made_room"}') >= 3
    lines = [one.getMessage() for one in caplog.records if "max_connections" in one.getMessage()]
    assert len(lines) == 1


async def test_when_all_are_in_use_a_new_one_is_told(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held(upstream)
    async with upstream.service(max_connections=3) as url:
        async with streaming(url, held, 3) as clients:
            for _ in range(3):
                async with connected(url) as new:
                    await new.send(POST)
                    assert_overloaded(*await new.answer())
                    assert await new.rest() == b""
            async with connected(url) as new:  # who says nothing is told, too
                assert_overloaded(*await new.answer())
            async with connected(url) as new:  # for a probe, the service is well
                await new.send(HEALTH)
                status, headers, _ = await new.answer()
                assert (status, headers["connection"]) == (200, "close")
            assert await metric(url, 'translator_connections_cut_total{reason="overload"}') == 4
            held.go_on.set()
            for client in clients:
                await bounded(client.reader.readuntil(b"[DONE]"))
        async with connected(url) as new:
            await new.send(POST)
            await bounded(new.reader.readuntil(b"[DONE]"))
    lines = [one.getMessage() for one in caplog.records if "max_connections" in one.getMessage()]
    assert len(lines) == 1


async def test_many_who_are_refused_at_once_are_few_at_a_time(upstream: ScriptedUpstream) -> None:
    held = Held(upstream)
    async with upstream.service(max_connections=1) as url, streaming(url, held, 1):
        async with AsyncExitStack() as stack:
            new = [await stack.enter_async_context(connected(url)) for _ in range(120)]
            assert await metric(url, "translator_connections_open") <= 1 + 16 + 32 + 2
            for one in new:
                assert_overloaded(*await one.answer())
        held.go_on.set()


async def test_websockets_count_and_do_not_give_way(upstream: ScriptedUpstream) -> None:
    from websockets.asyncio.client import connect

    async with upstream.service(max_connections=2) as url:
        address = url.replace("http", "ws", 1) + "/v1/responses"
        async with connect(address, proxy=None) as one, connect(address, proxy=None):
            assert await metric(url, "translator_connections_open") == 3
            async with connected(url) as new:
                await new.send(POST)
                assert_overloaded(*await new.answer())
            await one.send(json.dumps({"type": "response.create", "model": "m", "input": "Hi"}))
            assert json.loads(await bounded(one.recv()))["type"] == "response.created"
        async with connected(url) as new:
            await new.send(POST)
            await bounded(new.reader.readuntil(b"[DONE]"))


# --- processes with few descriptors -------------------------------------------------------------------

FILES = 128


def leave_no_descriptor(pid: int, *, but: int | None = None) -> None:
    """Limit the open files of a process to those that it has, or to a number."""
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used if but is None else but, hard))


@pytest.fixture
async def few_files(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncGenerator[Serving]:
    """A service that was started with a limit of 128 open files."""
    program = [sys.executable, "-m", "translator", "serve", "--config"]
    file = tmp_path / "settings.toml"
    file.write_text(
        f'[server]\nport = 0\nretries = 2\n[upstreams.up]\nbase_url = "{upstream.url}"\n'
    )
    line = f"ulimit -n {FILES}; exec " + " ".join([*program, str(file)])
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        yield Serving(process, (await asyncio.wait_for(process.stdout.readline(), 60)).decode())
    finally:
        process.kill()
        await process.wait()


async def test_silent_connections_lock_nobody_out(few_files: Serving) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3 * FILES):
            await stack.enter_async_context(connected(few_files.url))
        async with httpx.AsyncClient(base_url=few_files.url, timeout=BOUND_S) as client:
            for _ in range(3):
                answer = await client.post("/v1/responses", json=ASK)
                assert answer.status_code == 200
                assert b"[DONE]" in answer.content
    assert few_files.log.count("open files") <= 1
    assert "Traceback" not in few_files.log


async def test_more_requests_than_descriptors_get_a_503_and_it_recovers(
    few_files: Serving, upstream: ScriptedUpstream
) -> None:
    held = Held(upstream)
    async with httpx.AsyncClient(
        base_url=few_files.url, timeout=BOUND_S, limits=httpx.Limits(max_connections=None)
    ) as client:

        async def ask(number: int) -> httpx.Response | None:
            await asyncio.sleep(number * 0.005)
            try:
                return await client.post("/v1/responses", json=ASK)
            except httpx.NetworkError:
                return None  # of many at once, one that is slow may be cut while it sends

        asking = [asyncio.ensure_future(ask(number)) for number in range(FILES)]
        async with asyncio.timeout(BOUND_S):
            while sum(one.done() for one in asking) + len(upstream.calls) < FILES:
                await asyncio.sleep(0.02)
        held.go_on.set()
        answers = [one for one in await bounded(asyncio.gather(*asking)) if one is not None]
        assert len(answers) > FILES * 3 / 4
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 503}
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "server_is_overloaded"
        assert (await client.post("/v1/responses", json=ASK)).status_code == 200
    assert " 502 " not in few_files.log
    assert "upstream up:" not in few_files.log
    assert "Traceback" not in few_files.log


async def test_without_descriptors_for_upstreams_no_upstream_is_at_fault(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """The limit is reached from outside: even connections within `max_connections` have none."""
    async with serve(tmp_path, upstream.url, breaker_failures=1) as served:
        pid = served.process.pid
        async with connected(served.url) as first, connected(served.url) as other:
            for client in (first, other):
                await client.send(HEALTH)
                await client.answer()
            leave_no_descriptor(pid)
            for _ in range(3):
                await first.send(POST)
                status, headers, body = await first.answer()
                assert status == 503
                assert json.loads(body)["error"]["code"] == "server_is_overloaded"
                assert headers["retry-after"] == "1"
            await other.send(b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await other.answer())[0] == 503
            # a new client takes the place of an idle one
            async with connected(served.url) as new:
                await new.send(HEALTH)
                assert (await new.answer())[0] == 200
            leave_no_descriptor(pid, but=1024)
            async with connected(served.url) as new:
                await new.send(POST)
                await bounded(new.reader.readuntil(b"[DONE]"))
            assert await metric(served.url, 'translator_upstream_retries_total{kind="unreachable",upstream="up"}') == 0  # fmt: skip
            assert await metric(served.url, 'translator_upstream_errors_total{kind="unreachable",upstream="up"}') == 0  # fmt: skip
            assert await metric(served.url, 'translator_upstream_calls_total{status="none",upstream="up"}') == 0  # fmt: skip
        await served.wait_for_log("no file descriptor is left")
    assert served.log.count("no file descriptor is left") == 1
    assert "upstream up:" not in served.log


async def test_without_any_descriptor_a_client_is_told(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    held = Held(upstream)
    async with serve(tmp_path, upstream.url) as served:
        pid = served.process.pid
        async with streaming(served.url, held, 1) as [streamed]:
            leave_no_descriptor(pid)
            for _ in range(5):
                host, _, port = served.url.removeprefix("http://").partition(":")
                with socket.create_connection((host, int(port))) as new:
                    new.setblocking(False)
                    answer = await bounded(asyncio.get_running_loop().sock_recv(new, 1000))
                assert answer.startswith(b"HTTP/1.1 503 ")
            held.go_on.set()
            await bounded(streamed.reader.readuntil(b"[DONE]"))
            # its idle connection makes room
            async with connected(served.url) as new:
                await new.send(HEALTH)
                assert (await new.answer())[0] == 200
        await served.wait_for_log("no file descriptor is left")
    assert served.log.count("no file descriptor is left") == 1
    assert "Traceback" not in served.log
