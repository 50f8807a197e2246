"""The beginning of a turn over HTTP, which ends with its client where it takes a while."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from translator.service.turns.dispatcher import Dispatcher
from translator.service.turns.slices import LARGE_BYTES
from translator.service.turns.turn import Turn

from .exchange import Exchange

if TYPE_CHECKING:
    from translator.service.turns.keeping import Keeping


_MCP = b'"mcp"'
"""What the declaration of an MCP server has, which is asked for its tools."""


async def begin_turn(
    exchange: Exchange,
    dispatcher: Dispatcher,
    body: bytes,
    *,
    keeps: bool = True,
    read_earlier: Callable[[Keeping], Coroutine[Any, Any, None]] | None = None,
) -> Turn:
    """The turn of a request; nothing has been sent upstream yet.

    `keeps`: a store may keep the response, and it may be produced in the background. `read_earlier`
    is given the store's part while it has the context. Raises what `Dispatcher.begin` raises, and
    ClientLeft.
    """
    authorization = exchange.authorization()
    beginning = dispatcher.begin(
        exchange.context, body, authorization=authorization, keeps=keeps, may_run=keeps
    )
    may_wait = len(body) >= LARGE_BYTES or (dispatcher.hosting is not None and _MCP in body)
    turn = await (exchange.while_connected(beginning) if may_wait else beginning)
    if turn.keeping is not None:
        if read_earlier is not None:
            await read_earlier(turn.keeping)
        turn.keeping.forget_earlier()
    return turn
