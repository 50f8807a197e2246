"""One timer bounds many waits."""

from __future__ import annotations

import asyncio

import pytest

from translator.service.base.reusable_timeout import ReusableTimeout

from .wire import bounded

pytestmark = pytest.mark.anyio


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_wait_that_lasts_too_long_ends_with_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        with ReusableTimeout().until(soon(0.05)):
            await bounded(asyncio.Event().wait())


async def test_many_short_waits_may_last_longer_together() -> None:
    timeout = ReusableTimeout()
    for _ in range(8):
        with timeout.until(soon(0.2)):
            await asyncio.sleep(0.05)
    timeout.close()


async def test_a_long_wait_behind_short_ones_is_bounded_too() -> None:
    timeout = ReusableTimeout()
    for _ in range(3):
        with timeout.until(soon(0.1)):
            await asyncio.sleep(0.06)
    with pytest.raises(TimeoutError):
        with timeout.until(soon(0.1)):
            await bounded(asyncio.Event().wait())
    with timeout.until(soon(0.1)):  # and the next one is as free as the first
        await asyncio.sleep(0.02)
    timeout.close()


async def test_a_bound_may_come_nearer() -> None:
    """The timer of a wait that was allowed to last is no excuse for the next one."""
    timeout = ReusableTimeout()
    with timeout.until(soon(1000)):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        with timeout.until(soon(0.05)):
            await bounded(asyncio.Event().wait())


async def test_a_bound_of_the_past_ends_a_wait_at_once() -> None:
    with pytest.raises(TimeoutError):
        with ReusableTimeout().until(soon(-1)):
            await bounded(asyncio.Event().wait())


async def test_a_pause_between_waits_does_not_count() -> None:
    timeout = ReusableTimeout()
    with timeout.until(soon(0.05)):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    with timeout.until(soon(0.05)):
        await asyncio.sleep(0.02)
    timeout.close()


@pytest.mark.parametrize("first", ["cancel", "end"])
async def test_who_is_cancelled_at_the_same_time_is_not_told_of_a_timeout(first: str) -> None:
    """A client that leaves in the moment of a heartbeat has left."""
    timeout = ReusableTimeout()

    def both() -> None:
        for act in (task.cancel, timeout.end) if first == "cancel" else (timeout.end, task.cancel):
            act()

    async def wait() -> None:
        nonlocal timeout
        timeout = ReusableTimeout()
        asyncio.get_running_loop().call_soon(both)
        with timeout.until(soon(1000)):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await bounded(task)
    assert task.cancelled()
    timeout.close()


async def test_a_wait_can_be_ended_from_outside() -> None:
    timeout = ReusableTimeout()
    asyncio.get_running_loop().call_later(0.02, timeout.end)
    with pytest.raises(TimeoutError):
        with timeout.until(soon(1000)):
            await bounded(asyncio.Event().wait())
    timeout.end()  # nobody waits
    with timeout.until(soon(1000)):
        await asyncio.sleep(0.02)
    timeout.close()


async def test_who_is_cancelled_is_cancelled() -> None:
    """The wait's own end is no timeout, and a timeout is no cancellation."""
    waits = asyncio.Event()

    async def wait() -> None:
        timeout = ReusableTimeout()
        with timeout.until(soon(30)):
            waits.set()
            try:
                await asyncio.Event().wait()
            finally:
                timeout.close()

    task = asyncio.create_task(wait())
    await bounded(waits.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bounded(task)
