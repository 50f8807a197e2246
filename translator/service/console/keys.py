"""API keys: made and shown once, renamed, limited, rotated, revoked.

A key is in the answer to the POST that made it, and nowhere else: not in the database, not in an
address, not in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import asdict, replace

from translator.service.accounts import key_book
from translator.service.accounts.ceilings import NO_CEILING, Ceiling, Limits
from translator.service.accounts.changes import Mistake, now
from translator.service.accounts.channel_book import channels
from translator.service.accounts.key_book import KeyRow
from translator.service.accounts.keys import Channel
from translator.service.accounts.member_channels import (
    EVERY,
    USUAL,
    channels_of,
    check_member_channels,
    open_channels,
)
from translator.service.accounts.people import audit
from translator.service.accounts.periods import shown_time
from translator.service.base.keys import new_key, store
from translator.service.database.connection import Connection

from .limit_form import (
    PERIODS,
    read_limits,
    read_number,
    shown_most,
    shown_values,
    was_sent,
    words,
)
from .requests import Response
from .visit import NotHere, View, Visit

DEFAULT_GRACE_HOURS = 24
MAX_GRACE_HOURS = 8760
HOUR_US = 3_600_000_000

PLACE = "place "
"""What the name of a field begins with that has the place of a channel among those of a key."""

LAST = 10**13
"""After all places that a form can name."""

MAX_GONE = 100
"""Keys shown that are no longer in use, the latest ones."""


def state_of(one: KeyRow, at: int) -> str:
    """What has become of a key, in a word."""
    if one.revoked_at is not None:
        return "revoked"
    if one.limits.expires_at is not None and one.limits.expires_at <= at:
        return "expired"
    return "replaced" if one.replaced_by is not None else "active"


def listed(visit: Visit, connection: Connection) -> View:
    """The keys of an account, and the form for a new one."""
    usual = _usual(visit, connection)
    bounds = visit.of_account.ceiling
    at = now(connection)
    rows = [(one, state_of(one, at)) for one in key_book.keys_of(connection, visit.of_account.id)]
    gone = [pair for pair in rows if pair[1] in ("revoked", "expired")]
    return visit.page(
        "keys",
        "API keys",
        keys=[pair for pair in rows if pair not in gone],
        gone=gone[: -MAX_GONE - 1 : -1],
        makes_keys=bool(usual.channels) or not visit.is_member,
        **_of_form(visit, connection, usual, bounds.tools if visit.is_member else None, bounds),
    )


def one(visit: Visit, connection: Connection) -> View:
    """A key with its limits, and what can be done to it."""
    found = _key(visit, connection)
    return visit.page(
        "key",
        found.name,
        key=found,
        state=state_of(found, now(connection)),
        **_of_form(visit, connection, found.limits, found.tools, found.bounds),
    )


def new(visit: Visit, connection: Connection) -> View:
    """Make a key, and show it."""
    name = visit.name("name", "the name of a key", 100)
    usual = _usual(visit, connection)
    limits = _limits(visit, connection, replace(usual, channels=usual.channels or USUAL))
    _check_channels(visit, connection, limits, ())
    text = new_key()
    made = key_book.add_key(
        connection,
        visit.of_account.name,
        name,
        store(text),
        limits,
        by_member=visit.is_member,
    )
    if visit.context.has_tools:
        added = key_book.key_of_id(connection, made)
        key_book.set_tools(connection, added, visit.tools("tools"), by_member=visit.is_member)
    _note(visit, connection, "add key", made, name)
    return visit.page("new_key", "Your new key", key_id=made, name=name, key=text, until=None)


def rename(visit: Visit, connection: Connection) -> Response:
    found = _usable(visit, connection)
    name = visit.name("name", "the name of a key", 100)
    key_book.rename(connection, found, name)
    _note(visit, connection, "rename key", found.id, f"{found.name} to {name}")
    return visit.see(f"{visit.home}/keys/key_{found.id}", "renamed")


def limit(visit: Visit, connection: Connection) -> Response:
    found = _usable(visit, connection)
    limits = _limits(visit, connection, found.limits)
    _check_channels(visit, connection, limits, found.ceiling.channels or found.limits.channels)
    before, after = asdict(found.limits), asdict(limits)
    named = [name for name in after if after[name] != before[name]]
    key_book.set_limits(connection, found, limits, named=named, by_member=visit.is_member)
    if visit.context.has_tools and (tools := visit.tools("tools")) != found.tools:
        key_book.set_tools(connection, found, tools, by_member=visit.is_member)
    said = "; ".join([f"channels {', '.join(limits.channels)}", *words(limits)])
    _note(visit, connection, "limit key", found.id, said)
    return visit.see(f"{visit.home}/keys/key_{found.id}", "limited")


def ask_rotate(visit: Visit, connection: Connection) -> View:
    found = _key(visit, connection)
    at_once = visit.is_member and found.bounds.limit_amount is not None
    hours = 0 if at_once else DEFAULT_GRACE_HOURS
    return visit.page("rotate_key", "Rotate a key", key=found, hours=hours)


def rotate(visit: Visit, connection: Connection) -> View:
    """Put a new key in the place of one, and show it."""
    found = _key(visit, connection)
    hours = read_number(visit, "grace_hours", "the number of hours", 0, MAX_GRACE_HOURS)
    text = new_key()
    grace_us = (DEFAULT_GRACE_HOURS if hours is None else hours) * HOUR_US
    made, until = key_book.rotate(
        connection, found, store(text), grace_us, by_member=visit.is_member
    )
    _note(visit, connection, "rotate key", found.id, f"key_{made}, {shown_time(until)}")
    return visit.page(
        "new_key", "Your new key", key_id=made, name=found.name, key=text, until=until
    )


def ask_revoke(visit: Visit, connection: Connection) -> View:
    return visit.page("revoke_key", "Revoke a key", key=_key(visit, connection))


def revoke(visit: Visit, connection: Connection) -> Response:
    found = _key(visit, connection)
    key_book.revoke(connection, found)
    _note(visit, connection, "revoke key", found.id, found.name)
    return visit.see(f"{visit.home}/keys", "revoked")


def _limits(visit: Visit, connection: Connection, before: Limits) -> Limits:
    """The limits of the form; raises Mistake and InvalidAmount."""
    found = read_limits(visit, before)
    return replace(found, channels=_channels(visit, connection, before))


def _key(visit: Visit, connection: Connection) -> KeyRow:
    """The key of the path; raises NotHere for that of another account."""
    found = key_book.key_of(connection, visit.of_account.id, visit.ids["key"])
    if found is None:
        raise NotHere
    return found


def _usable(visit: Visit, connection: Connection) -> KeyRow:
    found = _key(visit, connection)
    if found.revoked_at is not None:
        raise Mistake("the key is revoked, for ever")
    return found


def _check_channels(
    visit: Visit, connection: Connection, limits: Limits, before: tuple[str, ...]
) -> None:
    """Raise Mistake where a member gives a key a channel that is not for the account."""
    if visit.is_member:
        check_member_channels(connection, visit.of_account.id, limits.channels, before)


def _note(visit: Visit, connection: Connection, action: str, key: int, detail: str) -> None:
    subject = f"acct_{visit.of_account.id}/key_{key}"
    audit(connection, visit.session.name, action, subject, detail)


# --- the form of the limits ----------------------------------------------------------------------


def _of_form(
    visit: Visit,
    connection: Connection,
    limits: Limits,
    tools: tuple[str, ...] | None = None,
    bounds: Ceiling = NO_CEILING,
) -> dict[str, object]:
    """What the form of limits shows: what was just sent, else what is in force."""
    known = _selectable(visit, connection, limits, bounds)
    kept = [name for name in limits.channels if name in known]
    checked, places = set(kept), {name: str(place) for place, name in enumerate(kept, 1)}
    if was_sent(visit):
        checked = set(visit.field("channel").splitlines())
        places = {name: visit.field(f"{PLACE}{name}") for name in known}
    return {
        "values": shown_values(visit, limits, tools),
        "channels": [
            (known[name], name in checked, places.get(name, ""))
            for name in [*kept, *(name for name in known if name not in kept)]
        ],
        "ordered": not (visit.is_member and bounds.channels is not None),
        "most": shown_most(bounds) if visit.is_member else {},
        "periods": PERIODS,
        "models": sorted(visit.context.offer.listed or ()),
    }


def _selectable(
    visit: Visit, connection: Connection, limits: Limits, bounds: Ceiling
) -> Mapping[str, Channel]:
    """The channels that this visitor may give a key, and those that it has, in the form's order."""
    known = channels(connection)
    names: Iterable[str] = sorted(known)
    if visit.is_member:
        names = bounds.channels or open_channels(connection, visit.of_account.id)
    return {name: known[name] for name in [*limits.channels, *names] if name in known}


def _usual(visit: Visit, connection: Connection) -> Limits:
    """The limits that the form of a new key begins with."""
    allowed = channels_of(visit.of_account)
    usual = open_channels(connection, visit.of_account.id) if allowed != EVERY else USUAL
    if not visit.is_member:
        return Limits(channels=usual)
    most: dict[str, Any] = asdict(visit.of_account.ceiling) | {"channels": usual}
    del most["tools"]
    return Limits(**most)


def _channels(visit: Visit, connection: Connection, before: Limits) -> tuple[str, ...]:
    """The channels of the form, in order of their places: it says which price list counts.

    Without places, those that the key has keep their order.
    """
    if "channel" not in visit.request.form and "channels" not in visit.request.form:
        return before.channels
    wanted = visit.field("channel").splitlines()
    kept = [name for name in before.channels if name in wanted]
    found = list(dict.fromkeys(kept + wanted))
    if not found:
        raise Mistake("a key needs a channel")
    if len(found) > len(channels(connection)):
        raise Mistake("there are not so many channels")
    places = {
        name: read_number(visit, f"{PLACE}{name}", "the place of a channel") for name in found
    }
    given = [place for place in places.values() if place is not None]
    for place in given:
        if given.count(place) > 1:
            raise Mistake(f"two channels have the place {place}")
    return tuple(sorted(found, key=lambda name: places[name] or LAST))
