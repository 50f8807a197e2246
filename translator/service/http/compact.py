"""`POST /v1/responses/compact`: one turn, whose answer is a shorter conversation."""

from __future__ import annotations

import translator
from translator.service.turns.turn import Turn, Turns, in_short

from .exchange import JSON, Exchange
from .responders import notices_header


async def compact(exchange: Exchange, turns: Turns) -> None:
    """Answer with the user's messages and a compaction of all the rest."""
    with turns.place(exchange.client):
        request = translator.CompactRequest(await exchange.body())
        authorization = exchange.header("authorization")
        turn = turns.begin(exchange, request.body, authorization=authorization)
        await exchange.while_client_waits(_give(exchange, turn, request, turns))


async def _give(
    exchange: Exchange, turn: Turn, request: translator.CompactRequest, turns: Turns
) -> None:
    response = await turn.response()
    answer = translator.encode_json(request.answer(response, new_id=turns.new_id))
    notices = (*turn.notices, *request.notices)
    exchange.notices = notices
    exchange.notes = in_short(notices)
    await exchange.whole(200, answer, JSON | notices_header(notices))
