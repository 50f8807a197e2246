"""One timer bounds many waits.

The loop's clock stands still while there is something to do, and jumps to the next timer then: the
times are exact, on a machine of any load.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

from translator.service.base.reusable_timeout import ReusableTimeout


class Clock(selectors.SelectSelector):
    """A selector that moves a clock on instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits, and there is no timer")
        if not ready and timeout is not None:
            self.now += max(timeout, 0)
        return ready


class ClockedLoop(asyncio.SelectorEventLoop):
    """An event loop with such a clock."""

    def __init__(self) -> None:
        self._clock = Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=ClockedLoop) as runner:
        runner.run(test)


def now() -> float:
    return asyncio.get_running_loop().time()


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_wait_that_lasts_too_long_ends_with_a_timeout() -> None:
    async def waits() -> None:
        with pytest.raises(TimeoutError):
            with ReusableTimeout().until(5):
                await forever()
        assert now() == pytest.approx(5)

    run(waits())


def test_many_short_waits_may_last_longer_together() -> None:
    async def waits() -> None:
        timeout = ReusableTimeout()
        for _ in range(8):
            with timeout.until(now() + 10):
                await asyncio.sleep(9)
        assert now() == pytest.approx(72)
        timeout.close()

    run(waits())


def test_a_long_wait_behind_short_ones_is_bounded_too() -> None:
    async def waits() -> None:
        timeout = ReusableTimeout()
        for _ in range(3):
            with timeout.until(now() + 10):
                await asyncio.sleep(6)
        with pytest.raises(TimeoutError):
            with timeout.until(now() + 10):
                await forever()
        assert now() == pytest.approx(28)
        with timeout.until(now() + 10):  # and the next one is as free as the first
            await asyncio.sleep(9)
        timeout.close()

    run(waits())


def test_a_bound_may_come_nearer() -> None:
    """The timer of a wait that was allowed to last is no excuse for the next one."""

    async def waits() -> None:
        timeout = ReusableTimeout()
        with timeout.until(1000):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            with timeout.until(5):
                await forever()
        assert now() == pytest.approx(5)

    run(waits())


def test_a_bound_of_the_past_ends_a_wait_at_once() -> None:
    async def waits() -> None:
        await asyncio.sleep(3)
        with pytest.raises(TimeoutError):
            with ReusableTimeout().until(2):
                await forever()
        assert now() == pytest.approx(3)

    run(waits())


def test_a_pause_between_waits_does_not_count() -> None:
    async def waits() -> None:
        timeout = ReusableTimeout()
        with timeout.until(now() + 5):
            await asyncio.sleep(0)
        await asyncio.sleep(10)
        with timeout.until(now() + 5):
            await asyncio.sleep(4)
        assert now() == pytest.approx(14)
        timeout.close()

    run(waits())


@pytest.mark.parametrize("first", ["cancel", "end"])
def test_who_is_cancelled_at_the_same_time_is_not_told_of_a_timeout(first: str) -> None:
    """A client that leaves in the moment of a heartbeat has left."""

    async def waits() -> None:
        task = asyncio.create_task(forever_bounded())
        await asyncio.sleep(0)
        acts = [task.cancel, timeouts[0].end]
        for act in acts if first == "cancel" else reversed(acts):
            act()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        timeouts[0].close()

    timeouts: list[ReusableTimeout] = []

    async def forever_bounded() -> None:
        timeouts.append(ReusableTimeout())
        with timeouts[0].until(1000):
            await forever()

    run(waits())


def test_a_wait_can_be_ended_from_outside() -> None:
    async def waits() -> None:
        timeout = ReusableTimeout()
        asyncio.get_running_loop().call_later(2, timeout.end)
        with pytest.raises(TimeoutError):
            with timeout.until(1000):
                await forever()
        assert now() == pytest.approx(2)
        timeout.end()  # nobody waits
        with timeout.until(1000):
            await asyncio.sleep(2)
        timeout.close()

    run(waits())


def test_who_is_cancelled_is_cancelled() -> None:
    """The wait's own end is no timeout, and a timeout is no cancellation."""

    async def wait() -> None:
        timeout = ReusableTimeout()
        with timeout.until(30):
            try:
                await forever()
            finally:
                timeout.close()

    async def waits() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == pytest.approx(1)

    run(waits())
