"""The operator's pages of channels and prices, and of the health of the books."""

from __future__ import annotations

import re

from translator.service.accounts import changes, channel_book, price_book
from translator.service.accounts.changes import Mistake
from translator.service.accounts.keys import ALL, Channel
from translator.service.accounts.money import InvalidAmount, read_amount, read_price
from translator.service.accounts.people import audit
from translator.service.accounts.periods import read_time, shown_time
from translator.service.accounts.price_book import STANDARD, PriceRow, check_given
from translator.service.accounts.tools import is_priced_name
from translator.service.database.connection import Connection

from .requests import Response
from .visit import ROOT, View, Visit

MAX_MODELS = 500
"""Most models that a channel names."""


def channels(visit: Visit, connection: Connection) -> View:
    return visit.page(
        "edit_channels",
        "Channels",
        channels=list(channel_book.channels(connection).values()),
        edited=channel_book.channels(connection).get(visit.request.query.get("edit", "")),
        price_lists=price_book.price_lists(connection),
        unknown=channel_book.unknown_models(connection, visit.context.offer.listed),
        models=sorted(visit.context.offer.listed or ()),
    )


def set_channel(visit: Visit, connection: Connection) -> Response:
    name = visit.name("name", "the name of a channel", 100)
    models = tuple(filter(None, re.split(r"[\s,]+", visit.field("models"))))
    if not models or len(models) > MAX_MODELS:
        raise Mistake(f"a channel has from 1 to {MAX_MODELS} models, or * for all of them")
    if any(
        not one.isprintable() or len(one) > 200 or (ALL in one and one != ALL) for one in models
    ):
        raise Mistake("a model is an id of the settings, or * alone for all of them")
    channel = Channel(
        name,
        visit.field("title") or name,
        tuple(dict.fromkeys(models)),
        visit.field("price_list") or STANDARD,
    )
    if not channel.title.isprintable() or len(channel.title) > 200:
        raise Mistake("a title is printable, and has at most 200 letters")
    channel_book.set_channel(connection, channel)
    if visit.context.has_tools:
        channel_book.set_tools(connection, name, visit.tools("tools"))
    detail = f"{', '.join(models)}; {channel.price_list}"
    audit(connection, visit.session.name, "set channel", name, detail)
    return visit.see(f"{ROOT}/operator/channels", "channel")


def prices(visit: Visit, connection: Connection) -> View:
    rows = price_book.prices(connection)
    at = changes.now(connection)
    in_force: dict[tuple[str, str], int | None] = {}
    for one in rows:
        if one.from_at is not None and one.from_at <= at:
            in_force[one.price_list, one.model] = one.from_at  # the latest, by their order
    shown_rows = [(one, _state(one, in_force.get((one.price_list, one.model)))) for one in rows]
    return visit.page(
        "prices",
        "Prices",
        rows=shown_rows,
        price_lists=price_book.price_lists(connection),
        models=sorted(visit.context.offer.listed or ()),
        unpriced=sorted(
            (visit.context.offer.listed or frozenset())
            - {one.model for one in rows if one.price_list == STANDARD}
        ),
        unlisted=sorted(_unlisted(visit, {one.model for one in rows})),
    )


def _unlisted(visit: Visit, models: set[str]) -> set[str]:
    """The models, of those with a price, that the settings do not have."""
    listed = visit.context.offer.listed
    if listed is None:
        return set()
    return {model for model in models - listed if not is_priced_name(model)}


def _state(one: PriceRow, in_force: int | None) -> str:
    if in_force is None or (one.from_at or 0) > in_force:
        return "to come"
    return "in force" if one.from_at == in_force else "past"


def set_price(visit: Visit, connection: Connection) -> Response:
    model = visit.name("model", "the id of a model")
    price_list = visit.field("price_list") or STANDARD
    if not price_list.isprintable() or len(price_list) > 100:
        raise Mistake("the name of a price list is printable and short")
    given = [name for name in ("input", "output", "per_request") if visit.field(name)]
    check_given(model, given, free=bool(visit.field("free")))
    price = PriceRow(
        model,
        input=_price(visit, "input") or 0,
        output=_price(visit, "output") or 0,
        cached_input=_price(visit, "cached_input"),
        cache_write=_price(visit, "cache_write"),
        per_request=read_amount(visit.field("per_request") or "0"),
        free=bool(visit.field("free")),
        price_list=price_list,
        from_at=_time(visit),
    )
    at = price_book.set_price(connection, price, visit.session.name)
    detail = f"{model} in {price_list} from {shown_time(at)}: " + (
        "free" if price.free else ", ".join(f"{name} {visit.field(name)}" for name in given)
    )
    audit(connection, visit.session.name, "set price", model, detail)
    return visit.see(f"{ROOT}/operator/prices", "price")


def _price(visit: Visit, name: str) -> int | None:
    text = visit.field(name)
    try:
        return read_price(text) if text else None
    except InvalidAmount as problem:
        raise Mistake(f"the price: {problem}") from None


def _time(visit: Visit) -> int | None:
    text = visit.field("from_at")
    if not text:
        return None
    try:
        return read_time(text)
    except (ValueError, OverflowError):
        raise Mistake("the time is one such as 2027-01-31 12:00, in UTC") from None
