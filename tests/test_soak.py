"""The soak test's parts: hostile peers are hostile, are noticed, and the report says so."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import translator
from bench import hostile, soak, soak_report, soak_upstream
from bench.hostile import BOMBS, ECHOES, ENDLESS, PEERS, SECRET, Result, Violation, meet
from tests.replaying import REQUEST, translation
from tests.service.wire import BOUND_S, make_settings, serving
from translator.reader.sse import Decoder

pytestmark = pytest.mark.anyio

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def listening(serve: Server) -> AsyncGenerator[int]:
    """A server on a free port, which it gives."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


# --- hostile upstreams ----------------------------------------------------------------------------


def begun(kind: str, *, stream: bool) -> translator.Translation:
    """A translation that has got the first blocks of an endless answer."""
    asked = {**REQUEST, "stream": stream, "tools": [soak.TOOL]}
    translated = translation(asked)
    for _, block in zip(range(3), hostile._blocks(kind, stream=stream), strict=False):
        translated.receive(block)
    return translated


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_answer_is_one_as_far_as_it_has_come(kind: str, stream: bool) -> None:
    """It is no rubbish that could be refused at once, and it does not end."""
    translated = begun(kind, stream=stream)
    assert translated.error is None
    assert not translated.finished
    if stream:
        assert translated.produced
        assert type(translated.close()[-1]).__name__ == "Failed"


def test_endless_calls_are_many() -> None:
    assert len(begun("calls", stream=True).response.output) > 20


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_holds_nothing(kind: str) -> None:
    blocks = [block for _, block in zip(range(3), hostile._blocks(kind, stream=True), strict=False)]
    data = b"".join(blocks)
    assert len(data) > hostile.BLOCK_BYTES
    if kind == "empty members":
        assert gzip.decompress(data) == b""
    else:
        assert len(list(Decoder().feed(data))) == 1


@pytest.mark.parametrize("kind", ECHOES)
def test_an_echo_holds_the_key(kind: str) -> None:
    head = f"POST / HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
    assert hostile._echo(kind, head.encode()).count(SECRET.encode()) >= 2


# --- hostile clients ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PEERS)
async def test_a_peer_notices_that_it_is_closed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(hostile.LIMITS, "client_timeout_s", 0.02)

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        if name != "sends nothing":
            await reader.read(10)

    async with listening(serve) as port:
        result = await meet(name, "127.0.0.1", port, BOUND_S)
    assert (result.name, result.outcome) == (name, "closed")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nno", "HTTP 400"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "HTTP 200"),
        (b'HTTP/1.1 101 Now\r\n\r\n\x81{"type":"response.failed"}', "HTTP 101"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n", None),
        (b"HTTP/1.1 400 Ba", None),
        (b"HTTP/1.1 101 Now\r\n\r\n", None),
        (b"", None),
        (f"HTTP/1.1 400 Bad\r\n\r\nyour key is {SECRET}".encode(), None),
    ],
)
async def test_an_answer_or_an_end_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, outcome: str | None
) -> None:
    """Neither in time, or the key of the operator in it: the peer was not treated well."""
    monkeypatch.setattr(hostile, "QUIET_S", 0.05)
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        while await reader.read(4096):
            pass
        left.set()

    async with listening(serve) as port:
        if outcome is None:
            with pytest.raises(Violation):
                await meet("two hosts", "127.0.0.1", port, 0.5)
        else:
            result = await meet("two hosts", "127.0.0.1", port, BOUND_S)
            assert result.outcome == outcome
        async with asyncio.timeout(BOUND_S):
            await left.wait()


# --- both, with the service between them ----------------------------------------------------------


async def test_peers_meet_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered on any build; beside them an answer is whole, to the last event."""
    monkeypatch.setattr(hostile, "QUIET_S", 0.2)
    names = [
        *("HTTP/1.0", "two hosts", "endless text, whole", "endless calls, whole"),
        *("echo 401, whole", "half a body", "a frame of many bytes"),
    ]
    async with listening(soak_upstream.Upstream().connected) as up:
        settings = make_settings(
            f"http://127.0.0.1:{up}/v1", key=SECRET, max_answer_bytes=100_000, client_timeout_s=0.5
        )
        async with serving(settings) as url:
            driver = soak.Driver(url, 0, BOUND_S)
            host, _, port = url.removeprefix("http://").partition(":")
            async with soak.aiohttp.ClientSession() as driver._http:
                healthy = asyncio.create_task(driver._ask(text_of(hostile.TEXT)))
                met = [meet(name, host, int(port), BOUND_S) for name in names]
                results = await asyncio.gather(*met)
                assert await healthy == "completed"
    assert [one.name for one in results] == names
    assert results[0].outcome == "HTTP 200"
    assert results[2].outcome == "HTTP 502"


def text_of(model: str) -> soak_upstream.Answer:
    return soak_upstream.answer(int(model.removeprefix("soak-")))


def test_the_models_of_hostile_clients_are_short() -> None:
    text, whole = text_of(hostile.TEXT), text_of(hostile.WHOLE)
    assert (text.kind, text.fault, whole.kind, whole.fault) == ("text", "", "whole", "")
    assert len(text.frames) < 30


def test_settings_that_the_service_does_not_know_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(hostile.LIMITS, "never_heard_of_s", 1)
    settings = hostile.settings()
    assert "never_heard_of_s" not in settings
    assert settings["client_timeout_s"] == hostile.LIMITS["client_timeout_s"]
    make_settings("http://up/v1", **settings)


# --- the report -----------------------------------------------------------------------------------


def found(**lists: Any) -> soak_report.Findings:
    findings = soak_report.Findings()
    findings.first = [(at / 10, 0.01) for at in range(300)]
    findings.outcomes["text", "", "completed"] = 7
    findings.hostile["two hosts"].append(Result("two hosts", "HTTP 400", 0.1))
    for name, values in lists.items():
        setattr(findings, name, values)
    return findings


def reported(
    findings: soak_report.Findings | None = None,
    *,
    minutes: float = 0.5,
    growth: int = 0,
    after: int = 10,
    log: str = "",
) -> str:
    samples = [soak_report.Sample(at, 1000 + growth * at, 10) for at in range(int(minutes * 60))]
    last = soak_report.Sample(minutes * 60, 1000, after)
    return "".join(soak_report.report(findings or found(), samples, last, minutes, log))


def test_a_report_names_what_is_not_well() -> None:
    assert reported().endswith("All is well.\n")
    assert "two hosts" in reported()
    for report, name in (
        (reported(found(violations=["CONNECT: held"])), "hostile peers"),
        (reported(found(wrong=["7"])), "wrong answers"),
        (reported(after=20), "file descriptors"),
        (reported(log=f"x {SECRET}"), "log"),
        (reported(log="Traceback (most"), "log"),
    ):
        assert report.endswith(f"NOT WELL: {name}\n")


def test_a_run_without_any_answer_is_reported() -> None:
    assert reported(found(first=[], wrong=["7"])).endswith("NOT WELL: wrong answers\n")


def test_growth_is_judged_in_a_long_run_only() -> None:
    assert reported(growth=10).endswith("All is well.\n")
    findings = found(first=[(float(at), 0.01) for at in range(600)])
    assert reported(findings, minutes=10, growth=10).endswith("NOT WELL: memory\n")
    assert reported(findings, minutes=10).endswith("All is well.\n")
