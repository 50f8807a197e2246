"""What meters of clients read: the balance in the shapes that they know from other services.

    OpenRouter    GET /v1/key, /v1/credits
    one-api       GET /v1/dashboard/billing/subscription, …/usage
    Codex         GET /api/codex/usage

Numbers in them are rounded to six decimals, since their readers take them for binary fractions; the
texts beside them are exact.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from msgspec import Struct

from .key_status import KeyStatus
from .money import PICO, shown, shown_down
from .periods import SECOND_US, Period, period_start, shown_time

_PLACES = Decimal("0.000001")

_RESETS: dict[Period | None, str | None] = {
    "day": "daily",
    "week": "weekly",
    "month": "monthly",
    "never": None,
    None: None,
}


class RateLimit(Struct, frozen=True):
    """How many requests a key may send; -1 for any number."""

    requests: int
    interval: str


class KeyData(Struct, frozen=True, kw_only=True):
    """A key, as OpenRouter describes its own; `limit` is null where the account alone limits it."""

    label: str
    name: str
    limit: Decimal | None
    limit_remaining: Decimal | None
    limit_reset: str | None
    usage: Decimal
    usage_daily: Decimal
    usage_weekly: Decimal
    usage_monthly: Decimal
    is_free_tier: bool
    expires_at: str | None
    rate_limit: RateLimit
    currency: str
    available: str | None
    """What the account has, as an exact text; null where requests cost nothing."""

    spendable: str | None
    """What the next request may cost: no more than the account has, and is left of the limit."""


class KeyAnswer(Struct, frozen=True):
    """The answer of `GET /v1/key`."""

    data: KeyData


class CreditsData(Struct, frozen=True):
    """All that was paid in, and all that was spent: the balance is the difference."""

    total_credits: Decimal
    total_usage: Decimal


class Credits(Struct, frozen=True):
    """The answer of `GET /v1/credits`."""

    data: CreditsData


class Subscription(Struct, frozen=True, kw_only=True):
    """What a key may spend in all, as one-api tells it; `access_until` is in seconds, 0 for ever.

    Less the usage that it tells, it is what the key can still spend.
    """

    object: Literal["billing_subscription"]
    has_payment_method: bool
    soft_limit_usd: Decimal
    hard_limit_usd: Decimal
    system_hard_limit_usd: Decimal
    access_until: int


class TotalUsage(Struct, frozen=True):
    """What a key has spent in all its time, in hundredths."""

    object: Literal["list"]
    total_usage: Decimal


class CodexWindow(Struct, frozen=True):
    """A period of a limit, and how much of it is used up."""

    used_percent: int
    limit_window_seconds: int
    reset_after_seconds: int
    reset_at: int


class CodexRateLimit(Struct, frozen=True):
    """The limit of a key, as Codex shows it."""

    allowed: bool
    limit_reached: bool
    primary_window: CodexWindow | None
    secondary_window: None = None


class CodexCredits(Struct, frozen=True):
    """The balance, as Codex shows it."""

    has_credits: bool
    unlimited: bool
    balance: str | None


class CodexUsage(Struct, frozen=True):
    """The answer of `GET /api/codex/usage`, from which `/status` is."""

    plan_type: Literal["unknown"]
    rate_limit: CodexRateLimit | None
    credits: CodexCredits


def key_answer(status: KeyStatus, *, billing: bool, currency: str) -> KeyAnswer:
    limits, left = status.key.limits, status.left_of_key
    expires = limits.expires_at
    return KeyAnswer(
        KeyData(
            label=status.key.shown,
            name=status.key.name,
            limit=_number(limits.limit_amount),
            limit_remaining=_number(None if left is None else max(0, left)),
            limit_reset=_RESETS[limits.limit_period],
            usage=number(status.used),
            usage_daily=number(status.used_in_day),
            usage_weekly=number(status.used_in_week),
            usage_monthly=number(status.used_in_month),
            is_free_tier=False,
            expires_at=None if expires is None else shown_time(expires).replace(" ", "T"),
            rate_limit=RateLimit(limits.requests_per_minute or -1, "1m"),
            currency=currency,
            available=shown(status.account.available) if billing else None,
            spendable=shown(status.spendable) if billing else None,
        )
    )


def credits_answer(status: KeyStatus) -> Credits:
    used = status.account_used
    return Credits(CreditsData(number(status.account.balance + used), number(used)))


def subscription(status: KeyStatus) -> Subscription:
    limit = number(status.used + max(0, status.spendable))
    expires = status.key.limits.expires_at
    return Subscription(
        object="billing_subscription",
        has_payment_method=True,
        soft_limit_usd=limit,
        hard_limit_usd=limit,
        system_hard_limit_usd=limit,
        access_until=0 if expires is None else expires // SECOND_US,
    )


def total_usage(status: KeyStatus) -> TotalUsage:
    return TotalUsage("list", number(100 * status.used))


def codex_usage(status: KeyStatus, *, billing: bool) -> CodexUsage:
    left = status.spendable
    return CodexUsage(
        plan_type="unknown",
        rate_limit=_codex_limit(status) if billing else None,
        credits=CodexCredits(
            has_credits=not billing or left > 0,
            unlimited=not billing,
            balance=shown_down(max(0, left)) if billing else None,
        ),
    )


def _codex_limit(status: KeyStatus) -> CodexRateLimit | None:
    """The key's own limit; None where it has none that ends."""
    limits, left = status.key.limits, status.left_of_key
    after = status.next_period
    if left is None or limits.limit_amount is None or after is None:
        return None
    start = period_start(limits.limit_period, status.now)
    used = 100 if left <= 0 else 100 * status.spent // limits.limit_amount
    window = CodexWindow(
        used_percent=max(0, min(100, used)),
        limit_window_seconds=(after - start) // SECOND_US,
        reset_after_seconds=(after - status.now) // SECOND_US,
        reset_at=after // SECOND_US,
    )
    return CodexRateLimit(left > 0, left <= 0, window)


def number(amount: int) -> Decimal:
    """An amount as a number with six decimals."""
    return (Decimal(amount) / PICO).quantize(_PLACES, ROUND_HALF_EVEN)


def _number(amount: int | None) -> Decimal | None:
    return None if amount is None else number(amount)
