"""The metrics of the accounts. No label names an account, a key or a user."""

from __future__ import annotations

from .instruments import FAST, Instruments

HELD = ("held", "refused", "unavailable")
ESTIMATED = ("no", "output", "all", "orphan")
OPERATIONS = ("read", "write")
"""The values of labels."""

_WAITS = (*FAST, 2.5, 5, 10)
_LAGS = (*FAST, 5, 30, 120, 600)


class AccountMetrics:
    """An `AccountMeter`."""

    def __init__(self, instruments: Instruments) -> None:
        counter, gauge, histogram = (
            instruments.counter,
            instruments.gauge,
            instruments.histogram,
        )
        self.open = gauge("accounts_holds_open", "Requests that hold something now.")
        self.hold = histogram(
            "accounts_hold_seconds",
            "Time until a request was held or refused, before it was sent.",
            "result",
            buckets=_WAITS,
        )
        self.settlements = counter(
            "accounts_settlements", "Requests that were billed, by what was estimated.", "estimated"
        )
        self.lag = histogram(
            "accounts_settlement_lag_seconds",
            "Time from the end of a request to its bill on the disk.",
            buckets=_LAGS,
        )
        self.overdraft = counter(
            "accounts_overdraft",
            "Money, in 10^-12 of the currency, that requests cost beyond their holds.",
        )
        self.orphans_ended = counter(
            "accounts_orphans", "Requests of dead processes that were ended by this one."
        )
        self.transactions = histogram(
            "accounts_database_seconds",
            "Time of a transaction on the database of the accounts.",
            "operation",
            buckets=_WAITS,
        )
        self.errors = counter(
            "accounts_database_errors",
            "Transactions of the accounts that failed, though they may be tried again.",
            "operation",
        )
        self.losses = counter(
            "accounts_lost", "Writes of the accounts that were dropped, or failed for good."
        )
        self.queue = gauge("accounts_queue_writes", "Writes of the accounts that wait.")
        for result in HELD:
            self.hold.labels(result)
        for estimated in ESTIMATED:
            self.settlements.labels(estimated)
        for operation in OPERATIONS:
            self.errors.labels(operation)
            self.transactions.labels(operation)

    def holds(self, count: int) -> None:
        self.open.set(count)

    def held(self, result: str, seconds: float) -> None:
        self.hold.labels(result).observe(seconds)

    def settled(self, estimated: str, lag_s: float, overdraft: int) -> None:
        self.settlements.labels(estimated).inc()
        self.lag.observe(lag_s)
        if overdraft:
            self.overdraft.inc(overdraft)

    def orphans(self, count: int) -> None:
        self.orphans_ended.inc(count)

    def committed(self, writes: int, seconds: float) -> None:
        self.transactions.labels("write").observe(seconds)

    def read(self, seconds: float) -> None:
        self.transactions.labels("read").observe(seconds)

    def failed(self, operation: str) -> None:
        self.errors.labels(operation).inc()

    def lost(self) -> None:
        self.losses.inc()

    def waiting(self, writes: int, size: int) -> None:
        self.queue.set(writes)
