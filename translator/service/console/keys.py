"""API keys: made and shown once, renamed, limited, rotated, revoked.

A key is in the answer to the POST that made it, and nowhere else: not in the database, not in an
address, not in the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import asdict

from translator.service.accounts import key_book
from translator.service.accounts.ceilings import NO_CEILING, NUMBERS, Ceiling, Limits
from translator.service.accounts.changes import Mistake, now
from translator.service.accounts.channel_book import channels
from translator.service.accounts.key_book import KeyRow
from translator.service.accounts.keys import Channel
from translator.service.accounts.member_channels import (
    EVERY,
    USUAL,
    check_member_channels,
    member_channels,
    open_channels,
)
from translator.service.accounts.money import read_amount, shown
from translator.service.accounts.people import audit
from translator.service.accounts.periods import Period, read_time, shown_time
from translator.service.base.keys import new_key, store
from translator.service.config.sections import CATCH_ALL
from translator.service.database.connection import Connection

from .requests import Response
from .visit import NotHere, View, Visit

PERIODS: tuple[Period, ...] = ("day", "week", "month", "never")
_PERIODS: dict[str, Period] = {one: one for one in PERIODS}

DEFAULT_GRACE_HOURS = 24
MAX_GRACE_HOURS = 8760
HOUR_US = 3_600_000_000

MAX_NUMBER = 10**12
"""Highest limit of requests or tokens."""

MAX_NAMED = 500
"""Most models that a key names."""

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
    at = now(connection)
    rows = [(one, state_of(one, at)) for one in key_book.keys_of(connection, visit.of_account.id)]
    gone = [pair for pair in rows if pair[1] in ("revoked", "expired")]
    return visit.page(
        "keys",
        "API keys",
        keys=[pair for pair in rows if pair not in gone],
        gone=gone[: -MAX_GONE - 1 : -1],
        makes_keys=bool(usual) or not visit.is_member,
        **_of_form(visit, connection, Limits(channels=usual)),
    )


def one(visit: Visit, connection: Connection) -> View:
    """A key with its limits, and what can be done to it."""
    found = _key(visit, connection)
    return visit.page(
        "key",
        found.name,
        key=found,
        state=state_of(found, now(connection)),
        **_of_form(visit, connection, found.limits, found.tools, found.ceiling),
    )


def new(visit: Visit, connection: Connection) -> View:
    """Make a key, and show it."""
    name = visit.name("name", "the name of a key", 100)
    usual = _usual(visit, connection) or USUAL
    limits = _limits(visit, connection, Limits(channels=usual))
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
    _note(visit, connection, "limit key", found.id, _words(limits))
    return visit.see(f"{visit.home}/keys/key_{found.id}", "limited")


def ask_rotate(visit: Visit, connection: Connection) -> View:
    found = _key(visit, connection)
    at_once = visit.is_member and found.ceiling.limit_amount is not None
    hours = 0 if at_once else DEFAULT_GRACE_HOURS
    return visit.page("rotate_key", "Rotate a key", key=found, hours=hours)


def rotate(visit: Visit, connection: Connection) -> View:
    """Put a new key in the place of one, and show it."""
    found = _key(visit, connection)
    hours = _number(visit, "grace_hours", "the number of hours", 0, MAX_GRACE_HOURS)
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
    ceiling: Ceiling = NO_CEILING,
) -> dict[str, object]:
    """What the form of limits shows: what was just sent, else what is in force."""
    known = _selectable(visit, connection, limits, ceiling)
    kept = [name for name in limits.channels if name in known]
    shown_values: dict[str, str] = {
        "models": ", ".join(limits.models or ()),
        "tools": "" if tools is None else ", ".join(tools) or "none",
        "requests_per_minute": _text(limits.requests_per_minute),
        "tokens_per_minute": _text(limits.tokens_per_minute),
        "max_concurrent_requests": _text(limits.max_concurrent_requests),
        "limit_amount": "" if limits.limit_amount is None else shown(limits.limit_amount),
        "limit_period": limits.limit_period or "month",
        "expires_at": "" if limits.expires_at is None else _for_form(limits.expires_at),
    }
    checked = set(kept)
    if visit.problem and "limit_period" in visit.request.form:
        shown_values = {name: visit.field(name) for name in shown_values}
        checked = set(visit.field("channel").splitlines())
    return {
        "values": shown_values,
        "channels": [
            (known[name], name in checked)
            for name in [*kept, *(name for name in known if name not in kept)]
        ],
        "most": _most(ceiling) if visit.is_member else {},
        "periods": PERIODS,
        "models": sorted(visit.context.offer.listed or ()),
    }


def _selectable(
    visit: Visit, connection: Connection, limits: Limits, ceiling: Ceiling
) -> Mapping[str, Channel]:
    """The channels that this visitor may give a key, and those that it has, in the form's order."""
    known = channels(connection)
    names: Iterable[str] = sorted(known)
    if visit.is_member:
        names = ceiling.channels or open_channels(connection, visit.of_account.id)
    return {name: known[name] for name in [*limits.channels, *names] if name in known}


def _usual(visit: Visit, connection: Connection) -> tuple[str, ...]:
    """The channels that a new key has where its form says none."""
    allowed = member_channels(connection, visit.of_account.id)
    return open_channels(connection, visit.of_account.id) if allowed != EVERY else USUAL


def _most(ceiling: Ceiling) -> dict[str, str]:
    """What the fields of the form say of an operator's limits."""
    said: dict[str, str] = {}
    for name in NUMBERS:
        if (most := getattr(ceiling, name)) is not None:
            said[name] = f"{most:,}"
    if ceiling.limit_amount is not None:
        said["limit_amount"] = f"{shown(ceiling.limit_amount)} per {ceiling.limit_period}"
    if ceiling.expires_at is not None:
        said["expires_at"] = shown_time(ceiling.expires_at)
    for name, names in (("models", ceiling.models), ("tools", ceiling.tools)):
        if names is not None:
            said[name] = ", ".join(names) or "none"
    return said


def _for_form(at: int) -> str:
    """A time as a field of a form has it."""
    return shown_time(at)[:16].replace(" ", "T")


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _limits(visit: Visit, connection: Connection, before: Limits) -> Limits:
    """The limits of the form; raises Mistake and InvalidAmount."""
    amount = read_amount(visit.field("limit_amount")) if visit.field("limit_amount") else None
    if amount is not None and amount < 0:
        raise Mistake("a limit is 0 or more")
    period = _PERIODS.get(visit.field("limit_period"))
    if amount is not None and period is None:
        raise Mistake("a limit is of a day, a week, a month, or for ever")
    return Limits(
        channels=_channels(visit, connection, before),
        models=_models(visit),
        requests_per_minute=_number(visit, "requests_per_minute", "the limit of requests"),
        tokens_per_minute=_number(visit, "tokens_per_minute", "the limit of tokens"),
        max_concurrent_requests=_number(
            visit, "max_concurrent_requests", "the limit of requests at once"
        ),
        limit_amount=amount,
        limit_period=period if amount is not None else None,
        expires_at=_expiry(visit, before),
    )


def _channels(visit: Visit, connection: Connection, before: Limits) -> tuple[str, ...]:
    """The channels of the form. Those that the key has keep their order, which is of the prices."""
    if "channel" not in visit.request.form and "channels" not in visit.request.form:
        return before.channels
    wanted = visit.field("channel").splitlines()
    kept = [name for name in before.channels if name in wanted]
    found = tuple(dict.fromkeys(kept + wanted))
    if not found:
        raise Mistake("a key needs a channel")
    if len(found) > len(channels(connection)):
        raise Mistake("there are not so many channels")
    return found


def _models(visit: Visit) -> tuple[str, ...] | None:
    names = tuple(filter(None, re.split(r"[\s,]+", visit.field("models"))))
    if len(names) > MAX_NAMED:
        raise Mistake(f"a key names at most {MAX_NAMED} models")
    known = visit.context.offer.listed
    for name in names:
        if CATCH_ALL in name or not name.isprintable() or len(name) > 200:
            raise Mistake(f"{name[:200]!r} is no name of a model")
        if known is not None and name not in known:
            raise Mistake(f"there is no model {name!r}")
    return names or None


def _number(
    visit: Visit, name: str, what: str, least: int = 1, most: int = MAX_NUMBER
) -> int | None:
    text = visit.field(name).replace(" ", "").replace(",", "").replace("\u202f", "")
    if not text:
        return None
    digits = text.lstrip("0") or "0"  # the zeros cost nothing; more digits than MAX_NUMBER's do
    if not (text.isascii() and text.isdigit() and len(digits) <= 20):
        digits = ""
    if not digits or not least <= int(digits) <= most:
        raise Mistake(f"{what} is a whole number from {least} to {most}, or empty")
    return int(digits)


def _expiry(visit: Visit, before: Limits) -> int | None:
    text = visit.field("expires_at")
    if not text:
        return None
    if before.expires_at is not None and text == _for_form(before.expires_at):
        return before.expires_at  # of which the form shows no seconds
    try:
        return read_time(text)
    except (ValueError, OverflowError):
        raise Mistake("the time is one such as 2027-01-31 12:00, in UTC") from None


def _words(limits: Limits) -> str:
    """The limits in an entry of the audit log."""
    parts = [f"channels {', '.join(limits.channels)}"]
    parts += [f"models {', '.join(limits.models)}"] if limits.models is not None else []
    numbers = {
        "requests/min": limits.requests_per_minute,
        "tokens/min": limits.tokens_per_minute,
        "at once": limits.max_concurrent_requests,
    }
    parts += [f"{number} {unit}" for unit, number in numbers.items() if number is not None]
    if limits.limit_amount is not None:
        parts.append(f"{shown(limits.limit_amount)} per {limits.limit_period}")
    if limits.expires_at is not None:
        parts.append(f"until {shown_time(limits.expires_at)}")
    return "; ".join(parts)
