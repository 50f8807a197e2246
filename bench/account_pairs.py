"""Holds and settlements: by the accounts of the service, and their statements by `sqlite3` alone.

    pair = a hold, until it is committed, and the settlement of it, until it is on the disk

`Pairs` are some of them at once. As in `stored_turns`, what is executed meanwhile is recorded, and
executed once more on another file with nothing of the service around it.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import uvloop

from translator.service.access.client import Ask, Ended
from translator.service.access.cost import Answered, StatedUsage
from translator.service.accounts import books, key_book, price_book
from translator.service.accounts.bills import Estimated
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.directory import Accounts
from translator.service.accounts.keys import Offer
from translator.service.accounts.meter import NullAccountMeter
from translator.service.accounts.money import MAX_AMOUNT
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.room import ROOM
from translator.service.base.keys import new_key, store
from translator.service.config.accounts import Accounts as AccountSettings
from translator.service.config.loading import read_table
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime

from .stored_turns import BARE, BARE_IN_A_THREAD, TRANSACTIONS, Executed, Recording, Works, execute
from .stored_turns import connecting as connecting_by

ACCOUNTS = "accounts"

BODY = b'{"model": "bench", "input": "' + b"x" * 1000 + b'"}'
ENDED = Ended(
    result="completed",
    answered=Answered(400, 0, StatedUsage(300, 100, 400, 100)),
    went_upstream=True,
)


def make_database(location: Location, accounts: int = 1) -> Sequence[str]:
    """The tables, and so many accounts with money; the key of each."""
    migrate(location, ROOM)
    keys: list[str] = []
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        books.initialize(connection, "USD")
        price_book.set_price(connection, PriceRow("bench", 600_000, 2_500_000), "bench")
        for number in range(accounts):
            name, key = f"account {number}", new_key()
            books.add_account(connection, name)
            books.top_up(connection, name, MAX_AMOUNT, name, "bench")
            key_book.add_key(connection, name, "key", store(key), Limits())
            keys.append(key)
    return keys


class Settlements(NullAccountMeter):
    """Counts settlements, and lets somebody wait for a number of them."""

    def __init__(self) -> None:
        self._count = self._wanted = 0
        self._reached = asyncio.Event()

    def settled(self, estimated: Estimated, lag_s: float, overdraft: int) -> None:
        self._count += 1
        if self._count == self._wanted:
            self._reached.set()

    async def reach(self, count: int) -> None:
        """Wait until there are so many."""
        if self._count < count:
            self._wanted = count
            self._reached.clear()
            await self._reached.wait()


class Measured(Accounts):
    """Accounts that tell what is settled."""

    def __init__(self, settings: AccountSettings, offer: Offer) -> None:
        self.settlements = Settlements()
        super().__init__(settings, offer, None, self.settlements)


class Alone(Measured):
    """Accounts whose writes share no transaction."""

    _number = 0

    def _group(self, account: int) -> int | None:
        if super()._group(account) is not None:
            self._number += 1
            return self._number
        return None


@contextmanager
def opened(
    location: Location, kind: type[Measured] = Measured
) -> Generator[tuple[asyncio.Runner, Measured]]:
    """The accounts of a database, in an event loop of their own."""
    url = location.target if location.kind == "postgresql" else f"sqlite:///{location.target}"
    table = {
        "upstreams": {"up": {"base_url": "http://127.0.0.1:9/v1"}},
        "models": {"bench": {"upstream": "up"}},
        "accounts": {
            "url": url,
            "checkpoint_s": 3600.0,
            "lease_s": 86400.0,
            "database_timeout_s": 120.0,
        },
    }
    settings = read_table(table, {}).accounts
    assert settings is not None
    offer = Offer(frozenset({"bench"}), catches_all=False, billing=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        accounts = kind(settings, offer)
        context = accounts.running()
        runner.run(_entered(context.__aenter__))
        try:
            yield runner, accounts
        finally:
            runner.run(_entered(lambda: context.__aexit__(None, None, None)))


async def _entered(enter: Callable[[], object]) -> None:
    await enter()  # type: ignore[misc]


class Pairs:
    """Some requests at once, each of which is held and settled."""

    def __init__(self, accounts: Measured, keys: Sequence[str], count: int) -> None:
        self._accounts = accounts
        self._keys = keys
        self._count = count
        self._number = self._ended = 0

    async def make(self) -> None:
        """One of each."""
        numbers = range(self._number, self._number + self._count)
        self._number += self._count
        await asyncio.gather(*[self.one(number) for number in numbers])
        await self.settled()

    async def one(self, number: int) -> None:
        """A request that is held, and whose settlement is queued."""
        key = self._keys[number % len(self._keys)]
        client = await self._accounts.find(f"Bearer {key}", fresh=False)
        ask = Ask(
            size=len(BODY),
            body=BODY,
            model="bench",
            path="/v1/responses",
            request_id=f"req_{number}",
            max_output_tokens=1000,
        )
        charge = await client.hold(ask, lambda: None)
        assert charge is not None
        charge.end(ENDED)
        self._ended += 1

    async def settled(self) -> None:
        """Wait until all that has ended is committed."""
        await self._accounts.settlements.reach(self._ended)


# --- the same by sqlite3 alone -------------------------------------------------------------------


class RecordingSync(Recording):
    """A recording that knows which transactions wait for the disk."""

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        super().begin(writes=writes, durable=durable)
        if writes:
            DURABLE.append(durable)


DURABLE: list[bool] = []
"""Whether each of TRANSACTIONS waits for the disk."""

Transaction = tuple[bool, list[Executed]]


def recorded(file: Path, keys: Sequence[str], count: int, rounds: int) -> list[list[Transaction]]:
    """The transactions of each round."""
    TRANSACTIONS.clear()
    DURABLE.clear()
    found: list[list[Transaction]] = []
    location = Location("sqlite", str(file))
    with connecting_by(RecordingSync), opened(location) as (runner, accounts):
        pairs = Pairs(accounts, keys, count)
        began = 0  # the first round has the lease of the process, too
        for _ in range(rounds):
            runner.run(pairs.make())
            found.append(list(zip(DURABLE[began:], TRANSACTIONS[began:], strict=True)))
            began = len(TRANSACTIONS)
    return found


class Bare:
    """A connection of `sqlite3` that does what was recorded, and waits for the disk as often."""

    def __init__(self, file: Path) -> None:
        self._driver = sqlite3.connect(file, isolation_level=None, check_same_thread=False)

    def replay(self, transactions: Sequence[Transaction]) -> None:
        for one in transactions:
            self.execute(one)

    def execute(self, transaction: Transaction) -> None:
        durable, statements = transaction
        self._driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        execute(self._driver, statements)

    def close(self) -> None:
        self._driver.close()


@contextmanager
def pair_works(folder: Path, count: int, rounds: int) -> Generator[Works]:
    """So many pairs at once, `rounds` times at most.

    By the accounts; by `sqlite3` in a thread, for which as many tasks wait, as often as the
    accounts make them wait; by `sqlite3` alone.
    """
    files = {name: folder / f"{name}.db" for name in ("recorded", "bare", ACCOUNTS)}
    keys = make_database(Location("sqlite", str(files[ACCOUNTS])))
    for file in files.values():
        if file != files[ACCOUNTS]:
            shutil.copy(files[ACCOUNTS], file)
    transactions = iter(recorded(files["recorded"], keys, count, 2 * rounds))
    with (
        closing(Bare(files["bare"])) as bare,
        ThreadPoolExecutor(1) as thread,
        opened(Location("sqlite", str(files[ACCOUNTS]))) as (runner, accounts),
    ):
        pairs = Pairs(accounts, keys, count)

        async def in_a_thread() -> None:
            loop = asyncio.get_running_loop()
            for one in next(transactions):
                done = loop.run_in_executor(thread, bare.execute, one)

                async def wait(done: asyncio.Future[None] = done) -> None:
                    await done

                await asyncio.gather(*[wait() for _ in range(count)])

        yield Works(
            prepare={},
            do={
                ACCOUNTS: lambda: runner.run(pairs.make()),
                BARE_IN_A_THREAD: lambda: runner.run(in_a_thread()),
                BARE: lambda: bare.replay(next(transactions)),
            },
        )


# --- a busy account ------------------------------------------------------------------------------


class Rate(msgspec.Struct, frozen=True):
    """Pairs a second, and how long a request waits for its hold, in milliseconds."""

    pairs_per_s: float
    hold_p50_ms: float
    hold_p99_ms: float


def rate(
    location: Location,
    keys: Sequence[str],
    *,
    at_once: int,
    seconds: float,
    kind: type[Measured] = Measured,
) -> Rate:
    """So many requests at once, one after the other, until a time is over and all is settled."""
    waits: list[float] = []

    async def run(accounts: Measured) -> float:
        pairs = Pairs(accounts, keys, 1)
        began = time.monotonic()

        async def go_on(first: int) -> None:
            number = first
            while time.monotonic() - began < seconds:
                before = time.monotonic()
                await pairs.one(number)
                waits.append(time.monotonic() - before)
                number += at_once

        await asyncio.gather(*[go_on(number) for number in range(at_once)])
        await pairs.settled()
        return time.monotonic() - began

    with opened(location, kind) as (runner, accounts):
        elapsed = runner.run(run(accounts))
    ordered = sorted(waits)
    return Rate(
        len(waits) / elapsed,
        ordered[len(ordered) // 2] * 1000,
        ordered[int(len(ordered) * 0.99)] * 1000,
    )
