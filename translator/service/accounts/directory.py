"""The accounts of a process: who sends a request, and the holds of those that are open.

    find ──► hold ──► … ──► settle          a hold is committed before its request goes upstream;
                 └── checkpoint, renew      a settlement is queued, and tried until it succeeds

A process renews its lease as long as it lives, and writes how far its requests are; whoever finds
one whose lease has run out ends its holds. Money is decided by what a transaction reads itself,
never by a copy.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from translator.service.base.errors import AccountsUnavailable
from translator.service.base.periodic_warning import PeriodicWarning
from translator.service.config.accounts import Accounts as Settings
from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.service.database.statement import DatabaseTime
from translator.service.database.writes import Write

from .bills import Counts
from .changes import Mistake, unless_mistaken
from .client import AccountCharge, AccountClient
from .extensions import Extended, ExtensionRequest, extend
from .holds import Held, HoldRequest, Refused, hold
from .keys import Key, Offer
from .known_keys import KnownKeys
from .leases import Leases
from .meter import AccountMeter, NullAccountMeter
from .passwords import Passwords
from .pruning import prune_for_ever
from .reads import Reads
from .room import ROOM
from .settlements import Settled, Settlement, correct_tokens, settle, undo
from .settling import SettlementQueue

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_QUEUE_BYTES = 64 * 1024 * 1024
WRITE_BYTES = 1024
"""What a write counts for in the queue: holds and settlements have no text in them."""

PRICED_FIELDS = frozenset({"service_tier", "web_search_options"})
"""Documented fields of requests that change what an upstream charges. Unknown ones, such as
`models` and `plugins`, are refused where requests cost money."""

FOR_EVER_S = math.inf


class Accounts:
    """The accounts; `running` frames their use. They are the `Clients` of the service."""

    def __init__(
        self,
        settings: Settings,
        offer: Offer,
        time_: DatabaseTime | None,
        meter: AccountMeter | None = None,
    ) -> None:
        """`time_` is for tests; `meter` counts what is done."""
        self._meter = meter or NullAccountMeter()
        self.section = settings.section
        self.offer = offer
        self.withheld = frozenset[str]()
        if self.section.billing:
            self.withheld = PRICED_FIELDS - set(self.section.forward_priced)
        self.passwords = Passwords()
        self._by_account = settings.location.kind == "postgresql"
        self._open: dict[int, AccountCharge] = {}
        self._calls: set[int] = set()  # holds of calls within them
        self._tasks: set[asyncio.Task[None]] = set()
        self._warn = PeriodicWarning(log)
        self._database = Database(
            settings.location,
            ROOM,
            max_queue_bytes=MAX_QUEUE_BYTES,
            read_wait_s=self.section.database_timeout_s,
            time=time_,
            meter=self._meter,
        )
        self.reads = Reads(self, self.section.reads_per_minute, self.section.database_timeout_s)
        self._keys = KnownKeys(self._database, self.section)
        self._leases = Leases(self._database, self.section, self._meter, self)
        self._settlements = SettlementQueue(
            self._write_settlement, self._meter, self._leases.sync_soon
        )
        self.boot = self._leases.boot

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The accounts are in use while the context lasts; then all settlements are written."""
        self._database.open()
        leases = self._leases
        leases.renew()
        work = [leases.checkpoints(), leases.sweeps()]
        if self.section.usage_days:
            work.append(prune_for_ever(self.change, self.section.usage_days))
        loops = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in (*loops, *self._tasks):
                task.cancel()
            await asyncio.gather(*loops, *self._tasks, return_exceptions=True)
            self._settlements.flush()
            leases.end()
            await self._database.aclose()

    @property
    def failing(self) -> bool:
        """Whether the database does not take what has to be written."""
        return self._settlements.failing or self._database.failing

    def new_token(self) -> str:
        """A random name of a hold."""
        return secrets.token_hex(16)

    # --- what people ask for, and change ---------------------------------------------------------

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads, in a thread; raises Unavailable."""
        self._settlements.flush()
        return await self._database.read(work)

    async def change(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """What `work` changes, committed; raises Mistake, with nothing changed, and Unavailable.

        It may be done twice, where it is not known whether the first time was committed.
        """
        write = self._database.write(
            partial(unless_mistaken, work),
            size=WRITE_BYTES,
            keep_trying_s=self.section.database_timeout_s,
            durable=durable,
            undo=_nothing,
            alone=self._by_account,
        )
        try:
            found = await write.done(self.section.database_timeout_s)
        except TimeoutError:
            if await write.give_up(self.section.database_timeout_s):
                raise Unavailable("the database did not take it in time") from None
            found = await write.done(self.section.database_timeout_s)
        if isinstance(found, Mistake):
            raise found
        return found

    # --- who sends a request ----------------------------------------------------------------------

    async def find(self, authorization: str | None, *, fresh: bool) -> AccountClient:
        """The client that sends this `Authorization`; `fresh` and errors as in `KnownKeys.find`."""
        return AccountClient(self, await self._keys.find(authorization, fresh=fresh))

    async def reread(self, key: Key) -> Key:
        """The same key as it is now; raises what `find` raises."""
        return await self._keys.reread(key)

    # --- holds ----------------------------------------------------------------------------------

    def released(self, account: int) -> int:
        """What settlements that wait will give back to an account, in pico."""
        return self._settlements.released(account)

    async def hold(self, ask: HoldRequest) -> Held | Refused | None:
        """Hold what a request may cost, committed; None where it is served without the database.

        Raises AccountsUnavailable.
        """
        began = time.monotonic()
        result = "unavailable"
        try:
            found = await self._hold(ask)
            if isinstance(found, Refused) and found.why == "unsettled":
                self._settlements.flush()
                found = await self._hold(replace(ask, released=0))
            if found is not None:
                result = "held" if isinstance(found, Held) else "refused"
            return found
        finally:
            self._meter.held(result, time.monotonic() - began)

    async def _hold(self, ask: HoldRequest) -> Held | Refused | None:
        attempts = 0

        def work(connection: Connection) -> Held | Refused:
            nonlocal attempts
            attempts += 1
            return hold(connection, ask, again=attempts > 1)

        wait_s = self.section.database_timeout_s
        try:
            write = self._database.write(
                work,
                size=WRITE_BYTES,
                keep_trying_s=wait_s,
                durable=False,  # a power cut ends the request, too
                undo=partial(_undo, ask.token),
                group=self._group(ask.account),
            )
        except Unavailable as error:
            self._go_without(error)
            return None
        try:
            return await _in_time(write, wait_s)
        except Unavailable as error:
            self._go_without(error)
            return None
        except BaseException:  # the client left
            self._begin(self._abandon(write, ask))
            raise

    async def extend(self, ask: ExtensionRequest) -> Extended | Refused | None:
        """Hold what a further round of a request may cost; None as for `hold`.

        What a hold has grown by is released with it, whoever waits. Raises AccountsUnavailable.
        """
        wait_s = self.section.database_timeout_s
        self._settlements.flush()
        try:
            write = self._database.write(
                partial(_extend, ask),
                size=WRITE_BYTES,
                keep_trying_s=wait_s,
                durable=False,
                undo=_nothing,
                group=self._group(ask.account),
            )
            return await _in_time(write, wait_s)
        except Unavailable as error:
            self._go_without(error)
            return None

    async def _abandon(self, write: Write[Held | Refused], ask: HoldRequest) -> None:
        """See to it that nothing remains of a hold that nobody waits for any more."""
        wait_s = self.section.database_timeout_s
        with suppress(Unavailable, TimeoutError):
            if not await write.give_up(wait_s) and isinstance(await write.done(wait_s), Held):
                self._write(partial(_undo, ask.token), ask.account, needed=True)

    def _go_without(self, error: Exception) -> None:
        """Serve a request without the database, or raise AccountsUnavailable."""
        self._warn("accounts: a request could not be checked: %s", error)
        if self.section.when_database_fails == "refuse":
            raise AccountsUnavailable from None

    def opened(self, charge: AccountCharge) -> None:
        """A request is sent, and has a hold."""
        self._open[charge.held.id] = charge
        self._meter.holds(len(self._open))

    def opened_call(self, hold_id: int) -> None:
        """A call of a tool is run, and has a hold."""
        self._calls.add(hold_id)

    def settle(self, end: Settlement) -> None:
        """A request or a call with a hold has ended; never waits, never raises."""
        self._open.pop(end.id, None)
        self._calls.discard(end.id)
        self._meter.holds(len(self._open))
        self._settlements.add(end)

    def _write_settlement(self, end: Settlement) -> Write[Settled | None]:
        return self._write(partial(_settle, end), end.account, needed=True)

    def correct_tokens(self, key: Key, tokens: int) -> None:
        """Take more tokens from the allowance of a key; never waits, never raises."""
        with suppress(Unavailable):
            self._write(partial(_correct_tokens, key.id, key.account, tokens), key.account)

    def settle_again(self) -> None:
        """Queue what the queue did not take before."""
        self._settlements.flush()

    def _group(self, account: int) -> int | None:
        """What a write of an account shares a transaction with.

        On PostgreSQL others of this account alone, whose row is locked first: transactions of
        several accounts could wait for each other. There, a busy account so has one sync for many.
        """
        return account if self._by_account else None

    def _write(
        self,
        work: Any,  # noqa: ANN401 - any work
        account: int,
        *,
        needed: bool = False,
    ) -> Write[Any]:
        return self._database.write(
            work,
            size=WRITE_BYTES,
            keep_trying_s=FOR_EVER_S if needed else self.section.lease_s,
            durable=False,  # see `sync_soon`
            group=self._group(account),
            needed=needed,
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what `leases` asks ---------------------------------------------------------------------

    def so_far(self) -> dict[int, Counts]:
        """How far the open requests are, by hold."""
        found: dict[int, Counts] = {}
        for hold_id, charge in self._open.items():
            try:
                seen = charge.seen()
            except Exception:  # one request must not cost all of them their lease
                log.exception("accounts: it is not known how far a request is")
                continue
            if seen is not None:
                found[hold_id] = seen
        return found

    def knows(self, hold_id: int) -> bool:
        """Whether a hold belongs to a request, or a settlement that waits."""
        return any(hold_id in one for one in (self._open, self._calls, self._settlements))


async def _in_time(write: Write[T], wait_s: float) -> T:
    """The result of a write; raises Unavailable where it takes too long: then nothing remains."""
    try:
        return await write.done(wait_s)
    except TimeoutError:
        if await write.give_up(wait_s):
            raise Unavailable("the database takes too long") from None
        return await write.done(wait_s)


# --- the work of transactions, with the connection last -------------------------------------------


def _nothing(_connection: Connection) -> None:
    """Undoes nothing: what was written stays, also where the answer to it came too late."""


def _settle(end: Settlement, connection: Connection) -> Settled | None:
    return settle(connection, end)


def _extend(ask: ExtensionRequest, connection: Connection) -> Extended | Refused:
    return extend(connection, ask)


def _undo(token: str, connection: Connection) -> None:
    undo(connection, token)


def _correct_tokens(key: int, account: int, tokens: int, connection: Connection) -> None:
    correct_tokens(connection, key, account, tokens)
