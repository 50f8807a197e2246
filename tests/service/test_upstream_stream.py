"""How an upstream's answer is waited for."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from translator.service.base.drain import Drain
from translator.service.base.errors import Stopping
from translator.service.base.sinks import ChunkSink
from translator.service.upstreams.streams import UpstreamStream

pytestmark = pytest.mark.anyio


class Last:
    """An answer of which a sink has the last piece when the service ends, in the same moment."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    async def read(self, sink: ChunkSink | None = None) -> bytes | None:
        self._drain.end()
        return None if sink is not None and not sink.push(b"the end") else b"more"

    async def aclose(self) -> None: ...


class Ended:
    """Has taken the end: whoever reads has to look."""

    def ready(self) -> bool:
        return True

    def push_framed(self, data: bytes, line: bytes, size: int) -> None: ...

    def push(self, chunk: bytes) -> bool:
        return False


async def test_the_end_that_a_sink_has_is_not_lost_as_the_service_ends() -> None:
    drain = Drain()
    answer: Any = Last(drain)

    async def opening() -> Any:
        return answer

    async with UpstreamStream(
        opening(), drain, until=math.inf, silence_s=10, progress_s=10
    ) as stream:
        await stream.answer()
        assert await asyncio.wait_for(stream.next(sink=Ended()), 5) is None
        with pytest.raises(Stopping):
            await stream.next()
