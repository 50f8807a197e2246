"""One timer bounds many waits."""

from __future__ import annotations

import asyncio

import pytest

from translator.service.base.reusable_timeout import Patience

from .wire import bounded

pytestmark = pytest.mark.anyio


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_wait_that_lasts_too_long_ends_with_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        with Patience().until(soon(0.05)):
            await bounded(asyncio.Event().wait())


async def test_many_short_waits_may_last_longer_together() -> None:
    patience = Patience()
    for _ in range(8):
        with patience.until(soon(0.2)):
            await asyncio.sleep(0.05)
    patience.close()


async def test_a_long_wait_behind_short_ones_is_bounded_too() -> None:
    patience = Patience()
    for _ in range(3):
        with patience.until(soon(0.1)):
            await asyncio.sleep(0.06)
    with pytest.raises(TimeoutError):
        with patience.until(soon(0.1)):
            await bounded(asyncio.Event().wait())
    with patience.until(soon(0.1)):  # and the next one is as free as the first
        await asyncio.sleep(0.02)
    patience.close()


async def test_a_bound_may_come_nearer() -> None:
    """The timer of a wait that was allowed to last is no excuse for the next one."""
    patience = Patience()
    with patience.until(soon(1000)):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        with patience.until(soon(0.05)):
            await bounded(asyncio.Event().wait())


async def test_a_bound_of_the_past_ends_a_wait_at_once() -> None:
    with pytest.raises(TimeoutError):
        with Patience().until(soon(-1)):
            await bounded(asyncio.Event().wait())


async def test_a_pause_between_waits_does_not_count() -> None:
    patience = Patience()
    with patience.until(soon(0.05)):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    with patience.until(soon(0.05)):
        await asyncio.sleep(0.02)
    patience.close()


@pytest.mark.parametrize("first", ["cancel", "end"])
async def test_who_is_cancelled_at_the_same_time_is_not_told_of_a_timeout(first: str) -> None:
    """A client that leaves in the moment of a heartbeat has left."""
    patience = Patience()

    def both() -> None:
        for act in (
            (task.cancel, patience.end) if first == "cancel" else (patience.end, task.cancel)
        ):
            act()

    async def wait() -> None:
        nonlocal patience
        patience = Patience()
        asyncio.get_running_loop().call_soon(both)
        with patience.until(soon(1000)):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await bounded(task)
    assert task.cancelled()
    patience.close()


async def test_a_wait_can_be_ended_from_outside() -> None:
    patience = Patience()
    asyncio.get_running_loop().call_later(0.02, patience.end)
    with pytest.raises(TimeoutError):
        with patience.until(soon(1000)):
            await bounded(asyncio.Event().wait())
    patience.end()  # nobody waits
    with patience.until(soon(1000)):
        await asyncio.sleep(0.02)
    patience.close()


async def test_who_is_cancelled_is_cancelled() -> None:
    """The wait's own end is no timeout, and a timeout is no cancellation."""
    waits = asyncio.Event()

    async def wait() -> None:
        patience = Patience()
        with patience.until(soon(30)):
            waits.set()
            try:
                await asyncio.Event().wait()
            finally:
                patience.close()

    task = asyncio.create_task(wait())
    await bounded(waits.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bounded(task)
