"""The page with several workers: each shows what all of them are answering."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from translator.service.page import peers
from translator.service.page.peers import Peers
from translator.service.page.running import Row, Running, joined
from translator.service.telemetry.shared_metrics import FOLDER, shared_metrics, worker_gone

from .processes import served
from .responses_api import ASK
from .test_page import Held, asked
from .wire import ScriptedUpstream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers"),
]

REQUESTS = 12
"""That all of them come to one of two workers is one chance in two thousand."""


@asynccontextmanager
async def working(tmp_path: Path) -> AsyncGenerator[tuple[str, Held, subprocess.Popen[str]]]:
    """Two workers, an upstream that holds its answers, and the parent's process."""
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        words = ("--upstream", upstream.url, "--workers", "2")
        environ = {"TMPDIR": str(tmp_path), "PROMETHEUS_MULTIPROC_DIR": ""}
        with served(*words, env=environ) as (line, process):
            yield line.split()[3].removesuffix("/v1"), held, process


async def page_text(url: str) -> str:
    """The page, on a connection of its own; a worker that stands still is left out."""
    while True:
        async with httpx.AsyncClient(timeout=1, verify=False) as client:
            try:
                return (await client.get(url)).text
            except httpx.TimeoutException:
                continue


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
async def test_each_worker_shows_what_all_of_them_are_answering(tmp_path: Path) -> None:
    async with working(tmp_path) as (url, held, process), AsyncExitStack() as stack:
        for _ in range(REQUESTS):
            await stack.enter_async_context(asked(url, ASK))
        for _ in range(6):
            assert f"{REQUESTS} answers" in await page_text(url)
        assert modes_of_sockets(tmp_path) == [0o600, 0o600]
        stopped = worker_of(process)
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert "1 worker does not say" in await page_text(url)
        finally:
            os.kill(stopped, signal.SIGCONT)
        held.end.set()
        await the_end_comes_soon(url, process)
    assert modes_of_sockets(tmp_path) == []


async def the_end_comes_soon(url: str, process: subprocess.Popen[str]) -> None:
    """Although a browser follows what is being answered."""
    async with httpx.AsyncClient(timeout=20) as client:
        async with client.stream("GET", f"{url}/page/live") as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("data: ")
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):  # `drain_s` are 30
                async for _ in lines:
                    pass
    assert await asyncio.to_thread(process.wait, 20) == 0


def modes_of_sockets(folder: Path) -> list[int]:
    return [stat.S_IMODE(one.stat().st_mode) for one in folder.glob("*/answers-*.sock")]


def worker_of(parent: subprocess.Popen[str]) -> int:
    """The process id of a worker."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
    return int(children.split()[0])


# --- the datagrams -------------------------------------------------------------------------------


def row(name: str, at: float = 1.0) -> Row:
    return Row(id=name, at=at, model="m")


@asynccontextmanager
async def peers_of(folder: Path, *samples: Running) -> AsyncGenerator[list[Peers]]:
    """Workers that answer with these samples."""
    loop = asyncio.get_running_loop()
    made: list[Peers] = []
    sockets: list[socket.socket] = []
    for number, sample in enumerate(samples):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(folder / f"answers-1-{number}.sock"))
        sock.setblocking(False)
        sockets.append(sock)
        made.append(Peers(sock, lambda client, sample=sample: sample))  # type: ignore[misc]
        loop.add_reader(sock, made[-1].receive)
    try:
        yield made
    finally:
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()


async def test_workers_ask_each_other(tmp_path: Path) -> None:
    first, second = Running([row("a", 2.0)], 1), Running([row("b", 1.0)], 7)
    async with peers_of(tmp_path, first, second) as [one, _]:
        samples, silent = await one.ask(None)
        assert (samples, silent) == ([second], 0)
        assert joined([first, *samples], silent) == Running([row("b", 1.0), row("a", 2.0)], 8)


async def test_a_worker_that_was_killed_is_forgotten(tmp_path: Path) -> None:
    async with peers_of(tmp_path, Running([], 0)) as [one]:
        dead = tmp_path / "answers-1-9.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(dead))
        assert await one.ask(None) == ([], 0)
        assert not dead.exists()


def test_what_killed_processes_left_in_a_given_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "answers-1-2.sock").touch()
    with shared_metrics():
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "answers-1-3.sock").touch()
        worker_gone(3)
        assert list(tmp_path.iterdir()) == []


async def test_workers_of_another_parent_are_not_asked(tmp_path: Path) -> None:
    async with peers_of(tmp_path, Running([], 0)) as [one]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "answers-2-9.sock"))
            assert await one.ask(None) == ([], 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"nonsense",
        b'{"type":"ask"}',
        b'{"type":"sample","number":99,"rows":[],"total":1}',
    ],
)
async def test_datagrams_that_mean_nothing_are_left_alone(tmp_path: Path, data: bytes) -> None:
    async with peers_of(tmp_path, Running([], 0), Running([], 0)) as [one, _]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(data, str(tmp_path / "answers-1-0.sock"))
            await asyncio.sleep(0)
        assert await one.ask(None) == ([Running([], 0)], 0)


async def test_nobody_outside_the_folder_is_answered(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    async with peers_of(inside, Running([row("a")], 1), Running([], 0)) as [one, _]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.bind(str(tmp_path / "answers-1-1.sock"))
            stranger.setblocking(False)
            ask = msgspec.json.encode(peers.Ask(1, None))
            stranger.sendto(ask, str(inside / "answers-1-0.sock"))
            await one.ask(None)
            with pytest.raises(BlockingIOError):
                stranger.recv(1000)


async def test_a_sample_that_is_too_large_is_sent_with_fewer_rows(tmp_path: Path) -> None:
    large = Running([Row(id=str(n), at=n, model="m" * 20_000) for n in range(40)], 40)
    async with peers_of(tmp_path, Running([], 0), large) as [one, other]:
        other._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        [sample], silent = await one.ask(None)
        assert 0 < len(sample.rows) < 40
        assert (sample.total, silent) == (40, 0)
