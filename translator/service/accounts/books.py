"""What an operator does to accounts, channels and prices: each in one transaction.

Ids outside are texts: `acct_3`, `key_17`. A reference makes a top-up or an adjustment happen once,
however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql
from .keys import ALL, Channel, is_list, names_text, read_catalog
from .money import MAX_BALANCE, MAX_PER_REQUEST, MAX_PRICE, PRICE, shown
from .periods import DAY_US
from .settlements import enter
from .tools import TOOLS, is_priced_name, priced_name, tool_problem

STANDARD = "standard"
"""The price list that `init` makes."""

EVERYTHING = "all"
"""The channel that `init` makes: all models, at standard prices."""


class Mistake(Exception):
    """What is asked for is not possible; the text is a sentence for its reader."""


class Account(Struct, frozen=True):
    """An account; amounts are pico, times microseconds."""

    id: int
    name: str
    balance: int
    held: int
    credit: int
    suspended_at: int | None
    created_at: int

    @property
    def available(self) -> int:
        """What requests can still use."""
        return self.balance + self.credit - self.held


class Entry(Struct, frozen=True):
    """An entry of the ledger that a reference made; `new`: just now."""

    id: int
    amount: int
    new: bool


class PriceRow(Struct, frozen=True):
    """A price from a time on: pico per token, and per request; None is the input's price."""

    model: str
    input: int = 0
    output: int = 0
    cached_input: int | None = None
    cache_write: int | None = None
    per_request: int = 0
    free: bool = False
    price_list: str = STANDARD
    from_at: int | None = None


def now(connection: Connection) -> int:
    """The database's time, in microseconds."""
    return int(connection.execute(sql.TIME)[0][0])


_NEXT = Statement(
    "UPDATE acct_meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = 'generation'"
)


def changed(connection: Connection) -> None:
    """Let every process read again what it knows of keys, channels and prices."""
    connection.change(_NEXT)


_META = Statement("SELECT value FROM acct_meta WHERE key = :key")
_SET_META = Statement("INSERT INTO acct_meta (key, value) VALUES (:key, :value)")
_NEW_CHANNEL = Statement(
    "INSERT INTO acct_channels (name, title, models, price_list)"
    " VALUES (:name, :title, :models, :list)"
    " ON CONFLICT (name) DO UPDATE SET title = excluded.title, models = excluded.models,"
    " price_list = excluded.price_list"
)
_NEW_LIST = Statement(
    f"INSERT INTO acct_price_lists (name, created_at) VALUES (:name, {sql.NOW})"
    " ON CONFLICT (name) DO NOTHING"
)
_LISTS = Statement("SELECT name FROM acct_price_lists ORDER BY name")


def initialize(connection: Connection, currency: str) -> bool:
    """Write what new tables begin with; False where they have it. Raises Mistake."""
    found = connection.execute(_META, {"key": "currency"})
    if found:
        if problem := check_currency(connection, currency):
            raise Mistake(problem)
        return False
    connection.change(_SET_META, {"key": "currency", "value": currency})
    connection.change(_NEW_LIST, {"name": STANDARD})
    set_channel(connection, Channel(EVERYTHING, "All models", (ALL,), STANDARD))
    return True


def check_currency(connection: Connection, currency: str) -> str:
    """What is wrong with a currency of the settings; empty where it is that of the database."""
    rows = connection.execute(_META, {"key": "currency"})
    if not rows:
        return "the database has none yet; run: translator account init --config FILE"
    [(fixed,)] = rows
    return "" if fixed == currency else f"is {currency}, and all amounts are in {fixed}"


# --- accounts ----------------------------------------------------------------------------------

_COLUMNS = "id, name, balance, held, credit, suspended_at, created_at"
_ACCOUNTS = Statement(f"SELECT {_COLUMNS} FROM acct_accounts ORDER BY id")
_ACCOUNT = Statement(f"SELECT {_COLUMNS} FROM acct_accounts WHERE name = :name")
_ACCOUNT_OF_ID = Statement(f"SELECT {_COLUMNS} FROM acct_accounts WHERE id = :id")
_NEW_ACCOUNT = Statement(
    "INSERT INTO acct_accounts (name, credit, created_at)"
    f" VALUES (:name, :credit, {sql.NOW}) ON CONFLICT (name) DO NOTHING RETURNING id"
)
_CREDIT = Statement("UPDATE acct_accounts SET credit = :credit WHERE id = :id")
_SUSPEND = Statement(
    f"UPDATE acct_accounts SET suspended_at = coalesce(suspended_at, {sql.NOW}) WHERE id = :id"
)
_RESUME = Statement("UPDATE acct_accounts SET suspended_at = NULL WHERE id = :id")


def accounts(connection: Connection) -> list[Account]:
    """All accounts, oldest first."""
    return [Account(*row) for row in connection.execute(_ACCOUNTS)]


def account(connection: Connection, name: str) -> Account:
    """The account of a name; raises Mistake."""
    for row in connection.execute(_ACCOUNT, {"name": name}):
        return Account(*row)
    known = ", ".join(one.name for one in accounts(connection)[:20]) or "none"
    raise Mistake(f"there is no account {name!r}; known: {known}")


def account_of_id(connection: Connection, account_id: int) -> Account | None:
    """The account of an id; None where there is none."""
    rows = connection.execute(_ACCOUNT_OF_ID, {"id": account_id})
    return Account(*rows[0]) if rows else None


def add_account(connection: Connection, name: str, credit: int = 0) -> int:
    """A new account's id; `credit` is the debt that it may have. Raises Mistake."""
    rows = connection.execute(_NEW_ACCOUNT, {"name": name, "credit": credit})
    if not rows:
        raise Mistake(f"there is an account {name!r} already")
    return int(rows[0][0])


def set_credit(connection: Connection, name: str, credit: int) -> None:
    """Let an account have another debt."""
    connection.change(_CREDIT, {"id": account(connection, name).id, "credit": credit})


def suspend(connection: Connection, name: str, *, suspended: bool) -> None:
    """Refuse all requests of an account, or no longer."""
    found = account(connection, name)
    connection.change(_SUSPEND if suspended else _RESUME, {"id": found.id})
    changed(connection)


def top_up(connection: Connection, name: str, amount: int, ref: str, actor: str) -> Entry:
    """Add money to an account, once for each reference; raises Mistake."""
    if amount <= 0:
        raise Mistake("a top-up is more than 0; an adjustment takes money away")
    return _book(connection, "topup", account(connection, name), amount, ref, actor, "")


def adjust(connection: Connection, name: str, amount: int, why: str, ref: str, actor: str) -> Entry:
    """Change the balance of an account, for a reason, once for each reference; raises Mistake."""
    if not amount:
        raise Mistake("an adjustment of 0 changes nothing")
    return _book(connection, "adjustment", account(connection, name), amount, ref, actor, why)


def _book(
    connection: Connection,
    kind: str,
    to: Account,
    amount: int,
    ref: str,
    actor: str,
    note: str,
) -> Entry:
    assert kind in ("topup", "adjustment")
    rows = connection.execute(sql.ACCOUNT, {"account": to.id})  # locked: nobody else books
    at = rows[0][-1]
    for entry, owner, before in connection.execute(sql.ENTRY_OF_REF, {"kind": kind, "ref": ref}):
        if owner != to.id or before != amount:
            raise Mistake(f"the reference {ref!r} is that of another {kind}, entry {entry}")
        return Entry(entry, before, new=False)
    if abs(rows[0][0] + amount) > MAX_BALANCE:
        raise Mistake(f"the balance would be beyond {shown(MAX_BALANCE)}")
    values = {"account": to.id, "amount": amount}
    [(balance,)] = connection.execute(sql.CHANGE_BALANCE, values)
    made = enter(
        connection,
        "topup" if kind == "topup" else "adjustment",
        ref=ref,
        account=to.id,
        amount=amount,
        balance=balance,
        now=at,
        actor=actor,
        note=note,
    )
    return Entry(made, amount, new=True)


class LedgerRow(Struct, frozen=True):
    """A change of a balance; amounts are pico."""

    id: int
    at: int
    kind: str
    ref: str
    amount: int
    balance_after: int
    model: str | None
    actor: str
    note: str


_LEDGER = Statement(
    "SELECT id, at, kind, ref, amount, balance_after, model, actor, note FROM acct_ledger"
    " WHERE account_id = :account ORDER BY id DESC LIMIT :limit"
)

MAX_LISTED = 1000
"""Most entries of a ledger that are listed, the latest ones."""


def ledger(connection: Connection, account_id: int) -> list[LedgerRow]:
    """The latest changes of an account's balance, newest first."""
    values = {"account": account_id, "limit": MAX_LISTED}
    return [LedgerRow(*row) for row in connection.execute(_LEDGER, values)]


_PRUNED = Statement("SELECT CAST(value AS BIGINT) FROM acct_meta WHERE key = 'pruned_before'")
_SET_PRUNED = Statement(
    "INSERT INTO acct_meta (key, value) VALUES ('pruned_before', :at)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_OLD_USAGES = Statement(
    "DELETE FROM acct_usages WHERE hold_id IN"
    " (SELECT hold_id FROM acct_usages WHERE ended_at < :at ORDER BY hold_id LIMIT :limit)"
)

PRUNED_ROWS = 1000
"""Most usages that one transaction deletes: others write meanwhile."""


def pruned_before(connection: Connection) -> int:
    """The beginning of the first day whose usages are all there; 0 where none were deleted."""
    rows = connection.execute(_PRUNED)
    return int(rows[0][0]) if rows else 0


_OLDEST_USAGES = Statement(
    "DELETE FROM acct_usages WHERE hold_id IN (SELECT u.hold_id FROM (SELECT hold_id, ended_at"
    " FROM acct_usages ORDER BY hold_id LIMIT :limit) u WHERE u.ended_at < :at)"
)


def prune_oldest(connection: Connection, days: int) -> int:
    """Delete usages of more than so many whole days ago, among the PRUNED_ROWS oldest.

    Returns how many it were. Rows come in the order in which requests began, so that a look at the
    oldest is enough, however many there are.
    """
    at = now(connection)
    day = at - at % DAY_US - days * DAY_US
    deleted = connection.change(_OLDEST_USAGES, {"at": day, "limit": PRUNED_ROWS})
    if deleted and day > pruned_before(connection):
        connection.change(_SET_PRUNED, {"at": str(day)})
    return deleted


def prune(connection: Connection, before: int) -> int:
    """Delete usages of the days before one, at most PRUNED_ROWS; returns how many it were.

    Their sums, and the ledger, stay. Raises Mistake for a day that has not ended.
    """
    day = before - before % DAY_US
    if day > now(connection) - now(connection) % DAY_US:
        raise Mistake("only usages of days that are over can be deleted")
    if day > pruned_before(connection):
        connection.change(_SET_PRUNED, {"at": str(day)})
    return connection.change(_OLD_USAGES, {"at": day, "limit": PRUNED_ROWS})


# --- channels ----------------------------------------------------------------------------------


def channels(connection: Connection) -> Mapping[str, Channel]:
    """All channels by name."""
    return read_catalog(connection, billing=False).channels


def price_lists(connection: Connection) -> list[str]:
    """The names of all price lists."""
    return [name for (name,) in connection.execute(_LISTS)]


def set_channel(connection: Connection, channel: Channel) -> None:
    """Make a channel, or change it; raises Mistake for a price list that is not there."""
    if is_list(channel.name):
        raise Mistake(f"{channel.name!r} is no name of a channel: lists of channels have this")
    if channel.price_list not in price_lists(connection):
        known = ", ".join(price_lists(connection))
        raise Mistake(f"there is no price list {channel.price_list!r}; known: {known}")
    connection.change(
        _NEW_CHANNEL,
        {
            "name": channel.name,
            "title": channel.title,
            "models": names_text(channel.models),
            "list": channel.price_list,
        },
    )
    changed(connection)


_SET_TOOLS = Statement("UPDATE acct_channels SET tools = :tools WHERE name = :name")


def set_tools(connection: Connection, channel: str, tools: tuple[str, ...] | None) -> None:
    """Say which tools the keys of a channel may have called; None: all. Raises Mistake."""
    check_tools(tools)
    connection.change(_SET_TOOLS, {"name": channel, "tools": names_text(tools)})
    changed(connection)


def check_tools(tools: tuple[str, ...] | None) -> None:
    """Raise Mistake for the name of what is no tool."""
    for one in tools or ():
        if problem := tool_problem(one):
            raise Mistake(problem)


def unknown_models(connection: Connection, listed: frozenset[str] | None) -> list[tuple[str, str]]:
    """Channels with the models that they name and the settings do not list."""
    return [
        (channel.name, model)
        for channel in channels(connection).values()
        for model in channel.models
        if listed is not None and model != ALL and model not in listed
    ]


# --- prices ------------------------------------------------------------------------------------

_NEW_PRICE = Statement(
    "INSERT INTO acct_prices (price_list, model, from_at, input, cached_input, cache_write, output,"
    " per_request, free, created_by) VALUES (:list, :model, :at, :input, :cached, :write, :output,"
    " :request, :free, :actor)"
)
_SAME_PRICE = Statement(
    "SELECT 1 FROM acct_prices WHERE price_list = :list AND model = :model AND from_at = :at"
)
_HAS_PRICE = Statement(
    "SELECT 1 FROM acct_prices WHERE price_list = :list AND model = :model LIMIT 1"
)
_PRICES = Statement(
    "SELECT model, input, output, cached_input, cache_write, per_request, free, price_list, from_at"
    " FROM acct_prices ORDER BY price_list, model, from_at"
)


def set_price(connection: Connection, price: PriceRow, actor: str) -> int:
    """Let a price hold from a time on, by default from now; returns that time.

    Prices of the past never change: only the first price of a model may have held before now.
    Raises Mistake.
    """
    figures = (price.input, price.output, price.cached_input or 0, price.cache_write or 0)
    if any(not 0 <= one <= MAX_PRICE for one in figures):
        raise Mistake(f"a price is from 0 to {shown(MAX_PRICE, unit=PRICE)} per million tokens")
    if not 0 <= price.per_request <= MAX_PER_REQUEST:
        raise Mistake(f"a price per request is from 0 to {shown(MAX_PER_REQUEST)}")
    if is_priced_name(price.model):
        if price.model not in map(priced_name, TOOLS):
            raise Mistake(f"{price.model!r} is no tool; known: tool:search, tool:mcp")
        if any(figures):
            raise Mistake("a call of a tool has a price per request, and none per token")
    if price.free and any((*figures, price.per_request)):
        raise Mistake("a free model has no price")
    if not price.free and not any((*figures, price.per_request)):
        raise Mistake("all prices are 0; a model that costs nothing is to be free")
    at = now(connection)
    begins = at if price.from_at is None else price.from_at
    connection.change(_NEW_LIST, {"name": price.price_list})
    of_model = {"list": price.price_list, "model": price.model}
    if begins < at and connection.execute(_HAS_PRICE, of_model):
        raise Mistake(
            "the time is past, and prices of the past never change; set one from now on, and"
            " an adjustment corrects what was billed"
        )
    if connection.execute(_SAME_PRICE, {**of_model, "at": begins}):
        raise Mistake(f"there is a price of {price.model!r} from that time on already")
    connection.change(
        _NEW_PRICE,
        {
            **of_model,
            "at": begins,
            "input": price.input,
            "cached": price.cached_input,
            "write": price.cache_write,
            "output": price.output,
            "request": price.per_request,
            "free": int(price.free),
            "actor": actor,
        },
    )
    changed(connection)
    return begins


def prices(connection: Connection) -> list[PriceRow]:
    """All prices, those of the past and of the future, too."""
    return [
        PriceRow(model, input_, output, cached, write, per_request, bool(free), price_list, at)
        for model, input_, output, cached, write, per_request, free, price_list, at in (
            connection.execute(_PRICES)
        )
    ]


def prices_now(connection: Connection, price_list: str) -> list[PriceRow]:
    """The prices of a list that hold at this moment."""
    at = now(connection)
    found: dict[str, PriceRow] = {}
    for one in prices(connection):  # by their times
        if one.price_list == price_list and (one.from_at or 0) <= at:
            found[one.model] = one
    return list(found.values())


def copy_prices(
    connection: Connection, source: str, target: str, times: Fraction, actor: str
) -> int:
    """Copy the prices that hold now to another list, multiplied exactly; returns their number.

    Raises Mistake where a product has more than six decimals.
    """
    found = prices_now(connection, source)
    if not found:
        known = ", ".join(price_lists(connection))
        raise Mistake(f"the price list {source!r} has no prices; known: {known}")
    for one in found:
        figures = {
            name: None if value is None else _times(value, times, one.model)
            for name, value in (
                ("input", one.input),
                ("output", one.output),
                ("cached_input", one.cached_input),
                ("cache_write", one.cache_write),
                ("per_request", one.per_request),
            )
        }
        made = PriceRow(
            one.model,
            figures["input"] or 0,
            figures["output"] or 0,
            figures["cached_input"],
            figures["cache_write"],
            figures["per_request"] or 0,
            free=one.free,
            price_list=target,
        )
        set_price(connection, made, actor)
    return len(found)


def _times(value: int, times: Fraction, model: str) -> int:
    product = value * times
    if product.denominator != 1:
        raise Mistake(f"a price of {model!r} would have more than six decimals")
    return product.numerator
