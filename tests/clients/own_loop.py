"""The event loop that `run_sync` of a client takes, and leaves open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop of this thread, closed in the end, so that no later test finds it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        loop.close()
        asyncio.set_event_loop(None)
