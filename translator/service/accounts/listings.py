"""Lists of everything, page by page, as an operator's programs read them.

Each goes on after an id, or a name, and finds one row more than its limit where there are more.
"""

from __future__ import annotations

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .books import ACCOUNT_COLUMNS, Account, read_account
from .key_book import KeyRow, key_of
from .keys import Channel, read_names
from .people import User
from .price_book import PriceRow

_ACCOUNTS = Statement(
    f"SELECT {ACCOUNT_COLUMNS} FROM acct_accounts"
    " WHERE id > :after AND (CAST(:name AS TEXT) = '' OR name = :name) ORDER BY id LIMIT :limit"
)
_USERS = Statement(
    "SELECT u.id, u.name, u.role, u.account_id, a.name, u.disabled_at, u.created_at"
    " FROM acct_users u LEFT JOIN acct_accounts a ON a.id = u.account_id"
    " WHERE u.id > :after ORDER BY u.id LIMIT :limit"
)
_KEYS = Statement(
    "SELECT account_id, id FROM acct_keys WHERE id > :after"
    " AND (CAST(:account AS BIGINT) = 0 OR account_id = :account) ORDER BY id LIMIT :limit"
)
_KEY = Statement("SELECT account_id FROM acct_keys WHERE id = :id")
_CHANNELS = Statement(
    "SELECT name, title, models, price_list, tools FROM acct_channels WHERE name > :after"
    " ORDER BY name LIMIT :limit"
)
_CHANNEL = Statement(
    "SELECT name, title, models, price_list, tools FROM acct_channels WHERE name = :name"
)
_PRICES = Statement(
    "SELECT id, model, input, output, cached_input, cache_write, per_request, free, price_list,"
    " from_at FROM acct_prices WHERE id > :after"
    " AND (CAST(:list AS TEXT) = '' OR price_list = :list)"
    " AND (CAST(:model AS TEXT) = '' OR model = :model) ORDER BY id LIMIT :limit"
)
_PRICE = Statement(
    "SELECT id FROM acct_prices WHERE price_list = :list AND model = :model AND from_at = :at"
)


def list_accounts(
    connection: Connection, *, after: int = 0, limit: int = 100, name: str = ""
) -> list[Account]:
    """Accounts by their ids; `name`: the one that is called so."""
    values = {"after": after, "limit": limit + 1, "name": name}
    return [read_account(row) for row in connection.execute(_ACCOUNTS, values)]


def list_users(connection: Connection, *, after: int = 0, limit: int = 100) -> list[User]:
    """Users by their ids."""
    values = {"after": after, "limit": limit + 1}
    return [User(*row) for row in connection.execute(_USERS, values)]


def list_keys(
    connection: Connection, *, after: int = 0, limit: int = 100, account: int = 0
) -> list[tuple[int, KeyRow]]:
    """Keys by their ids, each with the id of its account; 0: those of all accounts."""
    values = {"after": after, "limit": limit + 1, "account": account}
    found: list[tuple[int, KeyRow]] = []
    for owner, key_id in connection.execute(_KEYS, values):
        row = key_of(connection, owner, key_id)
        assert row is not None
        found.append((owner, row))
    return found


def find_key(connection: Connection, key_id: int) -> tuple[int, KeyRow] | None:
    """The key of an id, with the id of its account; None where there is none."""
    for (owner,) in connection.execute(_KEY, {"id": key_id}):
        row = key_of(connection, owner, key_id)
        return None if row is None else (owner, row)
    return None


def list_channels(connection: Connection, *, after: str = "", limit: int = 100) -> list[Channel]:
    """Channels by their names."""
    values = {"after": after, "limit": limit + 1}
    return [_channel(*row) for row in connection.execute(_CHANNELS, values)]


def find_channel(connection: Connection, name: str) -> Channel | None:
    """The channel of a name; None where there is none."""
    rows = connection.execute(_CHANNEL, {"name": name})
    return _channel(*rows[0]) if rows else None


def list_prices(
    connection: Connection,
    *,
    after: int = 0,
    limit: int = 100,
    price_list: str = "",
    model: str = "",
) -> list[tuple[int, PriceRow]]:
    """Prices by their ids, those of the past and of the future, too."""
    values = {"after": after, "limit": limit + 1, "list": price_list, "model": model}
    return [_price(*row) for row in connection.execute(_PRICES, values)]


def price_id(connection: Connection, price_list: str, model: str, at: int) -> int:
    """The id of a price that is there."""
    values = {"list": price_list, "model": model, "at": at}
    return int(connection.execute(_PRICE, values)[0][0])


def _channel(name: str, title: str, models: str, price_list: str, tools: str | None) -> Channel:
    return Channel(name, title, read_names(models) or (), price_list, read_names(tools))


def _price(
    number: int,
    model: str,
    input_: int,
    output: int,
    cached: int | None,
    write: int | None,
    per_request: int,
    free: int,
    price_list: str,
    at: int,
) -> tuple[int, PriceRow]:
    return number, PriceRow(
        model, input_, output, cached, write, per_request, bool(free), price_list, at
    )
