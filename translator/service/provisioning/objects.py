"""What answers show: the objects of the API, and pages of them.

Money is a decimal text, exact; times are in seconds since 1970. No object has a secret but a key in
the answer that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct, field

from translator.service.accounts.books import Account
from translator.service.accounts.ceilings import NO_CEILING, Ceiling, Limits
from translator.service.accounts.key_book import KeyRow
from translator.service.accounts.keys import Channel
from translator.service.accounts.member_channels import channels_of
from translator.service.accounts.money import PRICE, shown
from translator.service.accounts.people import User
from translator.service.accounts.periods import SECOND_US
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.usage import LedgerRow


class LimitObject(Struct, frozen=True, kw_only=True):
    """The money of a key, for each period."""

    amount: str
    period: str


class CeilingObject(Struct, frozen=True, kw_only=True):
    """The most that members may give a key; null is no limit."""

    channels: Sequence[str] | None
    models: Sequence[str] | None
    tools: Sequence[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrent_requests: int | None
    limit: LimitObject | None
    expires_at: int | None


class AccountObject(Struct, frozen=True, kw_only=True, tag_field="object", tag="account"):
    """An account: `available` is its balance and credit, less what open requests hold.

    Members may give keys the `channels`, ["*"] being every one; and those that they make no more
    than the `ceiling`, if any.
    """

    id: str
    name: str
    balance: str
    held: str
    credit: str
    available: str
    channels: Sequence[str]
    ceiling: CeilingObject | None
    suspended_at: int | None
    created_at: int


class UserObject(Struct, frozen=True, kw_only=True, tag_field="object", tag="user"):
    """Somebody who signs in."""

    id: str
    name: str
    role: Literal["operator", "member"]
    account: str | None
    disabled_at: int | None
    created_at: int


class KeyObject(Struct, frozen=True, kw_only=True, tag_field="object", tag="key"):
    """A key; `key` is there only in the answer that made it, and `shown` is its beginning.

    The `ceiling` is what members may give it at most: what an operator gave it, and where a member
    made it, that of its account.
    """

    id: str
    account: str
    name: str
    shown: str
    key: str | None = None
    channels: Sequence[str]
    models: Sequence[str] | None
    tools: Sequence[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrent_requests: int | None
    limit: LimitObject | None
    ceiling: CeilingObject | None
    of_member: bool
    held: str
    open_requests: int
    expires_at: int | None
    revoked_at: int | None
    replaced_by: str | None
    created_at: int
    used_at: int | None


class ChannelObject(Struct, frozen=True, kw_only=True, tag_field="object", tag="channel"):
    """A channel: models at the prices of one list."""

    id: str
    name: str
    title: str
    models: Sequence[str]
    tools: Sequence[str] | None
    price_list: str


class PriceObject(Struct, frozen=True, kw_only=True, tag_field="object", tag="price"):
    """A price per million tokens from a time on; null is that of the input."""

    id: str
    price_list: str
    model: str
    from_: int = field(name="from")
    input: str
    output: str
    cached_input: str | None
    cache_write: str | None
    per_request: str
    free: bool


class EntryObject(Struct, frozen=True, kw_only=True, tag_field="object", tag="entry"):
    """An entry of the ledger: a change of a balance."""

    id: str
    account: str
    at: int
    kind: str
    ref: str
    amount: str
    balance_after: str
    model: str | None
    actor: str
    note: str


Object: TypeAlias = (
    AccountObject | UserObject | KeyObject | ChannelObject | PriceObject | EntryObject
)


class Page(Struct, frozen=True, kw_only=True):
    """A page of a list; `after=last_id` is the next one."""

    object: Literal["list"] = "list"
    data: Sequence[Object]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_of(objects: Sequence[Object], limit: int) -> Page:
    """The page of objects that were found for one of `limit`, with one more where there is one."""
    data = objects[:limit]
    return Page(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(objects) > limit,
    )


def account_object(one: Account) -> AccountObject:
    return AccountObject(
        id=f"acct_{one.id}",
        name=one.name,
        balance=shown(one.balance),
        held=shown(one.held),
        credit=shown(one.credit),
        available=shown(one.available),
        channels=channels_of(one),
        ceiling=_ceiling(one.ceiling),
        suspended_at=_seconds(one.suspended_at),
        created_at=one.created_at // SECOND_US,
    )


def user_object(one: User) -> UserObject:
    return UserObject(
        id=f"user_{one.id}",
        name=one.name,
        role=one.role,
        account=None if one.account_id is None else f"acct_{one.account_id}",
        disabled_at=_seconds(one.disabled_at),
        created_at=one.created_at // SECOND_US,
    )


def key_object(one: KeyRow, account: int, secret: str | None = None) -> KeyObject:
    limits = one.limits
    return KeyObject(
        id=f"key_{one.id}",
        account=f"acct_{account}",
        name=one.name,
        shown=one.shown,
        key=secret,
        channels=limits.channels,
        models=limits.models,
        tools=one.tools,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        max_concurrent_requests=limits.max_concurrent_requests,
        limit=_limit(limits),
        ceiling=_ceiling(one.bounds),
        of_member=one.of_member,
        held=shown(one.held),
        open_requests=one.open,
        expires_at=_seconds(limits.expires_at),
        revoked_at=_seconds(one.revoked_at),
        replaced_by=None if one.replaced_by is None else f"key_{one.replaced_by}",
        created_at=one.created_at // SECOND_US,
        used_at=_seconds(one.used_at),
    )


def channel_object(one: Channel) -> ChannelObject:
    return ChannelObject(
        id=one.name,
        name=one.name,
        title=one.title,
        models=one.models,
        tools=one.tools,
        price_list=one.price_list,
    )


def price_object(price_id: int, one: PriceRow) -> PriceObject:
    return PriceObject(
        id=f"price_{price_id}",
        price_list=one.price_list,
        model=one.model,
        from_=(one.from_at or 0) // SECOND_US,
        input=shown(one.input, unit=PRICE),
        output=shown(one.output, unit=PRICE),
        cached_input=None if one.cached_input is None else shown(one.cached_input, unit=PRICE),
        cache_write=None if one.cache_write is None else shown(one.cache_write, unit=PRICE),
        per_request=shown(one.per_request),
        free=one.free,
    )


def entry_object(one: LedgerRow, account: int) -> EntryObject:
    return EntryObject(
        id=f"entry_{one.id}",
        account=f"acct_{account}",
        at=one.at // SECOND_US,
        kind=one.kind,
        ref=one.ref,
        amount=shown(one.amount),
        balance_after=shown(one.balance_after),
        model=one.model,
        actor=one.actor,
        note=one.note,
    )


def _ceiling(one: Ceiling) -> CeilingObject | None:
    if one == NO_CEILING:
        return None
    return CeilingObject(
        channels=one.channels,
        models=one.models,
        tools=one.tools,
        requests_per_minute=one.requests_per_minute,
        tokens_per_minute=one.tokens_per_minute,
        max_concurrent_requests=one.max_concurrent_requests,
        limit=_limit(one),
        expires_at=_seconds(one.expires_at),
    )


def _limit(of: Ceiling | Limits) -> LimitObject | None:
    if of.limit_amount is None or of.limit_period is None:
        return None
    return LimitObject(amount=shown(of.limit_amount), period=of.limit_period)


def _seconds(at: int | None) -> int | None:
    return None if at is None else at // SECOND_US
