"""The transactions beside a model of them: whatever is held, settled, swept, retried and corrected.

The invariants are those of an account book: every figure follows from rows that never change.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.service.store import postgres
from translator.service.accounts import books as book
from translator.service.accounts import key_book
from translator.service.accounts import statements as sql
from translator.service.accounts.bills import Bill, Counts
from translator.service.accounts.books import PriceRow
from translator.service.accounts.holds import Held, HoldRequest, Refused, hold
from translator.service.accounts.key_book import Limits
from translator.service.accounts.keys import read_key
from translator.service.accounts.reconcile import differences
from translator.service.accounts.settlements import Settlement, settle, sweep, undo
from translator.service.base.keys import new_key, store
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, reading, writing
from translator.service.database.statement import DatabaseTime, Statement

from .conftest import emptied
from .paying import initialized

LEASE_US = 60_000_000
NAMES = ("acme", "bolt")
DAY_S = 86_400.0


@dataclass
class Open:
    """A hold of the model, whose process may be dead, or be taken for dead."""

    held: Held
    account: str
    key: int
    price: PriceRow
    boot: str
    day: int
    seen: tuple[int, int] | None = None
    swept: bool = False
    corrected: bool = False
    billed: int = 0


@dataclass
class Known:
    """A key of the model."""

    id: int
    account: str
    salt: str
    limit: int | None
    revoked: bool = False
    spent: dict[int, int] = field(default_factory=dict)


def cost(price: PriceRow, counts: Counts) -> int:
    """The formula once more, with fractions of nothing."""
    if price.free:
        return 0
    cached = min(counts.cached, counts.input)
    written = min(counts.written, counts.input - cached)
    rest = counts.input - cached - written
    total = rest * price.input + counts.output * price.output + price.per_request
    total += cached * (price.input if price.cached_input is None else price.cached_input)
    return total + written * (price.input if price.cache_write is None else price.cache_write)


class Both:
    """The database and the model, to which the same is done."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.balance = dict.fromkeys(NAMES, 0)
        self.credit = dict.fromkeys(NAMES, 0)
        self.suspended = dict.fromkeys(NAMES, False)
        self.keys: list[Known] = []
        self.price: PriceRow | None = None
        self.holds: list[Open] = []
        self.ended: list[Open] = []
        self.day = 0
        self.count = 0
        self.rows: dict[str, list[Any]] = {}
        with writing(connection):
            for name in NAMES:
                book.add_account(connection, name)
        self.add_key(0, None)

    def number(self) -> int:
        self.count += 1
        return self.count

    # --- an operator ----------------------------------------------------------------------------

    def add_key(self, which: int, limit: int | None) -> None:
        text, name = new_key(), NAMES[which % 2]
        limits = Limits(limit_amount=limit, limit_period=None if limit is None else "day")
        with writing(self.connection):
            made = key_book.add_key(
                self.connection, name, f"key {self.number()}", store(text), limits
            )
        self.keys.append(Known(made, name, store(text).salt, limit))

    def revoke(self, which: int) -> None:
        known = self.keys[which % len(self.keys)]
        with writing(self.connection):
            found = key_book.key(self.connection, f"key_{known.id}", None)
            key_book.revoke(self.connection, found)
        known.revoked = True

    def suspend(self, which: int) -> None:
        name = NAMES[which % 2]
        self.suspended[name] = not self.suspended[name]
        with writing(self.connection):
            book.suspend(self.connection, name, suspended=self.suspended[name])

    def set_price(self, input_: int, output: int, cached: int | None, per_request: int) -> None:
        free = not (input_ or output or cached or per_request)
        price = PriceRow("m", input_, output, cached, None, per_request, free=free)
        self.day += 1
        self._time(self.day * DAY_S)  # prices have times of their own
        with writing(self.connection):
            book.set_price(self.connection, price, "tests")
        self.price = price

    def top_up(self, which: int, amount: int, twice: bool) -> None:
        name, ref = NAMES[which % 2], f"ref {self.number()}"
        for again in range(1 + twice):
            with writing(self.connection):
                entry = book.top_up(self.connection, name, amount, ref, "tests")
            assert entry.new is not bool(again)
        self.balance[name] += amount

    def adjust(self, which: int, amount: int) -> None:
        name = NAMES[which % 2]
        with writing(self.connection):
            book.adjust(self.connection, name, amount, "why", f"ref {self.number()}", "tests")
        self.balance[name] += amount

    def _time(self, offset_s: float) -> None:
        self.connection.time.offset_s = offset_s

    # --- requests -------------------------------------------------------------------------------

    def held(self, name: str) -> int:
        return sum(one.held.amount for one in self.holds if one.account == name)

    def hold(self, which: int, input_: int, asked: int, again: bool) -> None:
        known = self.keys[which % len(self.keys)]
        with reading(self.connection):
            key = read_key(self.connection, known.salt, billing=True)
        assert key is not None
        ask = HoldRequest(
            token=f"token {self.number()}",
            boot=f"boot {self.number()}",
            account=key.account,
            key=key.id,
            generation=key.generation,
            model="m",
            channel="all",
            endpoint="/responses",
            request_id="r",
            tokens=1,
            price_list="standard",
            input_tokens=input_,
            asked=asked,
            least_limit=10,
        )
        with writing(self.connection):
            self.connection.change(sql.RENEW, {"boot": ask.boot})
            found = hold(self.connection, ask, again=False)
        if again:  # as where the outcome of the commit was unknown
            with writing(self.connection):
                found = hold(self.connection, ask, again=True)
        left = self.left(known)
        expected = None
        if known.revoked:
            expected = "revoked"
        elif self.suspended[known.account]:
            expected = "suspended"
        elif self.price is None:
            expected = "unpriced"
        if expected is not None:
            assert isinstance(found, Refused)
            assert found.why == expected
            return
        assert self.price is not None
        if isinstance(found, Refused):
            assert found.why in ("balance", "key_limit")
            least = cost(self.price, Counts(input=input_, output=min(asked, 10)))
            assert left < max(least, 0) or left < 0
            return
        assert 0 <= found.amount <= max(0, left)
        limit = asked if found.max_output_tokens is None else found.max_output_tokens
        assert found.amount == cost(self.price, Counts(input=input_, output=limit))
        assert limit <= asked
        self.holds.append(Open(found, known.account, known.id, self.price, ask.boot, self.day))

    def left(self, known: Known) -> int:
        name = known.account
        available = self.balance[name] + self.credit[name] - self.held(name)
        if known.limit is None:
            return available
        held = sum(
            one.held.amount for one in self.holds if one.key == known.id and one.day == self.day
        )
        return min(available, known.limit - known.spent.get(self.day, 0) - held)

    def end(self, which: int, part: int, billed: bool, times: int) -> None:
        """Settle a hold for a part of what it paid for; a settlement may be done again."""
        if not self.holds:
            return
        one = self.holds.pop(which % len(self.holds))
        price, limit = one.price, one.held.amount
        counts = Counts(input=part)
        if price.output and not price.free:
            counts = Counts(output=limit // price.output * part // 100)
        bill = Bill(counts, "no", billed=billed)
        end = self._settlement(one, bill)
        for _ in range(times):
            with writing(self.connection):
                settle(self.connection, end)
        self._booked(one, cost(price, counts) if billed else 0)

    def _settlement(self, one: Open, bill: Bill) -> Settlement:
        account = {"acme": 1, "bolt": 2}[one.account]
        return Settlement(
            id=one.held.id, account=account, key=one.key, bill=bill, outcome="completed"
        )

    def _booked(self, one: Open, amount: int) -> None:
        one.billed = amount
        self.balance[one.account] -= amount
        self.ended.append(one)
        known = next(known for known in self.keys if known.id == one.key)
        if one.day == self.day:
            known.spent[self.day] = known.spent.get(self.day, 0) + amount

    def checkpoint(self, which: int, output: int) -> None:
        if not self.holds:
            return
        one = self.holds[which % len(self.holds)]
        output = min(output, 0 if not one.price.output else one.held.amount // one.price.output)
        with writing(self.connection):
            self.connection.change(
                sql.CHECKPOINT,
                {"id": one.held.id, "input": 0, "output": output, "boot": one.boot},
            )
        one.seen = 0, output

    def die(self, which: int) -> None:
        """A process stops renewing its lease: two sweepers end its hold."""
        if not self.holds:
            return
        one = self.holds.pop(which % len(self.holds))
        self.connection_change("UPDATE acct_boots SET seen_at = 0 WHERE id = :boot", boot=one.boot)
        account = {"acme": 1, "bolt": 2}[one.account]
        ended = []
        for _ in range(2):
            with writing(self.connection):
                ended.append(sweep(self.connection, one.held.id, account, one.key, LEASE_US))
        assert ended == [True, False]
        amount = 0
        if one.seen is not None:
            amount = cost(one.price, Counts(input=one.seen[0], output=one.seen[1]))
        one.swept = True
        self._booked(one, amount)

    def come_back(self, which: int, output: int, times: int) -> None:
        """A process that was taken for dead settles all the same."""
        late = [one for one in self.ended if one.swept]
        if not late:
            return
        one = late[which % len(late)]
        counts = Counts(output=output)
        for _ in range(times):
            with writing(self.connection):
                settle(self.connection, self._settlement(one, Bill(counts, "no", billed=True)))
        if not one.corrected:
            amount = cost(one.price, counts)
            if amount != one.billed:
                one.corrected = True
                self.balance[one.account] += one.billed - amount

    def give_up(self, which: int) -> None:
        """Nobody waits for a hold any more."""
        if not self.holds:
            return
        one = self.holds.pop(which % len(self.holds))
        [(token,)] = self.select("SELECT token FROM acct_holds WHERE id = :id", id=one.held.id)
        for _ in range(2):
            with writing(self.connection):
                undo(self.connection, token)
        self._booked(one, 0)

    # --- what must hold -------------------------------------------------------------------------

    def connection_change(self, text: str, **values: Any) -> None:
        with writing(self.connection):
            self.connection.change(Statement(text), values)

    def select(self, text: str, **values: Any) -> list[Any]:
        with reading(self.connection):
            return self.connection.execute(Statement(text), values)

    def check(self) -> None:
        with reading(self.connection):
            assert list(differences(self.connection)) == []
            for one in book.accounts(self.connection):
                assert (one.balance, one.held) == (self.balance[one.name], self.held(one.name))
        ended = self.select("SELECT hold_id, amount FROM acct_usages ORDER BY hold_id")
        mine = sorted((one.held.id, one.billed) for one in self.ended)
        assert [row for row in ended if row in mine] == mine
        assert not {one.held.id for one in self.holds} & {row[0] for row in ended}
        for table, key in (("ledger", "id"), ("usages", "hold_id"), ("prices", "id")):
            rows = self.select(f"SELECT * FROM acct_{table} ORDER BY {key}")
            before = self.rows.get(table, [])
            assert set(before) <= set(rows), f"a row of {table} has changed"
            self.rows[table] = rows


INDEX = st.integers(0, 20)
AMOUNT = st.integers(1, 10**7)
FIGURE = st.integers(0, 5000)


def step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), st.tuples(*arguments))


STEPS = st.lists(
    st.one_of(
        step("top_up", INDEX, AMOUNT, st.booleans()),
        step("top_up", INDEX, AMOUNT, st.booleans()),
        step("adjust", INDEX, st.integers(-(10**6), 10**6).filter(bool)),
        step("set_price", FIGURE, FIGURE, st.none() | FIGURE, FIGURE),
        step("add_key", INDEX, st.none() | AMOUNT),
        step("revoke", INDEX),
        step("suspend", INDEX),
        *[step("hold", INDEX, st.integers(0, 500), st.integers(1, 500), st.booleans())] * 4,
        *[step("end", INDEX, st.integers(0, 100), st.booleans(), st.integers(1, 2))] * 2,
        step("checkpoint", INDEX, st.integers(0, 400)),
        step("die", INDEX),
        step("come_back", INDEX, st.integers(0, 400), st.integers(1, 2)),
        step("give_up", INDEX),
    ),
    max_size=25,
)


@contextmanager
def _sqlite(migrated: Path) -> Iterator[Location]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "accounts.db"
        shutil.copy(migrated, file)
        location = Location("sqlite", str(file))
        initialized(location)
        yield location


EVERY_WAY: list[tuple[str, tuple[Any, ...]]] = [
    ("add_key", (0, 2 * 10**6)),  # a key whose limit pays for two of these
    *[("hold", (1, 100, 300, False))] * 3,
    *[("end", (0, 100, True, 1))] * 2,
    *[("hold", (1, 100, 300, False))] * 2,
    ("hold", (0, 100, 300, True)),
    ("checkpoint", (0, 100)),
    ("checkpoint", (1, 200)),
    ("die", (0,)),
    ("come_back", (0, 300, 2)),
    ("set_price", (1200, 5000, None, 0)),
    ("end", (0, 50, True, 2)),
    ("hold", (1, 100, 300, False)),
    ("hold", (1, 100, 300, False)),
    ("die", (0,)),
    ("come_back", (1, 100, 1)),
    ("give_up", (0,)),
    ("end", (0, 100, False, 2)),
    *[("hold", (0, 500, 500, False))] * 8,
    ("set_price", (0, 0, None, 0)),
    ("hold", (0, 500, 500, False)),
    ("end", (0, 100, True, 1)),
    ("adjust", (0, -(10**7))),
    ("hold", (0, 500, 500, False)),
    ("suspend", (0,)),
    ("hold", (0, 1, 1, False)),
    ("suspend", (0,)),
    ("revoke", (0,)),
    ("hold", (0, 1, 1, False)),
]


def play(location: Location, steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Take the steps in an empty database and in the model, and compare both after each."""
    with closing(connect(location, DatabaseTime())) as connection:
        both = Both(connection)
        both.set_price(600, 2500, 100, 7)
        both.top_up(0, 10**7, False)
        for name, arguments in steps:
            getattr(both, name)(*arguments)
            both.check()


NO_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=15, deadline=None, suppress_health_check=NO_CHECKS)
@example(EVERY_WAY)
@given(STEPS)
def test_every_figure_follows_from_rows_that_never_change(
    migrated_file: Path, steps: list[tuple[str, tuple[Any, ...]]]
) -> None:
    with _sqlite(migrated_file) as location:
        play(location, steps)


@settings(max_examples=4, deadline=None, suppress_health_check=NO_CHECKS)
@example(EVERY_WAY)
@given(STEPS)
def test_every_figure_follows_from_rows_on_postgresql(
    postgres_server: postgres.Server, steps: list[tuple[str, tuple[Any, ...]]]
) -> None:
    play(emptied(postgres_server), steps)
