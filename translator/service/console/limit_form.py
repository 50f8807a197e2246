"""The form of limits, of a key or of those that members make: what it shows, and what was sent."""

from __future__ import annotations

import re
from typing import TypeVar

from msgspec.structs import replace

from translator.service.accounts.ceilings import NUMBERS, Ceiling, Limits
from translator.service.accounts.changes import Mistake
from translator.service.accounts.money import read_amount, shown
from translator.service.accounts.periods import Period, read_time, shown_time
from translator.service.config.sections import CATCH_ALL

from .visit import Visit

PERIODS: tuple[Period, ...] = ("day", "week", "month", "never")
_PERIODS: dict[str, Period] = {one: one for one in PERIODS}

MAX_NUMBER = 10**12
"""Highest limit of requests or tokens."""

MAX_NAMED = 500
"""Most models that a key names."""

_NUMBER = re.compile(r"[0-9]+|[0-9]{1,3}([ ,\u00a0\u202f])[0-9]{3}(?:\1[0-9]{3})*")
"""Digits, or groups of three: 1,2,3 is no number."""

_NOUNS = {
    "requests_per_minute": "the limit of requests",
    "tokens_per_minute": "the limit of tokens",
    "max_concurrent_requests": "the limit of requests at once",
}

T = TypeVar("T", Ceiling, Limits)


def shown_values(
    visit: Visit, limits: Ceiling | Limits, tools: tuple[str, ...] | None
) -> dict[str, str]:
    """What the fields show: what was just sent and could not be taken, else what is in force."""
    found = {name: _text(getattr(limits, name)) for name in NUMBERS} | {
        "models": ", ".join(limits.models or ()),
        "tools": "" if tools is None else ", ".join(tools) or "none",
        "limit_amount": "" if limits.limit_amount is None else shown(limits.limit_amount),
        "limit_period": limits.limit_period or "month",
        "expires_at": "" if limits.expires_at is None else _for_form(limits.expires_at),
    }
    return {name: visit.field(name) for name in found} if was_sent(visit) else found


def was_sent(visit: Visit) -> bool:
    """Whether the page shows this form again, because it could not be taken."""
    return bool(visit.problem) and "limit_period" in visit.request.form


def read_limits(visit: Visit, before: T) -> T:
    """Limits, or a ceiling, as the form has them; raises Mistake and InvalidAmount."""
    amount, period = _money(visit, before)
    return replace(
        before,
        models=_models(visit),
        limit_amount=amount,
        limit_period=period,
        expires_at=_expiry(visit, before.expires_at),
        **{name: read_number(visit, name, noun) for name, noun in _NOUNS.items()},
    )


def read_number(
    visit: Visit, name: str, what: str, least: int = 1, most: int = MAX_NUMBER
) -> int | None:
    """A number of the form, None for an empty field; raises Mistake."""
    text = visit.field(name)
    if not text:
        return None
    digits = re.sub(r"[^0-9]", "", text).lstrip("0") or "0"  # more than MAX_NUMBER's cost time
    if len(digits) > 20 or not _NUMBER.fullmatch(text) or not least <= int(digits) <= most:
        raise Mistake(
            f"{what} is a whole number from {least} to {most}, such as 1000 or 1,000, or empty"
        )
    return int(digits)


def shown_most(ceiling: Ceiling) -> dict[str, str]:
    """What the fields say of an operator's limits."""
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


def words(limits: Ceiling | Limits) -> list[str]:
    """The limits in an entry of the audit log, without channels and tools."""
    parts = [f"models {', '.join(limits.models)}"] if limits.models is not None else []
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
    return parts


def _money(visit: Visit, before: Ceiling | Limits) -> tuple[int | None, Period | None]:
    """The amount and its period; where requests cost nothing no field has them, and they stay."""
    if not visit.context.section.billing:
        return before.limit_amount, before.limit_period
    if not visit.field("limit_amount"):
        return None, None
    amount = read_amount(visit.field("limit_amount"))
    if amount < 0:
        raise Mistake("a limit is 0 or more")
    period = _PERIODS.get(visit.field("limit_period"))
    if period is None:
        raise Mistake("a limit is of a day, a week, a month, or for ever")
    return amount, period


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


def _expiry(visit: Visit, before: int | None) -> int | None:
    text = visit.field("expires_at")
    if not text:
        return None
    if before is not None and text == _for_form(before):
        return before  # of which the form shows no seconds
    try:
        return read_time(text)
    except (ValueError, OverflowError):
        raise Mistake("the time is one such as 2027-01-31 12:00, in UTC") from None


def _for_form(at: int) -> str:
    """A time as a field of a form has it."""
    return shown_time(at)[:16].replace(" ", "T")


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
