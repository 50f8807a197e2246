"""The body of a request, which is not read where there is no slot for the request.

The log and the live view name the model of a request that is refused for that, too, if it is known
without waiting for anything.
"""

from __future__ import annotations

from translator.service.turns.dispatcher import Dispatcher, model_in
from translator.wire.errors import TranslatorError

from .exchange import Exchange


async def wanted_body(exchange: Exchange, dispatcher: Dispatcher) -> bytes:
    """The body; a slot, which is to be taken next, is free.

    Raises TooManyRequests, LimitReached, and what `Exchange.body` raises.
    """
    _check_slot(exchange, dispatcher, None)
    body = await exchange.body()
    _check_slot(exchange, dispatcher, body)
    return body


def _check_slot(exchange: Exchange, dispatcher: Dispatcher, body: bytes | None) -> None:
    try:
        dispatcher.check_slot(exchange.context.client)
    except TranslatorError:
        exchange.record.model = model_in(exchange.body_at_once() or b"" if body is None else body)
        raise
