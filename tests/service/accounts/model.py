"""A model of the books in plain Python, to which the same is done as to a database.

Two processes do it by turns. The numbers are those of the invariants of an account book: whatever
is held, extended, settled, swept, retried and corrected, every figure follows from rows that never
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from translator.service.accounts import books as book
from translator.service.accounts import changes, key_book, price_book
from translator.service.accounts import statements as sql
from translator.service.accounts.bills import Bill, Counts, bill_of_calls
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.extensions import Extended, ExtensionRequest, extend
from translator.service.accounts.holds import Held, HoldRequest, Refused, hold
from translator.service.accounts.keys import read_key
from translator.service.accounts.periods import period_start
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.reconcile import differences
from translator.service.accounts.settlements import Settlement, settle, sweep, undo
from translator.service.accounts.tools import ToolCalls
from translator.service.accounts.usage import ledger, total, usages
from translator.service.base.keys import new_key, store
from translator.service.database.connection import Connection, reading, writing
from translator.service.database.statement import Statement

from .conftest import TABLES

LEASE_US = 60_000_000
NAMES = ("acme", "bolt")
IDS = {"acme": 1, "bolt": 2}
DAY_S = 86_400.0
PER_MINUTE = 5
LEAST = 10
"""Least tokens of an answer that must be affordable."""


@dataclass
class Open:
    """A hold of the model, whose process may be dead, or be taken for dead."""

    held: Held
    account: str
    key: int
    price: PriceRow
    boot: str
    day: int
    amount: int
    parent: Open | None = None
    is_call: bool = False
    spent: Counts = field(default_factory=Counts)
    seen: tuple[int, int] | None = None
    swept: bool = False
    corrected: bool = False
    billed: int = 0

    @property
    def most_output(self) -> int:
        """Most tokens that an honest upstream still makes."""
        if not self.price.output:
            return 0
        left = self.amount - cost(self.price, self.spent)
        return max(0, left) // self.price.output


@dataclass
class Known:
    """A key of the model."""

    id: int
    account: str
    text: str
    limit: int | None
    per_minute: int | None
    refused: str = ""
    spent: dict[int, int] = field(default_factory=dict)
    passed: dict[int, int] = field(default_factory=dict)

    @property
    def salt(self) -> str:
        return store(self.text).salt


def cost(price: PriceRow, counts: Counts) -> int:
    """The formula once more."""
    if price.free:
        return 0
    cached = min(counts.cached, counts.input)
    written = min(counts.written, counts.input - cached)
    rest = counts.input - cached - written
    amount = rest * price.input + counts.output * price.output + price.per_request
    amount += cached * (price.input if price.cached_input is None else price.cached_input)
    return amount + written * (price.input if price.cache_write is None else price.cache_write)


class Both:
    """The database and the model."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = connections
        self.turns = 0
        self.balance = dict.fromkeys(NAMES, 0)
        self.credit = dict.fromkeys(NAMES, 0)
        self.suspended = dict.fromkeys(NAMES, False)
        self.late = dict.fromkeys(NAMES, 0)
        """What settlements have cost that came after their hold was released."""
        self.keys: list[Known] = []
        self.price: PriceRow | None = None
        self.call_price = PriceRow("tool:search", free=True)
        self.holds: list[Open] = []
        self.ended: list[Open] = []
        self.day = 0
        self.count = 0
        self.rows: dict[str, list[Any]] = {}
        with writing(self.connection):
            for name in NAMES:
                book.add_account(self.connection, name)
        self.add_key(0, None, limited=False)

    @property
    def connection(self) -> Connection:
        """That of the process whose turn it is."""
        return self.connections[self.turns % len(self.connections)]

    def number(self) -> int:
        self.count += 1
        return self.count

    # --- an operator ----------------------------------------------------------------------------

    def add_key(self, which: int, limit: int | None, *, limited: bool) -> None:
        text, name = new_key(), NAMES[which % 2]
        per_minute = PER_MINUTE if limited else None
        limits = Limits(
            limit_amount=limit,
            limit_period=None if limit is None else "day",
            requests_per_minute=per_minute,
        )
        with writing(self.connection):
            made = key_book.add_key(
                self.connection, name, f"key {self.number()}", store(text), limits
            )
        self.keys.append(Known(made, name, text, limit, per_minute))

    def _key(self, which: int) -> Known:
        return self.keys[which % len(self.keys)]

    def revoke(self, which: int) -> None:
        known = self._key(which)
        with writing(self.connection):
            key_book.revoke(self.connection, key_book.key_of_id(self.connection, known.id))
        known.refused = "revoked"

    def expire(self, which: int) -> None:
        known = self._key(which)
        self.change("UPDATE acct_keys SET expires_at = 1 WHERE id = :id", id=known.id)
        known.refused = known.refused or "expired"

    def suspend(self, which: int) -> None:
        name = NAMES[which % 2]
        self.suspended[name] = not self.suspended[name]
        with writing(self.connection):
            book.suspend(self.connection, name, suspended=self.suspended[name])

    def set_price(self, input_: int, output: int, cached: int | None, per_request: int) -> None:
        free = not (input_ or output or cached or per_request)
        self._set(PriceRow("m", input_, output, cached, None, per_request, free=free))

    def set_call_price(self, per_request: int) -> None:
        self._set(PriceRow("tool:search", per_request=per_request, free=not per_request))

    def _set(self, price: PriceRow) -> None:
        self.day += 1  # prices have times of their own
        for one in self.connections:
            one.time.offset_s = self.day * DAY_S
        with writing(self.connection):
            price_book.set_price(self.connection, price, "tests")
        if price.model == "m":
            self.price = price
        else:
            self.call_price = price

    def top_up(self, which: int, amount: int, twice: bool) -> None:
        name, ref = NAMES[which % 2], f"ref {self.number()}"
        for again in range(1 + twice):
            with writing(self.connection):
                entry = book.top_up(self.connection, name, amount, ref, "tests")
            assert entry.new is not bool(again)
        self.balance[name] += amount

    def adjust(self, which: int, amount: int) -> None:
        """An operator gives, or takes what is not held."""
        name = NAMES[which % 2]
        amount = max(amount, -max(0, self._available(name)))
        if not amount:
            return
        with writing(self.connection):
            book.adjust(self.connection, name, amount, "why", f"ref {self.number()}", "tests")
        self.balance[name] += amount

    def give_credit(self, which: int, amount: int) -> None:
        name = NAMES[which % 2]
        self.credit[name] += amount
        with writing(self.connection):
            book.set_credit(self.connection, name, self.credit[name])

    # --- requests -------------------------------------------------------------------------------

    def held(self, name: str) -> int:
        return sum(one.amount for one in self.holds if one.account == name)

    def _available(self, name: str) -> int:
        return self.balance[name] + self.credit[name] - self.held(name)

    def left(self, known: Known) -> int:
        available = self._available(known.account)
        if known.limit is None:
            return available
        held = sum(one.amount for one in self.holds if one.key == known.id and one.day == self.day)
        return min(available, known.limit - known.spent.get(self.day, 0) - held)

    def hold(self, which: int, input_: int, asked: int, again: bool) -> None:
        known = self._key(which)
        ask = self._request(known, input_tokens=input_, asked=asked, least_limit=LEAST)
        found = self._hold(ask)
        if again:  # as where the outcome of the commit was unknown
            found = self._hold(ask, again=True)
        left = self.left(known)
        if known.per_minute is not None:
            passed = known.passed.get(self.day, 0)
            if isinstance(found, Refused) and found.why == "requests":
                assert passed >= known.per_minute
                return
        expected = known.refused
        if not expected and self.suspended[known.account]:
            expected = "suspended"
        if not expected and self.price is None:
            expected = "unpriced"
        if expected:
            assert isinstance(found, Refused)
            assert found.why == expected
            return
        assert self.price is not None
        if isinstance(found, Refused):
            assert found.why in ("balance", "key_limit")
            least = cost(self.price, Counts(input=input_, output=min(asked, LEAST)))
            assert left < max(least, 0) or left < 0
            return
        assert 0 <= found.amount <= max(0, left)
        limit = asked if found.max_output_tokens is None else found.max_output_tokens
        assert found.amount == cost(self.price, Counts(input=input_, output=limit))
        assert limit <= asked
        known.passed[self.day] = known.passed.get(self.day, 0) + 1 + again
        one = Open(*(found, known.account, known.id, self.price, ask.boot, self.day, found.amount))
        self.holds.append(one)
        self._covered(known.account)

    def _request(self, known: Known, **more: Any) -> HoldRequest:
        with reading(self.connection):
            key = read_key(self.connection, known.salt, billing=True)
        assert key is not None
        fields = {
            "token": f"token {self.number()}",
            "boot": f"boot {self.number()}",
            "account": key.account,
            "key": key.id,
            "generation": key.generation,
            "model": "m",
            "channel": "all",
            "endpoint": "/responses",
            "request_id": "r",
            "tokens": 1,
            "price_list": "standard",
        }
        return HoldRequest(**(fields | more))

    def _hold(self, ask: HoldRequest, *, again: bool = False) -> Held | Refused:
        with writing(self.connection):
            self.connection.change(sql.RENEW, {"boot": ask.boot})
            return hold(self.connection, ask, again=again)

    def _covered(self, name: str) -> None:
        """Invariant 3: what is held is there, at every hold."""
        [(rest,)] = self.select(
            "SELECT balance + credit - held FROM acct_accounts WHERE name = :name", name=name
        )
        assert rest >= 0

    def extend(self, which: int, output: int, input_: int, asked: int, twice: bool) -> None:
        """A further round, after one in which an honest upstream made a part of what is held."""
        requests = [one for one in self.holds if not one.is_call]
        if not requests:
            return
        one = requests[which % len(requests)]
        known = next(known for known in self.keys if known.id == one.key)
        spent = Counts(
            input=one.spent.input, output=one.spent.output + one.most_output * output // 100
        )
        ask = ExtensionRequest(
            id=one.held.id,
            account=IDS[one.account],
            key=one.key,
            price=one.held.price,
            spent=spent,
            tokens=2,
            input_tokens=input_,
            asked=asked,
            least_limit=LEAST,
        )
        for _ in range(1 + twice):
            with writing(self.connection):
                found = extend(self.connection, ask)
        available = self._available(one.account)
        if isinstance(found, Refused):
            assert found.why in ("balance", "key_limit")
            assert not one.price.free
            return
        assert isinstance(found, Extended)
        limit = asked if found.max_output_tokens is None else found.max_output_tokens
        round_ = input_ * one.price.input + limit * one.price.output
        whole = 0 if one.price.free else cost(one.price, spent) + round_
        grown = max(0, whole - one.amount)
        assert grown <= max(0, available)
        assert found.last == bool(
            found.max_output_tokens is not None
            or known.refused
            or self.suspended[one.account]
            or (known.limit is not None and not one.price.free and self._period_is_over(one))
        )
        one.amount += grown
        one.spent = Counts(input=spent.input + input_, output=spent.output)
        self._covered(one.account) if grown else None

    def _period_is_over(self, one: Open) -> bool:
        """Whether a later request of its key has begun a new period."""
        [(start, began)] = self.select(
            "SELECT k.period_start, h.began_at FROM acct_keys k JOIN acct_holds h"
            " ON h.key_id = k.id WHERE h.id = :id",
            id=one.held.id,
        )
        return bool(began < start)

    def call(self, which: int, within: bool) -> None:
        """A call of a tool, in a request or by itself."""
        parents = [one for one in self.holds if not one.is_call] if within else []
        parent = parents[which % len(parents)] if parents else None
        known = self._key(which)
        if parent is not None:
            known = next(known for known in self.keys if known.id == parent.key)
        calls = ToolCalls("search", 1, None if parent is None else parent.held.id)
        found = self._hold(self._request(known, model="tool:search", tokens=0, calls=calls))
        left = self.left(known)
        if isinstance(found, Refused):
            assert (
                known.refused
                or self.suspended[known.account]
                or left < max(0, self.call_price.per_request)
                or (found.why == "requests" and known.per_minute and parent is None)
            )
            return
        assert not known.refused
        assert found.amount == self.call_price.per_request <= max(0, left)
        if parent is None:
            known.passed[self.day] = known.passed.get(self.day, 0) + 1
        price = self.call_price
        more = (found, known.account, known.id, price, "", self.day, found.amount, parent, True)
        self.holds.append(Open(*more))
        if found.amount:  # a tool without a price is run for who owes something, too
            self._covered(known.account)

    def end(self, which: int, part: int, billed: bool, times: int) -> None:
        """Settle a hold for a part of what it paid for; a settlement may be done again."""
        if not self.holds:
            return
        one = self.holds.pop(which % len(self.holds))
        if one.is_call:
            bill, amount = bill_of_calls(int(billed)), one.price.per_request if billed else 0
        else:
            more = one.most_output * part // 100
            counts = Counts(input=one.spent.input, output=one.spent.output + more)
            bill = Bill(counts, "no", billed=billed)
            amount = cost(one.price, counts) if billed else 0
        end = self._settlement(one, bill)
        for _ in range(times):
            with writing(self.connection):
                settle(self.connection, end)
        assert amount <= one.amount, "an honest upstream"
        self._booked(one, amount)

    def _settlement(self, one: Open, bill: Bill) -> Settlement:
        account = IDS[one.account]
        return Settlement(
            id=one.held.id, account=account, key=one.key, bill=bill, outcome="completed"
        )

    def _booked(self, one: Open, amount: int) -> None:
        one.billed = amount
        self.balance[one.account] -= amount
        self.ended.append(one)
        self._spent(one, amount)

    def _spent(self, one: Open, amount: int) -> None:
        known = next(known for known in self.keys if known.id == one.key)
        if one.day == self.day:
            known.spent[self.day] = known.spent.get(self.day, 0) + amount

    def checkpoint(self, which: int, output: int) -> None:
        requests = [one for one in self.holds if not one.is_call]
        if not requests:
            return
        one = requests[which % len(requests)]
        output = one.spent.output + min(output, one.most_output)
        values = {"id": one.held.id, "input": one.spent.input, "output": output, "boot": one.boot}
        with writing(self.connection):
            self.connection.change(sql.CHECKPOINT, values)
        one.seen = one.spent.input, output

    def die(self, which: int) -> None:
        """A process stops renewing its lease: two sweepers end its hold."""
        if not self.holds:
            return
        one = self.holds.pop(which % len(self.holds))
        self.change("UPDATE acct_boots SET seen_at = 0 WHERE id = :boot", boot=one.boot)
        self.change("UPDATE acct_holds SET boot = 'dead' WHERE id = :id", id=one.held.id)
        self.change(
            "INSERT INTO acct_boots (id, began_at, seen_at) VALUES ('dead', 0, 0)"
            " ON CONFLICT DO NOTHING"
        )
        ended = []
        for connection in (self.connections[0], self.connections[-1]):
            with writing(connection):
                ended.append(sweep(connection, one.held.id, IDS[one.account], one.key, LEASE_US))
        assert ended == [True, False]
        amount = 0
        if one.seen is not None:
            amount = cost(one.price, Counts(input=one.seen[0], output=one.seen[1]))
        one.swept = True
        self._booked(one, amount)

    def come_back(self, which: int, output: int, times: int) -> None:
        """A process that was taken for dead settles all the same."""
        late = [one for one in self.ended if one.swept and not one.is_call]
        if not late:
            return
        one = late[which % len(late)]
        counts = Counts(output=output)
        for _ in range(times):
            with writing(self.connection):
                settle(self.connection, self._settlement(one, Bill(counts, "no", billed=True)))
        amount = cost(one.price, counts)
        if not one.corrected and amount != one.billed:
            one.corrected = True
            self.balance[one.account] += one.billed - amount
            self.late[one.account] += max(0, amount - one.billed)
            self._spent(one, amount - one.billed)

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

    def change(self, text: str, **values: Any) -> None:
        with writing(self.connection):
            self.connection.change(Statement(text), values)

    def select(self, text: str, **values: Any) -> list[Any]:
        with reading(self.connection):
            return self.connection.execute(Statement(text), values)

    def check(self) -> None:
        """After every step."""
        with reading(self.connection):
            assert list(differences(self.connection)) == []  # 1, 2, 5, 6, 10
            for one in book.accounts(self.connection):
                assert (one.balance, one.held) == (self.balance[one.name], self.held(one.name))
                assert one.balance + one.credit + self.late[one.name] >= 0  # 4
            for known in self.keys:
                row = key_book.key_of_id(self.connection, known.id)
                mine = [one for one in self.holds if one.key == known.id]
                assert row.held == sum(one.amount for one in mine)
                assert row.open == sum(one.parent is None for one in mine)
            self._check_periods()
        self._check_usages()
        for table, key in (("ledger", "id"), ("usages", "hold_id"), ("prices", "id")):  # 9
            rows = self.select(f"SELECT * FROM acct_{table} ORDER BY {key}")
            before = self.rows.get(table, [])
            assert set(before) <= set(rows), f"a row of {table} has changed"
            self.rows[table] = rows
        for known in self.keys:  # 14: what a minute lets through, and its bucket
            if known.per_minute is not None:
                assert max(known.passed.values(), default=0) <= 2 * known.per_minute

    def _check_periods(self) -> None:
        """What a key has spent in its period, corrections included."""
        start = period_start("day", changes.now(self.connection))
        query = Statement("SELECT id, period_spent FROM acct_keys WHERE period_start = :start")
        spent = dict(self.connection.execute(query, {"start": start}))
        for known in self.keys:
            if known.limit is not None and known.id in spent:
                assert spent[known.id] == known.spent.get(self.day, 0)

    def _check_usages(self) -> None:
        """5, 7, 11: each hold has ended in one usage, at the price of its time."""
        ended = self.select("SELECT hold_id, amount FROM acct_usages ORDER BY hold_id")
        mine = sorted((one.held.id, one.billed) for one in self.ended)
        assert [row for row in ended if row in mine] == mine
        assert not {one.held.id for one in self.holds} & {row[0] for row in ended}

    def check_at_end(self) -> None:
        """13 and 15: nobody reads of others, and no secret is anywhere."""
        with reading(self.connection):
            for name, number in IDS.items():
                ids = {known.id for known in self.keys if known.account == name}
                found = usages(self.connection, number, limit=1000)
                assert {one.key for one in found} <= ids
                mine = sum(one.billed for one in self.ended if one.account == name)
                assert sum(one.amount for one in found) == mine
                entries = ledger(self.connection, number, limit=1000)
                assert sum(one.amount for one in entries) == self.balance[name]
                corrected = sum(one.amount for one in entries if one.kind == "correction")
                assert total(self.connection, number).amount == mine - corrected
        texts = repr([self.select(f"SELECT * FROM acct_{table}") for table in TABLES])
        for known in self.keys:
            assert known.text not in texts
            assert known.text.removeprefix(f"trk_{known.salt}") not in texts
