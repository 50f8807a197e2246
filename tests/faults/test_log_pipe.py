"""Whoever reads the log, the live view or the traces may stop: requests are answered all the same."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.responses_api import ASK, events
from tests.service.wire import BOUND_S, ScriptedUpstream, bounded

from .processes import write

pytestmark = pytest.mark.anyio


@pytest.fixture
def full_pipe() -> Generator[tuple[int, int]]:
    """A pipe that is full and that nobody reads."""
    read, end = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    os.write(end, b"x" * 4095 + b"\n")
    yield read, end
    os.close(read)
    os.close(end)


@asynccontextmanager
async def serve(
    tmp_path: Path, url: str, *words: str, out: int, err: int, port: int
) -> AsyncGenerator[asyncio.subprocess.Process]:
    file = tmp_path / "settings.toml"
    write(file, url, port=port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "translator", "serve", "--config", str(file), *words,
        stdout=out, stderr=err,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(3 * BOUND_S):
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{port}/healthz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def free_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.mark.parametrize("words", [[], ["--workers", "2"]], ids=["one process", "workers"])
async def test_a_log_that_nobody_reads_stops_nothing(
    upstream: ScriptedUpstream, tmp_path: Path, full_pipe: tuple[int, int], words: list[str]
) -> None:
    """Neither a request nor the end of the process."""
    port = await free_port()
    null = os.open(os.devnull, os.O_WRONLY)
    async with serve(
        tmp_path, upstream.url, *words, out=null, err=full_pipe[1], port=port
    ) as process:
        os.close(null)
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            for _ in range(5):
                answer = await client.post(f"http://127.0.0.1:{port}/v1/responses", json=ASK)
                assert events(answer.content)[-1]["type"] == "response.completed"
        process.send_signal(signal.SIGTERM)
        assert await bounded(process.wait()) == 0


async def test_a_live_view_that_nobody_reads_stops_nothing(
    upstream: ScriptedUpstream, tmp_path: Path, full_pipe: tuple[int, int]
) -> None:
    port = await free_port()
    os.read(full_pipe[0], 4096)  # for the start-up line
    words = ("--watch", "--log-level", "info")
    async with serve(
        tmp_path, upstream.url, *words, out=full_pipe[1], err=full_pipe[1], port=port
    ) as process:
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            for _ in range(50):
                answer = await client.post(f"http://127.0.0.1:{port}/v1/responses", json=ASK)
                assert events(answer.content)[-1]["type"] == "response.completed"
        process.send_signal(signal.SIGTERM)
        assert await bounded(process.wait()) == 0


@pytest.mark.parametrize("out", ["full disk", "closed pipe"])
async def test_a_start_up_line_that_nobody_reads_stops_nothing(
    upstream: ScriptedUpstream, tmp_path: Path, out: str
) -> None:
    port = await free_port()
    read, end = os.pipe()
    os.close(read)
    full = os.open("/dev/full", os.O_WRONLY)
    number = full if out == "full disk" else end
    with (tmp_path / "log").open("wb") as log:
        async with serve(
            tmp_path, upstream.url, out=number, err=log.fileno(), port=port
        ) as process:
            process.send_signal(signal.SIGTERM)
            assert await bounded(process.wait()) == 0
    os.close(full)
    os.close(end)
    text = (tmp_path / "log").read_text()
    assert "translator listens on " in text
    assert "Traceback" not in text


def test_standard_streams_that_are_closed_become_the_null_device(tmp_path: Path) -> None:
    """Else the next socket would get their number."""
    program = (
        "import os, sys; [os.close(n) for n in range(3)];"
        "from translator import __main__ as m; m._open_standard_streams();"
        "names = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)];"
        "open(sys.argv[1], 'w').write(' '.join(names))"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "names")], check=False, timeout=BOUND_S
    )
    assert (tmp_path / "names").read_text() == "/dev/null /dev/null /dev/null"
