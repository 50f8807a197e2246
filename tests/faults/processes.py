"""`translator serve` as a process, and a load of clients that record lost responses."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, events
from tests.service.wire import BOUND_S, Call, bounded

PROCESS_S = 6 * BOUND_S
"""The same as BOUND_S for what whole processes do: they start Python, on a machine that may have
much else to do."""


class Serving:
    """A process of `translator serve`, or the parent of several workers."""

    def __init__(self, process: asyncio.subprocess.Process, line: str) -> None:
        self.process = process
        self.line = line
        """The start-up line."""
        self.url = line.partition(" and ")[0].removeprefix("translator listens on ")
        self.url = self.url.removesuffix("/v1")
        self.err: list[str] = []
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.err.append(line.decode())

    def hang_up(self) -> None:
        """Close its pipes, which workers may hold open for longer than it lives."""
        self._listening.cancel()
        vars(self.process)["_transport"].close()

    async def wait_for_log(self, text: str) -> None:
        """Wait for a log line that contains a text."""
        async with asyncio.timeout(PROCESS_S):
            while not any(text in line for line in self.err):
                await asyncio.sleep(0.02)

    async def wait_for_exit(self) -> int:
        """The exit code."""
        code = await asyncio.wait_for(self.process.wait(), PROCESS_S)
        await bounded(self._listening)
        return code

    @property
    def log(self) -> str:
        return "".join(self.err)

    @property
    def workers(self) -> list[int]:
        """The ids of its child processes."""
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def serve(
    tmp_path: Path, url: str, *words: str, sections: str = "", **server: Any
) -> AsyncGenerator[Serving]:
    """A service process whose upstream is `url`; it listens already."""
    file = tmp_path / "settings.toml"
    write(file, url, sections=sections, **server)
    words = ("--config", str(file), *words)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "translator", "serve", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    serving: Serving | None = None
    try:
        assert process.stdout
        line = (await asyncio.wait_for(process.stdout.readline(), PROCESS_S)).decode()
        serving = Serving(process, line)
        yield serving
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if serving is not None:
            serving.hang_up()


def write(file: Path, url: str, *, sections: str = "", **server: Any) -> None:
    """Write settings; `sections` are further ones, in TOML."""
    lines = [f"{name} = {str(value).lower()}" for name, value in {"port": 0, **server}.items()]
    text = "\n".join(["[server]", *lines, "[upstreams.up]", f'base_url = "{url}"', sections, ""])
    file.write_text(text)


async def slow_hello(call: Call) -> None:
    """Respond with HELLO, in about a second."""
    await call.head()
    for chunk in [HELLO[0], *[HELLO[1]] * 10, *HELLO[2:]]:
        await call.send(chunk)
        await asyncio.sleep(0.07)
    await call.end()


TEXT = "Hello" * 10 + " world"


class Load:
    """Clients that request one stream after the other; `lost` has the failed ones."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        self._over = False
        self.done = 0
        self.lost: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Load]:
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=PROCESS_S, limits=limits) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(self._count):
                tasks.create_task(self._ask(client, number))
            try:
                yield self
            finally:
                self._over = True

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        await asyncio.sleep(number / self._count)
        while not self._over:
            try:
                answer = await client.post("/v1/responses", json=ASK)
                final = events(answer.content)[-1]["response"]
                text = final["output"][0]["content"][0]["text"]
                if (final["status"], text) != ("completed", TEXT):
                    self.lost.append(str(final))
            except (httpx.HTTPError, AssertionError, KeyError) as error:
                self.lost.append(repr(error))
            self.done += 1

    async def wait_for_more(self, count: int) -> None:
        """Wait for `count` more responses."""
        goal = self.done + count
        async with asyncio.timeout(PROCESS_S):
            while self.done < goal:
                await asyncio.sleep(0.02)
