"""A supervisor of worker processes that serve on one port.

    parent = listeners, { worker }, start-up line, signals ;
    signals
        SIGTERM, SIGINT     sent on to the workers; a second one kills them
        SIGHUP              each worker is replaced by a new one, with the current settings

Each worker has a listening socket of its own on the same port, and the kernel spreads connections
among them evenly. The parent holds all of them, so the backlog of one survives its worker, and a
new worker starts there before the old one ends: no connection is refused.

A worker is this program with two more options, so it runs the code that is installed now.

The limits of clients hold for all workers together (`access.shared_limits`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from translator.service.config.settings import Server, Settings
from translator.service.telemetry.logs import start_logging
from translator.service.telemetry.shared_metrics import shared_metrics, worker_gone

from .graceful_shutdown import CLOSE_S, END_S, IDLE_LINGER_S
from .run import announce, listen, listen_for_metrics
from .worker_channel import READY

START_S = 60.0
"""How long the start of a worker may take."""

MARGIN_S = IDLE_LINGER_S + 2 * END_S + CLOSE_S + 2
"""How much longer than `drain_s` the shutdown of a worker may take."""

STEADY_S = 10.0
"""A worker that ends sooner is replaced with a delay, which doubles each time."""

FIRST_DELAY_S, MAX_DELAY_S = 0.25, 4.0

MAX_GENERATIONS = 4
"""So many times as many workers as in the settings live at once: those that shut down do so while
new ones serve already. One more does not start."""

if TYPE_CHECKING:
    from translator.service.access.shared_limits import LimitsFile

log = logging.getLogger(__name__)


def run(settings: Settings, *, log_level: str, command: Sequence[str]) -> int:
    """Supervise `workers` processes until a signal ends them; the exit code.

    `command` runs a worker, but for the option that names its channel. Raises SettingsError for
    the address.
    """
    from translator.service.access.shared_limits import LimitsFile  # a single process needs none

    slots = [_Slot(listener) for listener in listeners(settings.server)]
    common = listen_for_metrics(settings.server)
    start_logging(log_level, settings.server.log_format)
    with shared_metrics(), closing(LimitsFile(MAX_GENERATIONS * len(slots))) as limits:
        return asyncio.run(_Supervisor(settings, command, slots, common, limits).run())


def listeners(server: Server) -> list[socket.socket]:
    """One socket for each worker; the same where the system does not spread connections."""
    with listen(server.host, server.port, reuse_port=server.reuse_port) as first:
        port = first.getsockname()[1]
        if not sys.platform.startswith("linux"):
            return [first.dup() for _ in range(server.workers)]
    # only now: another program's socket that shares its port would not have been noticed
    return [listen(server.host, port, reuse_port=True) for _ in range(server.workers)]


class _Worker:
    """One process, from its start to its end."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        parent: socket.socket,
        on_end: Callable[[], None],
    ) -> None:
        self._process = process
        self._on_end: Callable[[], None] | None = on_end
        self._parent = parent  # when it is closed, the worker shuts down
        self._began = asyncio.get_running_loop().time()
        self.pid = process.pid

    async def is_ready(self) -> bool:
        """Wait until it serves; False when it does not within START_S."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_S):
                return await loop.sock_recv(self._parent, 1) == READY
        except (OSError, TimeoutError):
            return False

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        code = await self._process.wait()
        self._parent.close()
        worker_gone(self.pid)
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()
        return code

    @property
    def age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began


class _Slot:
    """One listening socket and its current worker."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.worker: _Worker | None = None
        self.delay_s = FIRST_DELAY_S


class _Supervisor:
    """Keeps a worker in each slot."""

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        slots: Sequence[_Slot],
        common: Sequence[socket.socket],
        limits: LimitsFile,
    ) -> None:
        """`common` are sockets on which all workers listen, beside the one of each."""
        self._settings = settings
        self._command = command
        self._slots = slots
        self._common = common
        self._limits = limits
        self._stopping = asyncio.Event()
        self._code = 0
        self._alive: set[_Worker] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._replacing = asyncio.Lock()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, 0)
        loop.add_signal_handler(signal.SIGINT, self._stop, 130)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._run_task(self._replace_all()))
        begun = await asyncio.gather(*map(self._start_in, self._slots))
        if all(begun) and not self._stopping.is_set():
            announce(self._settings, self._slots[0].listener)
        elif not self._stopping.is_set():
            log.error("the workers failed to start")
            self._stop(1)
        await self._stopping.wait()
        await self._end()
        for listener in (*(slot.listener for slot in self._slots), *self._common):
            listener.close()
        return self._code

    def _stop(self, code: int) -> None:
        again = self._stopping.is_set()
        self._code = self._code or code
        self._stopping.set()
        for worker in self._alive:
            worker.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    async def _end(self) -> None:
        """Wait for the end of all workers; kill those that take too long."""
        for task in self._tasks:
            task.cancel()
        gone = [asyncio.create_task(worker.wait()) for worker in self._alive]
        if not gone:
            return
        _, late = await asyncio.wait(gone, timeout=self._settings.server.drain_s + MARGIN_S)
        if late:
            log.error("%d workers did not end in time", len(late))
            for worker in self._alive:
                worker.send_signal(signal.SIGKILL)
            await asyncio.wait(late)

    async def _start_in(self, slot: _Slot) -> bool:
        """Start a worker in a slot, in place of its current one; False when it does not start."""
        column = self._limits.take_column()
        if column is None:
            log.error("%d workers live already, most of which shut down", len(self._alive))
            return False
        try:
            worker = await self._spawn(slot.listener, column)
        except OSError as error:  # as where the system has no room for another process
            log.error("a worker cannot be started: %s", error)
            return False
        if not await worker.is_ready() or self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
            self._run_task(self._reap(worker))
            return False
        old, slot.worker = slot.worker, worker
        self._run_task(self._restart(slot, worker))
        if old is not None:
            old.send_signal(signal.SIGTERM)
        return True

    async def _spawn(self, listener: socket.socket, column: int) -> _Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        numbers = [one.fileno() for one in (theirs, listener, *self._common)]
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    "--worker-channel",
                    ":".join(map(str, numbers)),
                    "--worker-limits",
                    f"{self._limits.fd}:{column}",
                    pass_fds=[*numbers, self._limits.fd],
                    process_group=0,  # a terminal's Ctrl-C is for the parent, which passes it on
                )
        except BaseException:
            ours.close()
            self._limits.release_column(column)
            raise
        worker = _Worker(process, ours, partial(self._limits.release_column, column))
        self._alive.add(worker)
        if self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
        return worker

    async def _restart(self, slot: _Slot, worker: _Worker) -> None:
        """Replace a worker that has ended by itself."""
        code = await self._reap(worker)
        while slot.worker is worker and not self._stopping.is_set():
            if worker.age_s > STEADY_S:
                slot.delay_s = FIRST_DELAY_S
            log.error("worker %d has ended (%d); another one starts", worker.pid, code)
            await asyncio.sleep(slot.delay_s)
            slot.delay_s = min(2 * slot.delay_s, MAX_DELAY_S)
            async with self._replacing:
                if slot.worker is worker:
                    await self._start_in(slot)

    async def _reap(self, worker: _Worker) -> int:
        code = await worker.wait()
        self._alive.discard(worker)
        return code

    async def _replace_all(self) -> None:
        """Replace all workers, one after the other."""
        async with self._replacing:
            for slot in self._slots:
                if self._stopping.is_set():
                    return
                if not await self._start_in(slot):
                    log.error("the new worker does not start; the other workers are kept")
                    return
        log.warning("all workers have been replaced")

    def _run_task(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
