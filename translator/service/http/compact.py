"""`POST /v1/responses/compact`: a turn whose answer is a shorter conversation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import translator
from translator.service.observe.record import notices_summary
from translator.service.turns.dispatcher import Dispatcher
from translator.service.turns.slices import LARGE_BYTES
from translator.service.turns.turn import Turn

from .begin import begin_turn
from .exchange import JSON, Exchange
from .responders import notices_header
from .wanted_body import wanted_body

if TYPE_CHECKING:
    from translator.service.turns.keeping import Keeping


async def compact(exchange: Exchange, dispatcher: Dispatcher) -> None:
    """Respond with the user's messages, and a compaction of the rest."""
    body = await wanted_body(exchange, dispatcher)
    with dispatcher.slot(exchange.context.client):
        if len(body) < LARGE_BYTES:
            request = translator.CompactRequest(body)
        else:
            reading = dispatcher.bounds.slices.run(partial(translator.CompactRequest, body))
            request = await exchange.while_connected(reading)
        del body  # which is not held while the answer comes

        async def read_earlier(keeping: Keeping) -> None:
            """Have what precedes the input in the answer, too: it is the whole next input."""
            work = partial(request.precede, keeping.earlier or (), keeping.context)
            await dispatcher.bounds.slices.run(work)

        turn = await begin_turn(
            exchange, dispatcher, request.body, keeps=False, read_earlier=read_earlier
        )
        async with turn:
            await exchange.while_connected(_respond(exchange, turn, request, dispatcher))


async def _respond(
    exchange: Exchange, turn: Turn, request: translator.CompactRequest, dispatcher: Dispatcher
) -> None:
    response = await turn.response()
    answer = translator.encode_json(request.answer(response, new_id=dispatcher.new_id))
    notices = (*turn.notices, *request.notices)
    exchange.record.notices = notices
    exchange.record.remarks = notices_summary(notices)
    await exchange.whole(200, answer, JSON | notices_header(notices))
