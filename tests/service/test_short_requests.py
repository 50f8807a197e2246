"""The work of a short request, counted in calls of functions; and its shortcuts change no byte."""

from __future__ import annotations

import ast
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import translator.service
from translator import Translation
from translator.common.pauses import Pause, no_pause
from translator.service.base.drain import Drain
from translator.service.base.errors import Stopping
from translator.service.base.uploads import Uploads
from translator.service.observe.observer import (
    ObservedEvent,
    UpstreamAnswered,
    UpstreamCalled,
)

from .responses_api import ASK, ASK_WHOLE
from .wire import ScriptedUpstream, bounded, make_settings, serving

pytestmark = pytest.mark.anyio

BODY = json.dumps(ASK).encode()
WHOLE = json.dumps(ASK_WHOLE).encode()


def request(body: bytes = BODY, *lines: str, path: str = "/v1/responses") -> bytes:
    head = [f"POST {path} HTTP/1.1", "host: a", f"content-length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


class Client:
    """A connection to the service, over which requests go one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def answer(self, *parts: bytes) -> bytes:
        """The answer to a request that is sent in parts, each of them a read of its own."""
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.02)
            self._writer.write(part)
        head = await bounded(self._reader.readuntil(b"\r\n\r\n"))
        if head.startswith(b"HTTP/1.1 100"):
            return head + await self.answer()
        if b"transfer-encoding: chunked" in head:
            return head + await bounded(self._reader.readuntil(b"\r\n0\r\n\r\n"))
        [length] = [line[16:] for line in head.split(b"\r\n") if line[:15] == b"content-length:"]
        return head + await bounded(self._reader.readexactly(int(length)))

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def connected(url: str) -> Client:
    host, _, port = url.removeprefix("http://").partition(":")
    return Client(*await asyncio.open_connection(host, int(port)))


async def calls_of(client: Client, *parts: bytes) -> Counter[tuple[str, str]]:
    """The calls of Python functions while a request is answered: by file and name."""
    calls: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            code = frame.f_code
            calls[code.co_filename, code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        await client.answer(*parts)
    finally:
        sys.setprofile(before)
    return calls


def of(calls: Counter[tuple[str, str]], file: str, *names: str) -> int:
    """How often functions of a file were called; all of them where none is named."""
    return sum(
        count
        for (path, name), count in calls.items()
        if path.endswith(file) and (not names or name in names)
    )


async def warm(url: str, *parts: bytes) -> Client:
    """A connection that has answered the same request before."""
    client = await connected(url)
    for _ in range(2):
        await client.answer(*parts)
    return client


async def test_a_header_line_costs_one_call(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as url:
        few, many = (
            request(BODY, *(f"x-{number}: a" for number in range(count))) for count in (0, 100)
        )
        client = await warm(url, few)
        found = [await calls_of(client, one) for one in (few, many)]
        await client.close()
    for one in found:
        assert of(one, "server/parser.py", "Parser.__getattr__") == 0
    assert (found[1] - found[0]).total() < 1.5 * 100


async def test_a_body_that_comes_with_its_head_sets_no_timer(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as url:
        client = await warm(url, request())
        at_once = await calls_of(client, request())
        later = await calls_of(client, request()[: -len(BODY)], BODY)
        await client.close()
    assert of(at_once, "http/exchange.py", "_Upload.next") == 0
    assert of(later, "http/exchange.py", "_Upload.next") > 0
    timers = [
        of(one, "reusable_timeout.py", "ReusableTimeout._set_timer") for one in (at_once, later)
    ]
    assert timers[0] < timers[1]


def without_what_is_new(answer: bytes) -> bytes:
    """An answer without its date, the ids and times of its own."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"date", b"x-request"))]
    body: dict[str, Any] = json.loads(rest)
    for name in ("id", "created_at", "completed_at"):
        body.pop(name)
    for item in body["output"]:
        item.pop("id")
    return b"\r\n".join(lines) + json.dumps(body).encode()


PARTS: dict[str, Sequence[bytes]] = {
    "head, then body": (request(WHOLE)[: -len(WHOLE)], WHOLE),
    "within the body": (request(WHOLE)[:-3], WHOLE[-3:]),
    "in chunks": (
        request(WHOLE)[: -len(WHOLE)].replace(
            b"content-length: %d" % len(WHOLE), b"transfer-encoding: chunked"
        )
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(WHOLE), WHOLE),
    ),
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
async def test_a_body_is_the_same_however_it_comes(
    upstream: ScriptedUpstream, parts: Sequence[bytes]
) -> None:
    async with upstream.service() as url:
        client = await connected(url)
        whole = await client.answer(request(WHOLE))
        cut = await client.answer(*parts)
        await client.close()
    assert without_what_is_new(whole) == without_what_is_new(cut)
    assert upstream.calls[0].body == upstream.calls[1].body


async def test_a_client_that_waits_to_be_told_to_go_on_is_told(upstream: ScriptedUpstream) -> None:
    """Even where its body is there: it may have given up waiting."""
    async with upstream.service() as url:
        client = await connected(url)
        answer = await client.answer(request(WHOLE, "expect: 100-continue"))
        await client.close()
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_a_body_that_comes_at_once_is_not_over_the_limit(upstream: ScriptedUpstream) -> None:
    async with upstream.service(max_body_bytes=100) as url:
        client = await connected(url)
        chunked = b"POST /v1/responses HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        answer = await client.answer(chunked + b"65\r\n" + b" " * 101 + b"\r\n0\r\n\r\n")
        await client.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"over 100 bytes" in answer


@pytest.mark.parametrize("size", [60, 40])
def test_an_upload_that_is_there_at_once_has_the_others_give_way(size: int) -> None:
    """As one does that comes in two reads, and only where there is no room for both."""
    gave_way: list[str] = []
    uploads = Uploads(max_bytes=100, silence_s=10, total_s=10, bytes_per_s=0)
    first, second = (
        uploads.begin(0.0, lambda name=name: gave_way.append(name))  # type: ignore[misc]
        for name in ("first", "second")
    )
    first.add(30)
    second.add(30)
    uploads.arrived(1.0, size)
    assert gave_way == (["first"] if size == 60 else [])
    assert uploads.bytes == (30 if size == 60 else 60)


def test_a_service_that_has_stopped_takes_no_body() -> None:
    drain = Drain()
    drain.check()
    drain.end()
    with pytest.raises(Stopping):
        drain.check()


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_a_path_is_looked_up_before_any_pattern(
    upstream: ScriptedUpstream, path: str
) -> None:
    async with upstream.service() as url:
        client = await warm(url, request(path=path))
        calls = await calls_of(client, request(path=path))
        other = await calls_of(client, request(path="/v1/responses/a"))
        await client.close()
    assert of(calls, "starlette/routing.py") == 0
    assert of(other, "starlette/routing.py", "Route.matches") > 10


async def test_labels_of_metrics_are_checked_once(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as url:
        client = await warm(url, request())
        calls = await calls_of(client, request())
        await client.close()
    labels = of(calls, "prometheus_client/metrics.py", "MetricWrapperBase.labels")
    assert labels == 0
    assert of(calls, "prometheus_client/values.py") > 0


async def test_what_is_the_same_for_all_requests_is_made_once(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as url:
        client = await warm(url, request())
        calls = await calls_of(client, request())
        await client.close()
    assert of(calls, "upstreams/client.py", "Upstreams.open") > 0
    assert of(calls, "upstreams/health.py", "_Observed.__init__") == 0
    assert of(calls, "aiohttp/client_reqrep.py", "ClientRequest.connection_key") == 0


def test_a_decoder_of_a_composed_type_is_made_once() -> None:
    """`msgspec.json.decode` makes one at each call, unless its type is a plain one or a Struct."""
    sources = sorted(Path(translator.service.__path__[0]).rglob("*.py"))
    assert len(sources) > 100
    made = [
        f"{source.name}:{node.lineno}"
        for source in sources
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "msgspec.json.decode"
        for keyword in node.keywords
        if keyword.arg == "type" and not isinstance(keyword.value, ast.Name)
    ]
    assert made == []


@pytest.mark.parametrize("body", [BODY, WHOLE], ids=["stream", "whole"])
async def test_what_the_answer_needs_is_prepared_while_the_upstream_works(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    happened: list[str] = []
    prepare = Translation.prepare

    def note(translation: Translation, pause: Pause = no_pause) -> None:
        happened.append("prepared")
        prepare(translation, pause)

    monkeypatch.setattr(Translation, "prepare", note)

    class Observer:
        wants = frozenset({UpstreamCalled, UpstreamAnswered})

        def on(self, event: ObservedEvent) -> None:
            happened.append(type(event).__name__)

    async with serving(make_settings(upstream.url), observe=lambda _record: Observer()) as url:
        client = await connected(url)
        await client.answer(request(body))
        await client.close()
    assert happened[:3] == ["UpstreamCalled", "prepared", "UpstreamAnswered"]


async def test_secrets_are_not_looked_for_before_an_error(upstream: ScriptedUpstream) -> None:
    asked = request(BODY, "authorization: Bearer sk-0123456789")
    async with upstream.service() as url:
        client = await warm(url, asked)
        calls = await calls_of(client, asked)
        await client.close()
    assert of(calls, "config/secrets.py", "secrets_in") <= 1  # for the answer of the upstream
    assert of(calls, "contextlib.py", "_AsyncGeneratorContextManager.__aenter__") == 0
