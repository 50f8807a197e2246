"""A service in a process of its own, which stops at a point of a write so that a test can kill it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx

from tests.faults.processes import PROCESS_S
from tests.service.wire import BOUND_S, ScriptedUpstream
from translator.service.config.store import Location

ROOT = Path(__file__).parents[3]

Point = Literal["first", "kept", "committed"]
"""Where it stops: at the first write, and goes on when it is told to; when the rows of a response
are written, and not committed; when they are committed, and nobody has been told."""

_SERVE = """
import sys, time
from translator.__main__ import main
from translator.service.database import connection
from translator.service.store import responses

points = dict(one.split("=") for one in sys.argv[1].split(",") if one)
kept = 0

def stop(point):
    print("at", point, flush=True)
    if point == "first":
        sys.stdin.readline()
    else:
        time.sleep(3600)

def keep(*arguments, original=responses.keep):
    global kept
    kept += 1
    if str(kept) == points.get("first"):
        stop("first")
    original(*arguments)
    if str(kept) == points.get("kept"):
        stop("kept")

def stopping(original):
    def commit(self):
        original(self)
        if str(kept) == points.get("committed"):
            stop("committed")
    return commit

responses.keep = keep
for one in (connection.SqliteConnection, connection.PostgresConnection):
    one.commit = stopping(one.commit)
sys.exit(main(sys.argv[2:]))
"""


class FaultyService:
    """The process."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx.AsyncClient) -> None:
        self._process = process
        self.client = client

    async def reached(self, point: Point) -> None:
        """Wait until it stops there."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PROCESS_S)
        assert line.decode().split() == ["at", point]

    def go_on(self) -> None:
        """Have it go on from the first write."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def faulty(
    upstream: ScriptedUpstream, location: Location, folder: Path, **points: int
) -> AsyncGenerator[FaultyService]:
    """A service that stops at the so manieth response of each point."""
    url = f"sqlite:///{location.target}" if location.kind == "sqlite" else location.target
    config = folder / "settings.toml"
    config.write_text(
        f'[upstreams.up]\nbase_url = "{upstream.url}"\n[store]\nurl = "{url}"\n'
        "write_wait_s = 60\n[server]\nport = 0\n"
    )
    named = ",".join(f"{point}={number}" for point, number in points.items())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVE, named, "serve", "--config", str(config)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PROCESS_S)).decode()
        base = line.partition(" and ")[0].removeprefix("translator listens on ").removesuffix("/v1")
        async with httpx.AsyncClient(base_url=base, timeout=BOUND_S, trust_env=False) as client:
            yield FaultyService(process, client)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
