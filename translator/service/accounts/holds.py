"""Holds: every limit of a request is checked, and taken, in one transaction.

    key in use, requests at once, requests and tokens of the minute, money of key and account

A refusal is a result, and no error: it has changed nothing, so that others in its transaction are
not harmed. A hold can be done twice, since the outcome of a commit may be unknown.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from translator.service.database.connection import Connection

from . import statements as sql
from .allowances import Allowance
from .bills import Price, base, most
from .periods import Period, next_period, period_start
from .rows import read_allowances, read_price, write_allowance
from .settlements import undo
from .tools import ToolCalls

HOUR_US = 3_600_000_000

Why = Literal[
    "stale",
    "unknown",
    "revoked",
    "expired",
    "suspended",
    "unpriced",
    "concurrent",
    "requests",
    "tokens",
    "balance",
    "key_limit",
    "unsettled",
    "gone",
]
"""Why a hold is refused; `stale`: what is known of the key must be read again; `unsettled`: it may
be paid for by what settlements release. An extension is refused, too, where its hold is `gone`: the
process was taken for dead."""


class Wanted(Struct, frozen=True, kw_only=True):
    """The tokens that money is held for."""

    input_tokens: int = 0
    choices: int = 1
    asked: int | None = None
    """The limit of an answer that the client asks for."""

    model_limit: int | None = None
    default_limit: int = 0
    """Where neither limits it."""

    least_limit: int = 1
    """The least tokens of an answer that must be affordable."""


class HoldRequest(Wanted, frozen=True, kw_only=True):
    """What a hold is asked for."""

    token: str
    """A random name of this hold, by which it is found where its commit is unknown."""

    boot: str
    account: int
    key: int
    generation: int
    """That of what is known of the key."""

    model: str
    channel: str
    endpoint: str
    request_id: str
    tokens: int
    """Tokens that are taken from the allowance of the minute."""

    price_list: str | None = None
    """None: nothing costs money."""

    counts_only: bool = False
    """Whether the request only has its tokens counted, which is free."""

    calls: ToolCalls | None = None
    """The calls of a tool that it is for, in place of an answer of a model."""

    released: int = 0
    """Money that settlements which wait give back to the account: it is told, and not yet held."""


class Held(Struct, frozen=True, kw_only=True):
    """A hold that was made."""

    id: int
    tokens: int
    amount: int = 0
    price: Price | None = None
    max_output_tokens: int | None = None
    """The limit of the answer where there is less money than asked for."""

    left: int | None = None
    """Money that the key could use before, in pico."""

    allowances: tuple[Allowance, ...] = ()


class Refused(Struct, frozen=True, kw_only=True):
    """A hold that was not made."""

    why: Why
    wait_us: int = 0
    limit: int = 0
    next_period: int | None = None
    left: int | None = None
    allowances: tuple[Allowance, ...] = ()


def hold(connection: Connection, ask: HoldRequest, *, again: bool) -> Held | Refused:
    """Hold what a request may cost; `again`: it may have been done before."""
    if again:
        undo(connection, ask.token)
    values = {"account": ask.account, "key": ask.key, "list": ask.price_list, "model": ask.model}
    rows = connection.execute(sql.ACCOUNT_KEY_AND_PRICE, values)
    if not rows:
        return Refused(why="unknown")
    [(balance, held, credit, suspended_at, generation, now, revoked_at, expires_at, *more)] = rows
    per_minute, tokens_per_minute, most_open, limit_amount, limit_period, *more = more
    period_began, spent, open_, used_at, *of_price = more
    if revoked_at is not None:
        return Refused(why="revoked")
    if expires_at is not None and expires_at <= now:
        return Refused(why="expired")
    if suspended_at is not None:
        return Refused(why="suspended")
    calls = ask.calls
    within = calls is not None and calls.parent is not None  # of what its request was held for
    if generation != ask.generation and not within:
        return Refused(why="stale")
    if most_open is not None and open_ >= most_open and not within:
        return Refused(why="concurrent", limit=most_open)
    if within:
        per_minute = tokens_per_minute = None
    allowances = read_allowances(connection, ask.key, per_minute, tokens_per_minute, now)
    tokens = ask.tokens if tokens_per_minute is None else min(ask.tokens, tokens_per_minute)
    for one in allowances:
        wanted = 1 if one.noun == "requests" else tokens
        if wait_us := one.wait_us(wanted):
            why: Why = "requests" if one.noun == "requests" else "tokens"
            return Refused(why=why, wait_us=wait_us, limit=one.limit, allowances=allowances)
    start = period_start(limit_period, now)
    if start != period_began:
        spent = 0
    money, limited, left = 0, None, None
    price = read_price(of_price)
    if price is None and ask.price_list is not None and calls is None:
        return Refused(why="unpriced")
    if price is not None:
        left = available = balance + credit - held
        shown = available + ask.released
        if limit_amount is not None:
            taken = connection.execute(sql.HELD_IN_PERIOD, {"key": ask.key, "start": start})
            of_key = limit_amount - spent - taken[0][0]
            left, shown = min(available, of_key), min(shown, of_key)
        if calls is not None:
            money = calls.count * price.per_request
        elif not ask.counts_only:
            money, limited = affordable(price, ask, left)
        short = money > left or left < 0
        if ask.released and (short or limited is not None):
            return Refused(why="unsettled")
        if short:
            return no_money(available, left, limit_period, now, allowances)
        left = shown
    used = now if used_at is None or used_at // HOUR_US != now // HOUR_US else used_at
    connection.change(
        sql.HOLD_KEY,
        {
            "key": ask.key,
            "open": int(not within),
            "amount": money,
            "start": start,
            "spent": spent,
            "used": used,
        },
    )
    if money:
        connection.change(sql.HOLD_MONEY, {"account": ask.account, "amount": money})
    for one in allowances:
        one.take(1 if one.noun == "requests" else tokens)
        write_allowance(connection, ask.key, one)
    [(hold_id,)] = connection.execute(
        sql.NEW_HOLD,
        {
            "token": ask.token,
            "account": ask.account,
            "key": ask.key,
            "boot": ask.boot,
            "price": None if price is None else price.id,
            "model": ask.model,
            "channel": ask.channel,
            "endpoint": ask.endpoint,
            "amount": money,
            "tokens": tokens,
            "now": now,
            "request": ask.request_id,
            "kind": "request" if calls is None else calls.kind,
            "parent": None if calls is None else calls.parent,
        },
    )
    return Held(
        id=hold_id,
        tokens=tokens,
        amount=money,
        price=price,
        max_output_tokens=limited,
        left=left,
        allowances=allowances,
    )


def affordable(price: Price, ask: Wanted, left: int) -> tuple[int, int | None]:
    """The money to hold, and the limit of the answer that it pays for, where that is a lower one.

    The money is more than what is `left` where the request cannot be paid for.
    """
    if price.free:
        return 0, None
    limits = [one for one in (ask.asked, ask.model_limit) if one is not None]
    wanted = min(limits, default=ask.default_limit)
    whole = most(price, ask.input_tokens, wanted * ask.choices)
    if whole <= left or not price.output:
        return whole, None
    rest = left - base(price, ask.input_tokens)
    limit = rest // price.output // ask.choices
    if limit < ask.least_limit:
        return whole, None
    return most(price, ask.input_tokens, limit * ask.choices), limit


def no_money(
    available: int,
    left: int,
    period: Period | None,
    now: int,
    allowances: tuple[Allowance, ...] = (),
) -> Refused:
    """The refusal of what there is not enough money for: that of the account, or of the key."""
    if left < available:
        after = next_period(period, now)
        return Refused(why="key_limit", next_period=after, left=left, allowances=allowances)
    return Refused(why="balance", left=left, allowances=allowances)
