"""What a key may use and what that costs: as a hold decides it, for people to read.

The channel of a model is found by `Offer.channel`, as for each request, and its price by what a
hold reads: so the page and the bill cannot differ.
"""

from __future__ import annotations

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .bills import Price
from .keys import ALL, Channel, Key, Offer
from .rows import price_at

_NEXT = Statement(
    "SELECT id, input, cached_input, cache_write, output, per_request, free, from_at"
    " FROM acct_prices WHERE price_list = :list AND model = :model AND from_at > :at"
    " ORDER BY from_at LIMIT 1"
)


class NextPrice(Struct, frozen=True):
    """A price that holds from a later time on."""

    price: Price
    from_at: int


class Offered(Struct, frozen=True):
    """A model that a key may use; without billing there is no price."""

    model: str
    channel: Channel
    price: Price | None
    next: NextPrice | None


def offered(connection: Connection, offer: Offer, key: Key) -> list[Offered]:
    """The models that a key may use, by their ids."""
    found: list[Offered] = []
    for model in sorted(candidates(offer, key)):
        channel = offer.channel(key, model)
        if channel is None:
            continue
        price = following = None
        if offer.billing:
            price = price_at(connection, channel.price_list, model, key.read_at)
            following = next_price(connection, channel.price_list, model, key.read_at)
        found.append(Offered(model, channel, price, following))
    return found


def candidates(offer: Offer, key: Key) -> frozenset[str]:
    """The ids that a key might use: those of the settings, else those that its channels name."""
    if offer.listed is not None:
        return offer.listed
    channels = (key.catalog.channels.get(name) for name in key.channels)
    named = {model for one in channels if one is not None for model in one.models}
    return frozenset(named - {ALL})


def next_price(connection: Connection, price_list: str, model: str, at: int) -> NextPrice | None:
    """The first price of a model that holds after a time; None where none is to come."""
    values = {"list": price_list, "model": model, "at": at}
    rows = connection.execute(_NEXT, values)
    if not rows:
        return None
    [(price_id, input_, cached_input, cache_write, output, per_request, free, from_at)] = rows
    price = Price(price_id, input_, cached_input, cache_write, output, per_request, bool(free))
    return NextPrice(price, from_at)
