"""Slices: work on a large request, between whose parts every other task has its turn.

    loop       ── slice ──┤ all that is due ├── slice ──┤ all that is due ├── …
    thread     ██████████                    ██████████

Translating a request of megabytes takes as long as writing thousands of tokens, and would stop all
streams meanwhile. It is done in a thread, which is used as a coroutine: it runs only while the
event loop waits for it, until the first `pause()` after SLICE_S. So nothing that both use needs a
lock, and work that pauses needs no `async` down to its innermost loop.

A thread that ran beside the loop would keep the GIL for 5 ms each time: of 2,450 reads a second
uvloop got through 1,680 beside such a thread, and asyncio's own loop through 620.

One piece of work at a time, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

from translator import Translation
from translator.common.pauses import Pause, no_pause

T = TypeVar("T")

SLICE_S = 0.001
"""How long work goes on before it pauses: all others are that late. Switching between the threads
takes some 12 µs of CPU time per slice."""

LARGE_BYTES = 256 * 1024
"""Work on fewer bytes is done at once: it takes about as long as a slice and what surrounds it."""


class Slices:
    """Runs work in slices, one piece of work at a time."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def run(self, work: Callable[[Pause], T]) -> T:
        """The result of `work(pause)`, or what it raises.

        Cancelled, it ends the work at its next pause. Where no thread can be started, the work is
        done at once.
        """
        async with self._one_at_a_time:
            return await _Work(work).result()


def prepare_meanwhile(translation: Translation) -> None:
    """Prepare a translation for its answer when the request has been sent upstream.

    The next round of the event loop makes the request, the one after it writes it.
    """
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, partial(translation.prepare, no_pause))


class _Abandoned(BaseException):
    """Nobody waits for the result any more."""


class _Work(Generic[T]):
    """A piece of work, and the thread that it is done in."""

    def __init__(self, work: Callable[[Pause], T]) -> None:
        self._work = work
        self._results: list[T] = []  # one, at the end
        self._error: BaseException | None = None
        self._may_run, self._has_paused = threading.Lock(), threading.Lock()
        self._may_run.acquire()
        self._has_paused.acquire()
        self._until = 0.0
        self._over = self._abandoned = False

    async def result(self) -> T:
        within = copy_context()  # for the log
        thread = threading.Thread(
            target=within.run, args=[self._in_thread], name="slices", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # too many, or no memory for another one
            return self._work(no_pause)
        try:
            self._go_on()
            while not self._over:
                await asyncio.sleep(0)
                self._go_on()
        finally:
            if not self._over:
                self._abandoned = True
                self._go_on()
            thread.join()
        error, self._error = self._error, None
        if error is None:
            return self._results.pop()
        try:
            raise error
        finally:
            del error  # whose traceback holds this frame

    def _go_on(self) -> None:
        """Have the thread run until it pauses."""
        self._may_run.release()
        self._has_paused.acquire()

    def _in_thread(self) -> None:
        self._may_run.acquire()
        self._until = time.perf_counter() + SLICE_S
        try:
            self._results.append(self._work(self._pause))
        except BaseException as error:
            self._error = error
        del self._work  # whose result may hold `_pause`, and so would hold itself
        self._over = True
        self._has_paused.release()

    def _pause(self) -> None:
        if time.perf_counter() < self._until:
            return
        self._has_paused.release()
        self._may_run.acquire()
        if self._abandoned:
            raise _Abandoned
        self._until = time.perf_counter() + SLICE_S
