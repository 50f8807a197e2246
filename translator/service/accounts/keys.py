"""What is known of a key: its account, its limits, and the models that its channels offer.

It is read once and used for a second; a hold checks in its own transaction whether it still holds
(`generation`). So a request costs no read, and a key that is revoked is refused at once.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from translator.service.base.keys import StoredKey
from translator.service.config.sections import CATCH_ALL
from translator.service.database.connection import Connection

from . import statements as sql
from .tools import has_right

_read_names = msgspec.json.Decoder(tuple[str, ...]).decode

ALL = "*"
"""Of a channel: all models that the settings list."""


class Channel(Struct, frozen=True):
    """A list of models with one price list; `models` may have ALL."""

    name: str
    title: str
    models: tuple[str, ...]
    price_list: str
    tools: tuple[str, ...] | None = None
    """Tools that its keys may have called; None: all."""


class Catalog(Struct, frozen=True):
    """The channels by name, and what has a price now: pairs of a price list and a model."""

    channels: dict[str, Channel]
    priced: frozenset[tuple[str, str]]


class Key(Struct, frozen=True, kw_only=True):
    """A key. Limits of None are no limits; amounts are pico, times microseconds."""

    id: int
    account: int
    account_name: str
    name: str
    stored: StoredKey
    channels: tuple[str, ...]
    models: tuple[str, ...] | None
    tools: tuple[str, ...] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrent_requests: int | None
    max_stored_bytes: int | None
    limit_amount: int | None
    limit_period: str | None
    expires_at: int | None
    revoked: bool
    suspended: bool
    generation: int
    """Of all that was read with it."""

    read_at: int
    catalog: Catalog

    @property
    def is_limited(self) -> bool:
        """Whether it has limits that the end of a request changes, beside the account's money."""
        limits = (self.tokens_per_minute, self.max_concurrent_requests, self.limit_amount)
        return any(one is not None for one in limits)


class Offer(Struct, frozen=True):
    """Which models there are: those of the settings, and whether they need prices."""

    listed: frozenset[str] | None
    """The model table's ids; None: any model goes to the only upstream."""

    catches_all: bool
    billing: bool

    def channel(self, key: Key, model: str) -> Channel | None:
        """The channel by which a key has a model; None where it may not use it."""
        if model == CATCH_ALL or (key.models is not None and model not in key.models):
            return None
        if self.listed is not None and model not in self.listed:
            return None
        for name in key.channels:
            channel = key.catalog.channels.get(name)
            if channel is not None and (ALL in channel.models or model in channel.models):
                priced = (channel.price_list, model) in key.catalog.priced
                return channel if priced or not self.billing else None
        return None

    def tool_channel(self, key: Key, tool: str) -> Channel | None:
        """The channel by which a key has a tool, and its price; None where it may not use it."""
        if not has_right(key.tools, tool):
            return None
        for name in key.channels:
            channel = key.catalog.channels.get(name)
            if channel is not None and has_right(channel.tools, tool):
                return channel
        return None

    def any_model(self, key: Key) -> bool:
        """Whether a key may use whatever name there is."""
        if self.billing or self.catches_all or key.models is not None:
            return False
        found = (key.catalog.channels.get(name) for name in key.channels)
        return any(one is not None and ALL in one.models for one in found)


def read_key(connection: Connection, salt: str, *, billing: bool) -> Key | None:
    """The key of a salt with all that belongs to it; None where there is none."""
    rows = connection.execute(sql.KEY_OF_SALT, {"salt": salt})
    if not rows:
        return None
    [(*row, expires_at, revoked_at, suspended_at, generation, now)] = rows
    key_id, account, account_name, name, salt, digest, channels, models, tools, *limits = row
    per_minute, tokens, concurrent, stored_bytes, amount, period = limits
    return Key(
        id=key_id,
        account=account,
        account_name=account_name,
        name=name,
        stored=StoredKey(salt, digest),
        channels=read_names(channels) or (),
        models=read_names(models),
        tools=read_names(tools),
        requests_per_minute=per_minute,
        tokens_per_minute=tokens,
        max_concurrent_requests=concurrent,
        max_stored_bytes=stored_bytes,
        limit_amount=amount,
        limit_period=period,
        expires_at=expires_at,
        revoked=revoked_at is not None,
        suspended=suspended_at is not None,
        generation=generation,
        read_at=now,
        catalog=read_catalog(connection, billing=billing),
    )


def read_catalog(connection: Connection, *, billing: bool) -> Catalog:
    """The channels, and what has a price at this moment."""
    channels = {
        name: Channel(name, title, read_names(models) or (), price_list, read_names(tools))
        for name, title, models, price_list, tools in connection.execute(sql.CHANNELS)
    }
    priced = connection.execute(sql.PRICED) if billing else []
    return Catalog(channels, frozenset((price_list, model) for price_list, model in priced))


def read_names(text: str | None) -> tuple[str, ...] | None:
    """A list of names as a column has it: JSON, or NULL."""
    return None if text is None else _read_names(text)


def is_list(text: str) -> bool:
    """Whether a text is a list of channels, as people write it, and so no name of one."""
    return "," in text or text in (ALL, "none")


def names_text(names: tuple[str, ...] | None) -> str | None:
    """The column of a list of names."""
    return None if names is None else msgspec.json.encode(names).decode()
