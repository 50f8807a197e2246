"""Events of responses in the background: by the log of the store, and by one insert alone.

flush = EVENTS of each of RUNS responses, written together, and on the disk
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import uvloop

from translator.service.base.ids import random_id
from translator.service.config.store import Location, StoreSection
from translator.service.database.database import Database
from translator.service.database.statement import DatabaseTime
from translator.service.store.background import BackgroundRuns, Run
from translator.service.store.keep import Draft
from translator.service.store.meter import NullStoreMeter
from translator.service.store.room import ROOM
from translator.service.store.run_statements import NEW_EVENTS
from translator.service.store.runs import Events
from translator.wire.events import OutputTextDelta
from translator.wire.responses import Response
from translator.writer.sse import encode

from .stored_turns import BARE, BARE_IN_A_THREAD, STORE, Bare, Executed, Works

RUNS, EVENTS = 20, 5
"""As many responses of 50 tokens a second, of which each tenth of a second is written at once."""

_KEEP_S = 3600.0


def _frames(first: int) -> bytes:
    return b"".join(
        encode(OutputTextDelta(number, "msg_" + "0" * 48, 0, 0, " word", []))
        for number in range(first, first + EVENTS)
    )


class Logs:
    """Responses in the background of one store, and their logs."""

    def __init__(self, file: Path) -> None:
        limits = StoreSection(lease_s=600.0)
        self._database = Database(
            Location("sqlite", str(file)),
            ROOM,
            max_queue_bytes=limits.max_queue_bytes,
            read_wait_s=limits.read_wait_s,
        )
        self._runs = BackgroundRuns(self._database, limits, random_id, NullStoreMeter())
        self._some: list[Run] = []

    async def open(self) -> None:
        """Begin the responses, whose logs are written from now on."""
        self._database.open()
        self._serving = asyncio.create_task(self._runs.serve())
        for _ in range(RUNS):
            response = Response(random_id("resp_"), 0, "m", status="queued", background=True)
            draft = Draft("", response, (), (), None, _KEEP_S)
            first = Events(0, EVENTS - 1, _frames(0))
            self._some.append(await self._runs.begin(draft, None, first, temporary=True))

    async def flush(self) -> None:
        """Log some events of each response; returns when all are on the disk."""
        logs = [run.log for run in self._some if run.log is not None]
        for one in logs:
            one.add(_frames(one.next), EVENTS)
        for one in logs:
            while not one.after(one.next - EVENTS - 1):
                await one.news()

    async def aclose(self) -> None:
        """Leave the responses as they are."""
        self._serving.cancel()
        await asyncio.wait([self._serving])
        await self._database.aclose()


@contextmanager
def logging_works(folder: Path, rounds: int) -> Generator[Works]:
    """One flush, `rounds` times at most: by the store, and by `sqlite3` in a thread and without.

    `sqlite3` inserts the rows of the same events, and does nothing else. The folder has an
    `empty.db` with the tables.
    """
    files = {name: folder / f"{name}.db" for name in ("bare", "store")}
    for file in files.values():
        shutil.copy(folder / "empty.db", file)
    inserts = iter(_inserts(2 * rounds))
    logs = Logs(files["store"])
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        closing(Bare(files["bare"])) as bare,
        ThreadPoolExecutor(1) as thread,
    ):
        runner.run(logs.open())

        async def in_a_thread() -> None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(thread, bare.replay, [next(inserts)])

        works: dict[str, Callable[[], object]] = {
            STORE: lambda: runner.run(logs.flush()),
            BARE_IN_A_THREAD: lambda: runner.run(in_a_thread()),
            BARE: lambda: bare.replay([next(inserts)]),
        }
        try:
            yield Works(prepare={}, do=works)
        finally:
            runner.run(logs.aclose())


def _inserts(count: int) -> Generator[list[Executed]]:
    """The transactions that insert the rows of each flush."""
    text = NEW_EVENTS.text("sqlite", DatabaseTime())
    for flush in range(1, count + 1):
        first = flush * EVENTS
        rows = [
            {"response": n, "first_seq": first, "last_seq": first + EVENTS - 1, "body": body}
            for n, body in enumerate([_frames(first)] * RUNS)
        ]
        yield [(text, [*map(NEW_EVENTS.in_order, rows)], True)]
