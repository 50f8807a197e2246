"""The bounds of a turn: the limits of the settings, applied to streams from upstreams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from translator.service.base.drain import Drain
from translator.service.config.settings import Server
from translator.service.observe.context import RequestContext
from translator.service.upstreams.client import Answer, Upstreams
from translator.service.upstreams.streams import UpstreamStream

from .held import HeldBytes
from .slices import Slices


class TurnBounds:
    """The upstreams, how long an exchange with one may take, and what goes on meanwhile."""

    def __init__(
        self, server: Server, upstreams: Upstreams, drain: Drain, timer: Callable[[], float]
    ) -> None:
        """`timer` measures durations, in seconds; deadlines are by the loop's own clock."""
        self.held = HeldBytes(server.max_held_bytes)
        self.passing = set[RequestContext]()
        """The chat requests that are passed through now; turns are known to `held`."""
        self.slices = Slices()
        self.server = server
        self.upstreams = upstreams
        self.drain = drain
        self.timer = timer

    def deadline(self) -> float:
        """When an exchange that begins now must end, by the loop's clock."""
        return asyncio.get_running_loop().time() + self.server.exchange_timeout_s

    def stream(
        self,
        opening: Coroutine[Any, Any, Answer],
        deadline: float | None = None,
        first_s: float | None = None,
    ) -> UpstreamStream:
        """The answer that `opening` gets, as a stream within all bounds.

        `first_s` is how long its first byte may take, where that is less than others may.
        """
        return UpstreamStream(
            opening,
            self.drain,
            until=self.deadline() if deadline is None else deadline,
            silence_s=self.server.read_timeout_s,
            progress_s=self.server.progress_timeout_s,
            first_s=first_s,
        )
