"""Extensions: a hold grows before a further round of its request goes upstream.

    hold   =   what the rounds before have cost, and what this one may cost at most

So the hold covers all rounds, and one settlement ends it. Minute limits refuse no round: its tokens
are taken as a debt. An extension can be done twice, since it says what the hold is to be.
"""

from __future__ import annotations

from msgspec import Struct

from translator.service.database.connection import Connection

from . import statements as sql
from .bills import Counts, Price, amount
from .holds import Refused, Wanted, affordable, no_money
from .rows import read_allowances, write_allowance


class ExtensionRequest(Wanted, frozen=True, kw_only=True):
    """What an extension is asked for."""

    id: int
    account: int
    key: int
    price: Price | None
    spent: Counts
    """The tokens of the rounds before."""

    tokens: int
    """Tokens that all rounds take from the allowance of the minute."""


class Extended(Struct, frozen=True, kw_only=True):
    """A hold that covers a further round."""

    max_output_tokens: int | None = None
    """The limit of the answer where there is less money than asked for."""

    last: bool = False
    """Whether there can be no other round: nothing is left, or the key may no longer be used."""

    left: int | None = None
    """Money that the key could use before, in pico."""


def extend(connection: Connection, ask: ExtensionRequest) -> Extended | Refused:
    """Hold what a further round may cost."""
    rows = connection.execute(sql.ACCOUNT, {"account": ask.account})
    keys = connection.execute(sql.KEY, {"key": ask.key, "account": ask.account})
    holds = connection.execute(sql.HOLD, {"id": ask.id})
    if not rows or not keys or not holds:
        return Refused(why="gone")
    [(balance, held, credit, suspended_at, _, now)] = rows
    [(revoked_at, expires_at, _, per_minute, _, limit_amount, period, period_began, *more)] = keys
    [(money, tokens, began)] = holds
    expired = expires_at is not None and expires_at <= now
    last = expired or revoked_at is not None or suspended_at is not None
    limited = left = None
    grown = 0
    if ask.price is not None and not ask.price.free:
        left = available = balance + credit - held
        if limit_amount is not None:
            if began >= period_began:
                taken = connection.execute(
                    sql.HELD_IN_PERIOD, {"key": ask.key, "start": period_began}
                )
                left = min(available, limit_amount - more[0] - taken[0][0])
            else:  # what was left of the period in which it began is known no more
                last = True
        spent = amount(ask.price, ask.spent) - ask.price.per_request
        whole, limited = affordable(ask.price, ask, left + money - spent)
        grown = max(0, spent + whole - money)
        if grown and grown > left:
            return no_money(available, left, period, now)
    if grown:
        connection.change(sql.HOLD_MONEY, {"account": ask.account, "amount": grown})
        connection.change(sql.EXTEND_KEY, {"key": ask.key, "amount": grown})
    if grown or ask.tokens != tokens:
        values = {"id": ask.id, "amount": grown, "tokens": ask.tokens}
        connection.change(sql.EXTEND_HOLD, values)
    for one in read_allowances(connection, ask.key, None, per_minute, now):
        one.take(ask.tokens - tokens)
        write_allowance(connection, ask.key, one)
    last = last or limited is not None
    return Extended(max_output_tokens=limited, last=last, left=left)
