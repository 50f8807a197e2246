"""A captured exchange: all that its folder is written from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Raw, Struct

from translator import Dialect, Notice, Target, TranslatorError
from translator.service.models.table import Route
from translator.service.observe.record import Record
from translator.wire.events import Event
from translator.wire.responses import Response


class Attempt(Struct):
    """One request to the upstream, and its answer."""

    body: bytes | None = None
    """The chat request as sent; None if it was too large."""
    translated: bytes | None = None
    """The chat request as translated, with fields that `body` may lack. None: passed through."""
    dialect: Dialect | None = None
    target: Target | None = None
    """What was translated for. None: passed through."""
    notices: Sequence[Notice] = ()
    status: int | None = None
    headers: Mapping[str, str] = {}
    chunks: list[bytes] = []
    overflow: bool = False
    """The answer was too large, and is not held."""
    error: TranslatorError | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the upstream answered with an error status."""
        return self.status is not None and not 200 <= self.status < 300


class CapturedExchange(Struct, kw_only=True, eq=False):
    """One request of a client, its attempts, and its answer. Bodies are None if too large."""

    record: Record
    started_at: float
    """In seconds since 1970."""
    headers: Iterable[tuple[bytes, bytes]]
    """The headers of the request, secrets included."""
    request: bytes | None = None
    earlier: Sequence[Raw] | None = None
    """The items of the previous response, on a WebSocket."""
    earlier_overflow: bool = False
    """They were too large, and are not held."""
    route: Route | None = None
    attempts: list[Attempt] = []
    next_attempt: Attempt
    """An attempt that has been translated, and not sent yet."""
    events: list[Event] = []
    response: Response | None = None
    error: TranslatorError | None = None
    upstream_s: float | None = None
    """Seconds to the upstream's latest status line."""
    output_s: float | None = None
    """Seconds to the first output item."""
    seconds: float = 0.0
    size: int = 0
    """Bytes held."""

    @property
    def last_attempt(self) -> Attempt:
        return self.attempts[-1] if self.attempts else self.next_attempt
