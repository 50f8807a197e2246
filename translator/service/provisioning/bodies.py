"""What requests say: the fields of each body, and how they are read.

A field that is not known, or not as it has to be, is an error with its path. Money is a decimal
text, such as "12.50"; a time is a text in ISO's form, in UTC unless it says otherwise.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from translator.common.invalid import invalid_from
from translator.service.accounts.channel_book import EVERYTHING
from translator.service.accounts.money import InvalidAmount, read_amount, read_price
from translator.service.accounts.periods import Period, read_time
from translator.service.accounts.price_book import STANDARD
from translator.service.config.sections import CATCH_ALL
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON

T = TypeVar("T", bound=Struct)

MAX_BODY_BYTES = 1024 * 1024
MAX_NAMES = 1000
"""Most models or channels of a list."""

MAX_GRACE_S = 30 * 86_400

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_NAMES)]
Channels = Annotated[tuple[Name, ...], Meta(max_length=MAX_NAMES)]
Tools = Annotated[tuple[Name, ...], Meta(max_length=MAX_NAMES)]
Limit = Annotated[int, Meta(gt=0, le=2**53)]
Decimal = Annotated[str, Meta(min_length=1, max_length=64)]
Time = Annotated[str, Meta(min_length=1, max_length=64)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body: what it does not know is a mistake."""


class AmountLimit(Body, frozen=True, kw_only=True):
    """The money of a key, for each period."""

    amount: Decimal
    period: Period


class KeyLimits(Body, frozen=True, kw_only=True):
    """What a key may use of the models and tools of its channels; null is no limit."""

    models: Names | None = None
    tools: Tools | None = None
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    max_concurrent_requests: Limit | None = None
    limit: AmountLimit | None = None
    expires_at: Time | None = None


class CeilingBody(KeyLimits, frozen=True, kw_only=True):
    """The most that members may give a key that they make."""


class NewAccount(Body, frozen=True, kw_only=True):
    """`POST accounts`: an account; `credit` is the debt that it may have.

    Members may give keys the `channels`, in this order: null is the channel `all` alone, ["*"] is
    every channel; with none, members make no keys.
    """

    name: Name
    credit: Decimal = "0"
    channels: Channels | None = None
    ceiling: CeilingBody | None = None


class ChangedAccount(Body, frozen=True, kw_only=True):
    """`PATCH accounts/ID`; a `ceiling` is the whole of it, null takes it away."""

    credit: Decimal | UnsetType = UNSET
    suspended: bool | UnsetType = UNSET
    channels: Channels | UnsetType | None = UNSET
    ceiling: CeilingBody | UnsetType | None = UNSET


class NewUser(Body, frozen=True, kw_only=True):
    """`POST users`: somebody who signs in; a member of an account, or an operator."""

    name: Name
    password: Annotated[str, Meta(max_length=1024)]
    role: Literal["member", "operator"]
    account: Name | None = None


class ChangedUser(Body, frozen=True, kw_only=True):
    """`PATCH users/NAME`; either ends all sessions."""

    password: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class NewKey(KeyLimits, frozen=True, kw_only=True):
    """`POST keys`: a key of an account, whose answer shows it this once."""

    account: Name
    name: Name
    channels: Names = (EVERYTHING,)


class ChangedKey(Body, frozen=True, kw_only=True):
    """`PATCH keys/ID`; null takes a limit away."""

    name: Name | UnsetType = UNSET
    channels: Names | UnsetType = UNSET
    models: Names | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET
    requests_per_minute: Limit | UnsetType | None = UNSET
    tokens_per_minute: Limit | UnsetType | None = UNSET
    max_concurrent_requests: Limit | UnsetType | None = UNSET
    limit: AmountLimit | UnsetType | None = UNSET
    expires_at: Time | UnsetType | None = UNSET


class Rotation(Body, frozen=True, kw_only=True):
    """`POST keys/ID/rotate`: a new key, and for how long the old one still works."""

    grace_s: Annotated[int, Meta(ge=0, le=MAX_GRACE_S)] = 86_400


class Nothing(Body, frozen=True, kw_only=True):
    """The body of a request that says nothing more."""


class ChannelBody(Body, frozen=True, kw_only=True):
    """`PUT channels/NAME`: the whole channel; "*" among its models is all that are listed.

    `tools` are those that its keys may have called; null is all.
    """

    title: Name | None = None
    models: Names
    tools: Tools | None = None
    price_list: Name = STANDARD


class NewPrice(Body, frozen=True, kw_only=True):
    """`POST prices`: a price per million tokens, from a time on, by default from now."""

    model: Name
    price_list: Name = STANDARD
    input: Decimal | None = None
    output: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    per_request: Decimal | None = None
    free: bool = False
    from_: Time | None = msgspec.field(name="from", default=None)


class NewTopup(Body, frozen=True, kw_only=True):
    """`POST topups`: money for an account, once for each reference."""

    account: Name
    amount: Decimal
    ref: Name


class NewAdjustment(Body, frozen=True, kw_only=True):
    """`POST adjustments`: a change of a balance, up or down, once for each reference."""

    account: Name
    amount: Decimal
    reason: Reason
    ref: Name


_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?\Z", re.DOTALL)


def read_body(body: bytes, kind: type[T]) -> T:
    """The body of a request; raises InvalidRequest."""
    try:
        found = msgspec.json.decode(body or b"{}", type=kind)
    except NOT_JSON as error:
        raise _invalid(error, kind) from None
    for name in found.__struct_fields__:
        _check_printable(name, getattr(found, name))
    return found


def _invalid(error: Exception, kind: type[Struct]) -> InvalidRequest:
    unknown = _UNKNOWN.match(str(error))
    if unknown is None:
        return invalid_from(error)
    path = ".".join(filter(None, (unknown[2], unknown[1])))[:200]
    known = ", ".join(kind.__struct_encode_fields__) or "none"
    more = "" if unknown[2] else f" Known: {known}."
    return InvalidRequest(
        f"Unknown parameter: '{path}'.{more}", param=path, code="unknown_parameter"
    )


def _check_printable(field: str, value: object) -> None:
    """Raise InvalidRequest for a text, or one in a list, that does not show what it is."""
    if field == "password":
        return
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            _check_printable(f"{field}.{name}", getattr(value, name))
    elif isinstance(value, tuple):
        for number, one in enumerate(cast("tuple[object, ...]", value)):
            _check_printable(f"{field}[{number}]", one)
    elif isinstance(value, str) and (not value.isprintable() or value != value.strip()):
        raise invalid(field, "it must be printable, without space around it")


def invalid(path: str, why: str) -> InvalidRequest:
    """The error of a field that is not as it has to be."""
    return InvalidRequest(f"Invalid '{path}': {why}.", param=path, code="invalid_value")


def amount_of(text: str, path: str, *, least: int | None = None) -> int:
    """Pico of a decimal text; raises InvalidRequest."""
    try:
        found = read_amount(text)
    except InvalidAmount as error:
        raise invalid(path, str(error)) from None
    if least is not None and found < least:
        raise invalid(path, f"it must be {least} or more")
    return found


def price_of(text: str | None, path: str) -> int | None:
    """Pico per token of a decimal price per million tokens; raises InvalidRequest."""
    try:
        return None if text is None else read_price(text)
    except InvalidAmount as error:
        raise invalid(path, str(error)) from None


def time_of(text: str | None, path: str) -> int | None:
    """Microseconds of a time; raises InvalidRequest."""
    try:
        return None if text is None else read_time(text)
    except (ValueError, OverflowError):
        raise invalid(path, "it is no time such as '2027-01-31T12:00:00Z'") from None


def id_of(text: str, prefix: str, path: str) -> int:
    """The number of an id such as `acct_3`; raises InvalidRequest."""
    number = text.removeprefix(f"{prefix}_")
    if number == text or not (number.isascii() and number.isdigit()):
        raise invalid(path, f"it is no id such as '{prefix}_17'")
    return int(number[:18])


def check_model(name: str, path: str) -> None:
    """Raise InvalidRequest for the settings' name of all other models, which has no price."""
    if name == CATCH_ALL:
        raise invalid(path, "a price is for one model")
