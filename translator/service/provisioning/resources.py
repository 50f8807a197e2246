"""What the API does: each function finds or changes what one path names, in a transaction.

They raise InvalidRequest, NotFound, and Mistake for what the books do not allow. Each change is an
entry of the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from translator.service.accounts import (
    books,
    channel_book,
    key_book,
    listings,
    people,
    price_book,
    usage,
)
from translator.service.accounts.books import Account
from translator.service.accounts.ceilings import NO_CEILING, Ceiling, Limits
from translator.service.accounts.key_book import KeyRow
from translator.service.accounts.keys import Channel
from translator.service.accounts.member_channels import set_member_channels
from translator.service.accounts.money import shown
from translator.service.accounts.periods import SECOND_US
from translator.service.accounts.price_book import PriceRow, check_given
from translator.service.accounts.tools import tool_problem
from translator.service.accounts.usage import Span
from translator.service.base.keys import store
from translator.service.database.connection import Connection
from translator.wire.errors import InvalidRequest, NotFound

from . import bodies
from .bodies import amount_of, id_of, invalid, price_of, time_of
from .objects import (
    AccountObject,
    ChannelObject,
    EntryObject,
    KeyObject,
    Object,
    Page,
    PriceObject,
    UserObject,
    account_object,
    channel_object,
    entry_object,
    key_object,
    page_of,
    price_object,
    user_object,
)

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class Order(Struct, frozen=True, kw_only=True):
    """A request of an operator's program, once it is read."""

    actor: str
    """Who it is, for the ledger and the audit log."""

    name: str = ""
    """The id, or the name, in its path."""

    query: Mapping[str, str] = {}
    body: Any = None
    """One of `bodies`."""

    secret: str = ""
    """A new key, where one is to be made."""

    hashed: str = ""
    """The hash of the password in its body."""

    def limit(self) -> int:
        """The most objects of a page; raises InvalidRequest."""
        text = self.query.get("limit", str(DEFAULT_LIMIT))
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
            raise invalid("limit", f"expected a number from 1 to {MAX_LIMIT}")
        return int(text)

    def after(self, prefix: str) -> int:
        """The number after which the page goes on; raises InvalidRequest."""
        text = self.query.get("after", "")
        return id_of(text, prefix, "after") if text else 0


# --- accounts -----------------------------------------------------------------------------------


def list_accounts(order: Order, connection: Connection) -> Page:
    limit = order.limit()
    found = listings.list_accounts(
        connection, after=order.after("acct"), limit=limit, name=order.query.get("name", "")
    )
    return page_of([account_object(one) for one in found], limit)


def add_account(order: Order, connection: Connection) -> AccountObject:
    body: bodies.NewAccount = order.body
    credit = amount_of(body.credit, "credit", least=0)
    made = books.add_account(connection, body.name, credit)
    _audit(order, connection, "add account", body.name, f"credit {shown(credit)}")
    _limit_members(order, connection, _account(connection, f"acct_{made}", "id"), body)
    return account_object(_account(connection, f"acct_{made}", "id"))


def get_account(order: Order, connection: Connection) -> AccountObject:
    return account_object(_account(connection, order.name, "id"))


def change_account(order: Order, connection: Connection) -> AccountObject:
    body: bodies.ChangedAccount = order.body
    found = _account(connection, order.name, "id")
    if not isinstance(body.credit, UnsetType):
        credit = amount_of(body.credit, "credit", least=0)
        books.set_credit(connection, found.name, credit)
        _audit(order, connection, "set credit", found.name, shown(credit))
    if not isinstance(body.suspended, UnsetType):
        books.suspend(connection, found.name, suspended=body.suspended)
        _audit(order, connection, "suspend" if body.suspended else "resume", found.name)
    _limit_members(order, connection, found, body)
    return get_account(order, connection)


def _limit_members(
    order: Order,
    connection: Connection,
    found: Account,
    body: bodies.NewAccount | bodies.ChangedAccount,
) -> None:
    """Say what members may give the keys of an account, where a body does."""
    if not isinstance(body.channels, UnsetType) and body.channels != found.channels:
        set_member_channels(connection, found.id, body.channels)
        _audit(order, connection, "set channels", found.name, _listed(body.channels))
    if isinstance(body.ceiling, UnsetType):
        return
    ceiling = NO_CEILING if body.ceiling is None else _ceiling_of(body.ceiling)
    if ceiling != found.ceiling:
        books.set_ceiling(connection, found.name, ceiling)
        _audit(order, connection, "set ceiling", found.name)


def _ceiling_of(body: bodies.CeilingBody) -> Ceiling:
    for number, tool in enumerate(body.tools or ()):
        if problem := tool_problem(tool):
            raise invalid(f"ceiling.tools[{number}]", problem)
    return Ceiling(
        models=body.models,
        tools=body.tools,
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
        max_concurrent_requests=body.max_concurrent_requests,
        limit_amount=_limit_amount(body.limit, "ceiling.limit.amount"),
        limit_period=None if body.limit is None else body.limit.period,
        expires_at=time_of(body.expires_at, "ceiling.expires_at"),
    )


# --- users --------------------------------------------------------------------------------------


def list_users(order: Order, connection: Connection) -> Page:
    limit = order.limit()
    found = listings.list_users(connection, after=order.after("user"), limit=limit)
    return page_of([user_object(one) for one in found], limit)


def add_user(order: Order, connection: Connection) -> UserObject:
    body: bodies.NewUser = order.body
    if (body.role == "member") != (body.account is not None):
        raise invalid("account", "a member has one, and an operator none")
    owner = None if body.account is None else _account(connection, body.account, "account")
    name = None if owner is None else owner.name
    people.add_user(connection, body.name, name, order.hashed)
    _audit(order, connection, "add user", body.name, name or "operator")
    return user_object(people.user(connection, body.name))


def get_user(order: Order, connection: Connection) -> UserObject:
    return user_object(_user(connection, order.name))


def change_user(order: Order, connection: Connection) -> UserObject:
    body: bodies.ChangedUser = order.body
    found = _user(connection, order.name)
    if not isinstance(body.password, UnsetType):
        people.set_password(connection, found.name, order.hashed)
        _audit(order, connection, "set password", found.name)
    if not isinstance(body.disabled, UnsetType):
        people.set_disabled(connection, found.name, disabled=body.disabled)
        _audit(order, connection, "disable user" if body.disabled else "enable user", found.name)
    return get_user(order, connection)


def unlock_user(order: Order, connection: Connection) -> UserObject:
    """End the pause of a name after failed attempts to sign in."""
    found = _user(connection, order.name)
    people.unlock(connection, found.name)
    _audit(order, connection, "unlock user", found.name)
    return user_object(found)


# --- keys ---------------------------------------------------------------------------------------


def list_keys(order: Order, connection: Connection) -> Page:
    limit, account = order.limit(), 0
    if text := order.query.get("account", ""):
        account = _account(connection, text, "account").id
    found = listings.list_keys(connection, after=order.after("key"), limit=limit, account=account)
    return page_of([key_object(one, owner) for owner, one in found], limit)


def add_key(order: Order, connection: Connection) -> KeyObject:
    body: bodies.NewKey = order.body
    owner = _account(connection, body.account, "account")
    limits = Limits(
        channels=body.channels,
        models=body.models,
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
        max_concurrent_requests=body.max_concurrent_requests,
        limit_amount=_limit_amount(body.limit),
        limit_period=None if body.limit is None else body.limit.period,
        expires_at=time_of(body.expires_at, "expires_at"),
    )
    made = key_book.add_key(connection, owner.name, body.name, store(order.secret), limits)
    if body.tools is not None:
        key_book.set_tools(connection, key_book.key_of_id(connection, made), body.tools)
    _audit(order, connection, "new key", f"key_{made} of {owner.name}", body.name)
    return _key_object(connection, made, order.secret)


def get_key(order: Order, connection: Connection) -> KeyObject:
    owner, found = _key(connection, order.name)
    return key_object(found, owner)


def change_key(order: Order, connection: Connection) -> KeyObject:
    body: bodies.ChangedKey = order.body
    _, found = _key(connection, order.name)
    if found.revoked_at is not None:
        raise InvalidRequest(f"{order.name} is revoked.", param=None, code="invalid_value")
    if not isinstance(body.name, UnsetType) and body.name != found.name:
        key_book.rename(connection, found, body.name)
        _audit(order, connection, "rename key", order.name, body.name)
    changes: dict[str, object] = {}
    for name in (
        *("channels", "models"),
        *("requests_per_minute", "tokens_per_minute", "max_concurrent_requests"),
    ):
        if (value := getattr(body, name)) is not UNSET:
            changes[name] = value
    if not isinstance(body.limit, UnsetType):
        changes["limit_amount"] = _limit_amount(body.limit)
        changes["limit_period"] = None if body.limit is None else body.limit.period
    if not isinstance(body.expires_at, UnsetType):
        changes["expires_at"] = time_of(body.expires_at, "expires_at")
    if not isinstance(body.tools, UnsetType):
        key_book.set_tools(connection, found, body.tools)
        _audit(order, connection, "set tools", order.name, _listed(body.tools))
    if changes:
        limits = replace(found.limits, **changes)
        key_book.set_limits(connection, found, limits, named=changes)
        _audit(order, connection, "limit key", order.name, ", ".join(changes))
    return get_key(order, connection)


def rotate_key(order: Order, connection: Connection) -> KeyObject:
    body: bodies.Rotation = order.body
    _, found = _key(connection, order.name)
    made, _ = key_book.rotate(connection, found, store(order.secret), body.grace_s * SECOND_US)
    _audit(order, connection, "rotate key", order.name, f"key_{made}")
    return _key_object(connection, made, order.secret)


def revoke_key(order: Order, connection: Connection) -> KeyObject:
    _, found = _key(connection, order.name)
    key_book.revoke(connection, found)
    _audit(order, connection, "revoke key", order.name)
    return get_key(order, connection)


def _limit_amount(limit: bodies.AmountLimit | None, path: str = "limit.amount") -> int | None:
    return None if limit is None else amount_of(limit.amount, path, least=0)


# --- channels and prices --------------------------------------------------------------------------


def list_channels(order: Order, connection: Connection) -> Page:
    limit = order.limit()
    after = order.query.get("after", "")
    found = listings.list_channels(connection, after=after, limit=limit)
    return page_of([channel_object(one) for one in found], limit)


def get_channel(order: Order, connection: Connection) -> ChannelObject:
    found = listings.find_channel(connection, order.name)
    if found is None:
        raise _nothing("channel", order.name)
    return channel_object(found)


def put_channel(order: Order, connection: Connection) -> ChannelObject:
    body: bodies.ChannelBody = order.body
    if not order.name.isprintable() or not 1 <= len(order.name) <= 200:
        raise invalid("name", "it must be printable, and have at most 200 letters")
    before = listings.find_channel(connection, order.name)
    title = body.title or (order.name if before is None else before.title)
    made = Channel(order.name, title, body.models, body.price_list, body.tools)
    channel_book.set_channel(connection, made)
    channel_book.set_tools(connection, order.name, body.tools)
    _audit(
        order, connection, "set channel", order.name, f"{body.price_list}: {_listed(body.models)}"
    )
    return channel_object(made)


def list_prices(order: Order, connection: Connection) -> Page:
    limit = order.limit()
    found = listings.list_prices(
        connection,
        after=order.after("price"),
        limit=limit,
        price_list=order.query.get("price_list", ""),
        model=order.query.get("model", ""),
    )
    return page_of([price_object(number, one) for number, one in found], limit)


def add_price(order: Order, connection: Connection) -> PriceObject:
    body: bodies.NewPrice = order.body
    bodies.check_model(body.model, "model")
    figures = {"input": body.input, "output": body.output, "per_request": body.per_request}
    given = [name for name, figure in figures.items() if figure is not None]
    check_given(body.model, given, free=body.free)
    row = PriceRow(
        body.model,
        input=price_of(body.input, "input") or 0,
        output=price_of(body.output, "output") or 0,
        cached_input=price_of(body.cached_input, "cached_input"),
        cache_write=price_of(body.cache_write, "cache_write"),
        per_request=amount_of(body.per_request or "0", "per_request", least=0),
        free=body.free,
        price_list=body.price_list,
        from_at=time_of(body.from_, "from"),
    )
    at = price_book.set_price(connection, row, order.actor)
    _audit(order, connection, "set price", body.model, body.price_list)
    number = listings.price_id(connection, body.price_list, body.model, at)
    return price_object(number, replace(row, from_at=at))


# --- money --------------------------------------------------------------------------------------


def add_topup(order: Order, connection: Connection) -> EntryObject:
    body: bodies.NewTopup = order.body
    to = _account(connection, body.account, "account")
    amount = amount_of(body.amount, "amount")
    if amount <= 0:
        raise invalid("amount", "a top-up is more than 0; an adjustment takes money away")
    made = books.top_up(connection, to.name, amount, body.ref, order.actor)
    if made.new:
        _audit(order, connection, "top up", to.name, f"{shown(amount)}, {body.ref}")
    return _entry(connection, to, made.id)


def add_adjustment(order: Order, connection: Connection) -> EntryObject:
    body: bodies.NewAdjustment = order.body
    to = _account(connection, body.account, "account")
    amount = amount_of(body.amount, "amount")
    made = books.adjust(connection, to.name, amount, body.reason, body.ref, order.actor)
    if made.new:
        _audit(order, connection, "adjust", to.name, f"{shown(amount)}, {body.ref}")
    return _entry(connection, to, made.id)


def list_entries(order: Order, connection: Connection) -> Page:
    """The entries of the ledger of one account, newest first."""
    text = order.query.get("account", "")
    if not text:
        raise InvalidRequest(
            "Missing required parameter: 'account'.",
            param="account",
            code="missing_required_parameter",
        )
    owner, limit = _account(connection, text, "account"), order.limit()
    start, end = (time_of(order.query.get(name) or None, name) for name in ("start", "end"))
    span = Span(start=start or 0, end=Span().end if end is None else end)
    before = order.after("entry") or None
    found = usage.ledger(connection, owner.id, span, before=before, limit=limit + 1)
    return page_of([entry_object(one, owner.id) for one in found], limit)


def _entry(connection: Connection, of: Account, number: int) -> EntryObject:
    [found] = usage.ledger(connection, of.id, before=number + 1, limit=1)
    return entry_object(found, of.id)


# --- what is named ------------------------------------------------------------------------------


def _account(connection: Connection, text: str, path: str) -> Account:
    found = books.account_of_id(connection, id_of(text, "acct", path))
    if found is None:
        raise _nothing("account", text)
    return found


def _user(connection: Connection, text: str) -> people.User:
    number = id_of(text, "user", "id")
    for one in listings.list_users(connection, after=number - 1, limit=1):
        if one.id == number:
            return one
    raise _nothing("user", text)


def _key(connection: Connection, text: str) -> tuple[int, KeyRow]:
    found = listings.find_key(connection, id_of(text, "key", "id"))
    if found is None:
        raise _nothing("key", text)
    return found


def _key_object(connection: Connection, number: int, secret: str) -> KeyObject:
    owner, found = _key(connection, f"key_{number}")
    return key_object(found, owner, secret)


def _nothing(what: str, name: str) -> NotFound:
    return NotFound(f"There is no {what} '{name[:200]}'.", param=None, code="object_not_found")


def _audit(
    order: Order, connection: Connection, action: str, subject: str, detail: str = ""
) -> None:
    people.audit(connection, order.actor, action, subject, detail)


def _listed(names: tuple[str, ...] | None) -> str:
    return "all" if names is None else ", ".join(names) or "none"


def without_secret(found: Object | Page) -> Object | Page:
    """An answer as it may be kept."""
    return replace(found, key=None) if isinstance(found, KeyObject) else found
