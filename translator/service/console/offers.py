"""Available channels: the models of each key, what they are, and what they cost."""

from __future__ import annotations

from translator.service.accounts import key_book
from translator.service.accounts.changes import now
from translator.service.accounts.key_book import KeyRow
from translator.service.accounts.keys import read_key
from translator.service.accounts.offers import Offered, offered
from translator.service.database.connection import Connection

from .keys import state_of
from .visit import View, Visit


def usable_keys(visit: Visit, connection: Connection) -> list[KeyRow]:
    """The keys of the account that work, oldest first."""
    at = now(connection)
    found = key_book.keys_of(connection, visit.of_account.id)
    return [one for one in found if state_of(one, at) in ("active", "replaced")]


def chosen(visit: Visit, keys: list[KeyRow]) -> KeyRow | None:
    """The key that the address names, else the first one."""
    named = visit.request.query.get("key", "")
    return next((one for one in keys if f"key_{one.id}" == named), keys[0] if keys else None)


def offers_of(visit: Visit, connection: Connection, one: KeyRow) -> list[Offered]:
    """What a key may use, in the order of the settings."""
    offer = visit.context.offer
    found = read_key(connection, one.salt, billing=offer.billing)
    if found is None:
        return []
    order = {name: number for number, name in enumerate(visit.context.models)}
    rows = offered(connection, offer, found)
    return sorted(rows, key=lambda row: order.get(row.model, len(order)))


def offers(visit: Visit, connection: Connection) -> View:
    keys = usable_keys(visit, connection)
    key = chosen(visit, keys)
    found = [] if key is None else offers_of(visit, connection, key)
    return visit.page(
        "channels",
        "Available channels",
        keys=keys,
        key=key,
        offers=[(one, visit.context.models.get(one.model)) for one in found],
        any_model=visit.context.offer.listed is None,
    )
