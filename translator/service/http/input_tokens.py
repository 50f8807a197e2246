"""`POST /v1/responses/input_tokens`: the tokens of a request, which is translated and not sent."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from translator.service.turns.dispatcher import Dispatcher
from translator.service.turns.turn import Turn

from .begin import begin_turn
from .exchange import JSON, Exchange
from .responders import notices_header
from .wanted_body import wanted_body

COUNT_HEADER = "x-translator-token-count"
"""The header that says how they were counted: `exact` or `estimate`."""


class InputTokens(Struct, frozen=True, kw_only=True):
    """The number of tokens that a request has."""

    object: str = "response.input_tokens"
    input_tokens: int


async def input_tokens(exchange: Exchange, dispatcher: Dispatcher) -> None:
    """Respond with the tokens of the chat request that this request becomes."""
    body = await wanted_body(exchange, dispatcher)
    with dispatcher.slot(exchange.context.client):
        turn = await begin_turn(exchange, dispatcher, body, keeps=False)
        del body
        async with turn:
            await exchange.while_connected(_respond(exchange, turn, dispatcher))


async def _respond(exchange: Exchange, turn: Turn, dispatcher: Dispatcher) -> None:
    authorization = exchange.authorization()
    counted = await dispatcher.counter.count(turn.route, turn.chat_body, authorization)
    exchange.context.note(turn.notices)
    how = {COUNT_HEADER: "exact" if counted.exact else "estimate"}
    answer = msgspec.json.encode(InputTokens(input_tokens=counted.tokens))
    await exchange.whole(200, answer, JSON | how | notices_header(turn.notices))
