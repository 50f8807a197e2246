"""One timer bounds many waits."""

from __future__ import annotations

import asyncio

import pytest

from translator.service.patience import Patience

from .wire import bounded

pytestmark = pytest.mark.anyio


async def test_a_wait_that_lasts_too_long_ends_with_a_timeout() -> None:
    patience = Patience(0.05)
    with pytest.raises(TimeoutError):
        with patience:
            await bounded(asyncio.Event().wait())


async def test_many_short_waits_may_last_longer_together() -> None:
    patience = Patience(0.2)
    for _ in range(8):
        with patience:
            await asyncio.sleep(0.05)
    patience.close()


async def test_a_long_wait_behind_short_ones_is_bounded_too() -> None:
    patience = Patience(0.1)
    for _ in range(3):
        with patience:
            await asyncio.sleep(0.06)
    with pytest.raises(TimeoutError):
        with patience:
            await bounded(asyncio.Event().wait())
    with patience:  # and the next one is as free as the first
        await asyncio.sleep(0.02)
    patience.close()


async def test_a_pause_between_waits_does_not_count() -> None:
    patience = Patience(0.05)
    with patience:
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    with patience:
        await asyncio.sleep(0.02)
    patience.close()


async def test_who_is_cancelled_is_cancelled() -> None:
    """The wait's own end is no timeout, and a timeout is no cancellation."""
    patience = Patience(30)
    waits = asyncio.Event()

    async def wait() -> None:
        with patience:
            waits.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await bounded(waits.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bounded(task)
    patience.close()
