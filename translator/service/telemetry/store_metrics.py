"""The metrics of the store; those of its database are counted in the threads of the database."""

from __future__ import annotations

from .instruments import FAST, Instruments

RESULTS = ("stored", "late", "failed", "too_large", "unavailable")
OPERATIONS = ("read", "write")
"""The values of labels."""

_WAITS = (*FAST, 2.5, 5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class StoreMetrics:
    """A `StoreMeter`."""

    def __init__(self, instruments: Instruments) -> None:
        counter, gauge, histogram = (
            instruments.counter,
            instruments.gauge,
            instruments.histogram,
        )
        self.responses = counter(
            "store_responses",
            "Responses that were to be stored: stored before their last event, sent first and"
            " stored later if at all (late), or not stored.",
            "result",
        )
        self.writes = counter("store_writes", "Writes to the store that are on the disk.")
        self.losses = counter(
            "store_lost", "Writes to the store that were dropped, or failed for good."
        )
        self.batch = histogram(
            "store_batch_size", "Writes in one transaction of the store.", buckets=_BATCHES
        )
        self.commit = histogram(
            "store_commit_seconds",
            "Time of a transaction of the store that writes, its commit included.",
            buckets=_WAITS,
        )
        self.reads = histogram(
            "store_read_seconds", "Time of a transaction of the store that reads.", buckets=_WAITS
        )
        self.errors = counter(
            "store_errors",
            "Transactions of the store that failed, though they may be tried again.",
            "operation",
        )
        self.queue = gauge("store_queue_writes", "Writes to the store that wait.")
        self.queue_bytes = gauge("store_queue_bytes", "Bytes of the writes that wait.")
        self.swept_rows = counter("store_swept_rows", "Expired rows that were deleted.")
        self.locks = counter(
            "store_conversations_locked",
            "Requests that were refused, since another had locked their conversation.",
        )
        self.background = gauge(
            "store_background", "Responses that are being produced in the background."
        )
        self.leases = counter(
            "store_leases_lost",
            "Responses in the background that ended, since their lease could not be renewed.",
        )
        self.bytes = gauge(
            "store_bytes",
            "Size of the store's file, or of its tables on PostgreSQL, each minute.",
            mode="livemax",
        )
        for result in RESULTS:
            self.responses.labels(result)
        for operation in OPERATIONS:
            self.errors.labels(operation)

    def response(self, result: str) -> None:
        self.responses.labels(result).inc()

    def committed(self, writes: int, seconds: float) -> None:
        self.writes.inc(writes)
        self.batch.observe(writes)
        self.commit.observe(seconds)

    def read(self, seconds: float) -> None:
        self.reads.observe(seconds)

    def failed(self, operation: str) -> None:
        self.errors.labels(operation).inc()

    def lost(self) -> None:
        self.losses.inc()

    def swept(self, rows: int) -> None:
        self.swept_rows.inc(rows)

    def locked(self) -> None:
        self.locks.inc()

    def running(self, responses: int) -> None:
        self.background.set(responses)

    def lease_lost(self) -> None:
        self.leases.inc()

    def size(self, size: int) -> None:
        self.bytes.set(size)

    def waiting(self, writes: int, size: int) -> None:
        self.queue.set(writes)
        self.queue_bytes.set(size)
