"""A supervisor of worker processes that serve on one port.

    parent = listeners, { worker }, start-up line, signals ;
    signals
        SIGTERM, SIGINT     the workers shut down; by a second one at once, a third one kills them
        SIGHUP              each worker is replaced by a new one, with the current settings

Each worker has a listening socket of its own on the same port, and the kernel spreads connections
among them as chance would (`python -m bench balance`). The parent holds all of them, so the backlog
of one survives its worker, and a new worker starts there before the old one ends: no connection is
refused.

A worker whose event loop stands still is replaced. Only time in which the parent itself runs
counts: when the machine, or all processes, were stopped for a while, no worker is to blame.

A worker is this program with two more options, so it runs the code that is installed now.

The limits of clients hold for all workers together (`access.shared_limits`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from translator.service.config.settings import Server, Settings
from translator.service.telemetry.logs import start_logging
from translator.service.telemetry.shared_metrics import shared_metrics, worker_gone

from .listeners import announce, listen, listen_for_metrics
from .own_address import check_upstreams
from .shutdown_times import END_S, IDLE_LINGER_S, SHUTDOWN_S
from .worker_channel import CLOSING, READY

START_S = 60.0
"""How long the start of a worker may take."""

KILL_S = 5.0
"""How long a worker that does not react has to end by itself."""

TICK_S = 1.0
"""Seconds between two looks at the workers."""

STOPPED_TICKS = 5
"""A look that comes so much too late shows that this process was stopped."""

MARGIN_S = SHUTDOWN_S
"""How much longer than `drain_s` the shutdown of a worker may take."""

HURRY_S = IDLE_LINGER_S + 2 * END_S + 2
"""How long it may take after a second signal."""

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
    with ExitStack() as stack:
        sockets = [*(slot.listener for slot in slots), *common]
        for sock in sockets:
            stack.enter_context(sock)
        check_upstreams(settings, sockets)
        start_logging(log_level, settings.server.log_format)
        stack.enter_context(shared_metrics())
        limits = stack.enter_context(closing(LimitsFile(MAX_GENERATIONS * len(slots))))
        gc.enable()  # `commands.serve` has it off
        return asyncio.run(_Supervisor(settings, command, slots, common, limits).run())


def listeners(server: Server) -> list[socket.socket]:
    """One socket for each worker; the same where the system does not spread connections."""
    with listen(server.host, server.port, reuse_port=server.reuse_port) as first:
        port = first.getsockname()[1]
        if not sys.platform.startswith("linux"):
            return [first.dup() for _ in range(server.workers)]
    # only now: another program's socket that shares its port would not have been noticed
    return [listen(server.host, port, reuse_port=True) for _ in range(server.workers)]


class _AwakeClock:
    """Seconds in which this process ran; those in which it was stopped do not count."""

    def __init__(self) -> None:
        self.now = 0.0

    async def tick(self) -> bool:
        """Wait for TICK_S; whether this process was stopped meanwhile."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(TICK_S)
        passed = loop.time() - began
        self.now += min(passed, 2 * TICK_S)
        return passed > STOPPED_TICKS * TICK_S


class _Worker:
    """One process, from its start to its end."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        parent: socket.socket,
        clock: _AwakeClock,
        on_end: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._process = process
        self._on_end: Callable[[], None] | None = on_end
        self._parent = parent  # when it is closed, the worker shuts down
        self._began = loop.time()
        self._clock = clock
        self._heard_at = clock.now
        self._closing = False
        self._ready: asyncio.Future[bool] = loop.create_future()
        self._listening = asyncio.create_task(self._listen())
        self.hangs = False
        """Whether its event loop stood still for too long."""
        self.pid = process.pid

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await loop.sock_recv(self._parent, 4096):
                self._heard_at = self._clock.now
                self._closing = self._closing or CLOSING in data
                if READY in data and not self._ready.done():
                    self._ready.set_result(True)
        self.give_up_start()

    async def is_ready(self) -> bool:
        """Wait until it serves; False when it does not within START_S."""
        return await self._ready

    def give_up_start(self) -> None:
        if not self._ready.done():
            self._ready.set_result(False)

    def excuse(self) -> None:
        """Count its silence from now on."""
        self._heard_at = self._clock.now

    @property
    def is_starting(self) -> bool:
        return not self._ready.done()

    @property
    def silent_s(self) -> float:
        """How long nothing was heard of it; 0 where nothing is expected."""
        return 0.0 if self._closing else self._clock.now - self._heard_at

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            # not by the process object, which would take the exit code from asyncio's own watcher
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        code = await self._process.wait()
        self._listening.cancel()
        await asyncio.wait((self._listening,))
        self.give_up_start()
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
        self._killing: set[asyncio.Task[object]] = set()
        self._replacing = asyncio.Lock()
        self._clock = _AwakeClock()
        self._signals = 0  # to stop

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, 0)
        loop.add_signal_handler(signal.SIGINT, self._stop, 130)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._run_task(self._replace_all()))
        watching = asyncio.create_task(self._watch())
        begun = await asyncio.gather(*map(self._start_in, self._slots))
        if all(begun) and not self._stopping.is_set():
            announce(self._settings, self._slots[0].listener)
        elif not self._stopping.is_set():
            log.error("the workers failed to start")
            self._stop(1)
        await self._stopping.wait()
        await self._end()
        watching.cancel()
        return self._code

    def _stop(self, code: int) -> None:
        self._signals += 1
        self._code = self._code or code
        if self._signals == 1 and code != 1:
            hint = "; press Ctrl-C again to end them now" if code else ""
            log.warning(
                "shutting down: the workers have %g s for open requests%s",
                self._settings.server.drain_s,
                hint,
            )
        elif self._signals == 2:
            asyncio.get_running_loop().call_later(HURRY_S, self._signal_all, signal.SIGKILL)
        self._stopping.set()
        # not SIGTERM twice: service managers send that to workers, too
        numbers = {1: signal.SIGTERM, 2: signal.SIGINT}
        self._signal_all(numbers.get(self._signals, signal.SIGKILL))

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._alive:
            worker.send_signal(number)

    async def _end(self) -> None:
        """Wait for the end of all workers; kill those that take too long."""
        for task in self._tasks - self._killing:
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
            if not self._stopping.is_set():
                self._kill_later(worker, KILL_S)
            self._run_task(self._reap(worker))
            return False
        old, slot.worker = slot.worker, worker
        self._run_task(self._restart(slot, worker))
        if old is not None:
            old.send_signal(signal.SIGTERM)
            self._kill_later(old, self._settings.server.drain_s + MARGIN_S)
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
        worker = _Worker(process, ours, self._clock, partial(self._limits.release_column, column))
        self._alive.add(worker)
        if self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
        return worker

    async def _restart(self, slot: _Slot, worker: _Worker) -> None:
        """Replace a worker that has ended by itself."""
        code = await self._reap(worker)
        if slot.worker is not worker or self._stopping.is_set():
            return
        if worker.age_s > STEADY_S:
            slot.delay_s = FIRST_DELAY_S
        log.error("worker %d has ended (%d); another one starts", worker.pid, code)
        while slot.worker is worker and not self._stopping.is_set():
            await asyncio.sleep(slot.delay_s)
            slot.delay_s = min(2 * slot.delay_s, MAX_DELAY_S)
            async with self._replacing:
                if slot.worker is not worker or await self._start_in(slot):
                    return
            if not self._stopping.is_set():
                text = "no worker has started in place of worker %d; tried again in %g s"
                log.error(text, worker.pid, slot.delay_s)

    async def _reap(self, worker: _Worker) -> int:
        code = await worker.wait()
        self._alive.discard(worker)
        return code

    async def _watch(self) -> None:
        """Give up workers that do not start, and replace those that do not react."""
        while True:
            was_stopped = await self._clock.tick()
            for worker in tuple(self._alive):
                if was_stopped:
                    worker.excuse()  # it was stopped, too, and may go on later than this process
                elif worker.is_starting:
                    if worker.silent_s > START_S:
                        log.error("worker %d does not start", worker.pid)
                        worker.give_up_start()
                elif worker.silent_s > self._settings.server.worker_timeout_s and not worker.hangs:
                    worker.hangs = True
                    self._end_hung(worker)

    def _end_hung(self, worker: _Worker) -> None:
        log.error("worker %d has not reacted for %.0f s", worker.pid, worker.silent_s)
        worker.send_signal(signal.SIGTERM)
        self._kill_later(worker, KILL_S)
        for slot in self._slots:
            if slot.worker is worker and not self._stopping.is_set():
                self._run_task(self._replace(slot, worker))

    async def _replace(self, slot: _Slot, worker: _Worker) -> None:
        async with self._replacing:
            if slot.worker is worker and not self._stopping.is_set():
                await self._start_in(slot)

    def _kill_later(self, worker: _Worker, seconds: float) -> None:
        """Kill a worker that is still there after some seconds in which this process runs."""
        task = self._run_task(self._kill(worker, self._clock.now + seconds))
        self._killing.add(task)
        task.add_done_callback(self._killing.discard)

    async def _kill(self, worker: _Worker, at: float) -> None:
        while self._clock.now < at:
            await asyncio.sleep(TICK_S / 4)
            if worker not in self._alive:
                return
            if worker.hangs and worker.silent_s < TICK_S * 2:
                worker.hangs = False  # it shuts down
                at = self._clock.now + self._settings.server.drain_s + MARGIN_S
        log.error("worker %d is killed", worker.pid)
        worker.send_signal(signal.SIGKILL)

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

    def _run_task(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
