"""What goes on in one exchange, told whenever it changes.

    waiting, { thinking | answering | calling }, ( done | incomplete | failed | left )

Nothing that was said is told: only how much, how fast, and the names of models and tools.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from translator.service.observe.observer import (
    AttemptWritten,
    ChunkReceived,
    EventsSent,
    ObservedEvent,
    Observer,
    RequestEnded,
    ResponseSent,
    RetryScheduled,
    Routed,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import Record
from translator.wire import items
from translator.wire.events import (
    Completed,
    CustomToolCallInputDelta,
    Event,
    FunctionCallArgumentsDelta,
    Incomplete,
    OutputItemAdded,
    OutputTextDelta,
    ReasoningSummaryTextDelta,
    ReasoningTextDelta,
    RefusalDelta,
)
from translator.wire.responses import Response

Phase = Literal[
    "waiting", "thinking", "answering", "calling", "done", "incomplete", "failed", "left"
]

PROGRESS_S = 0.25
"""How often growth alone is told, in seconds."""

CHARACTERS_PER_TOKEN = 4
"""By which tokens are guessed until the upstream counts them, if ever it does."""

MIN_MEASURED_S = 0.2
"""A shorter time says nothing of a speed: an answer that comes in one piece has none."""

_DELTAS = (
    OutputTextDelta,
    ReasoningSummaryTextDelta,
    ReasoningTextDelta,
    FunctionCallArgumentsDelta,
    CustomToolCallInputDelta,
    RefusalDelta,
)
_COUNTED = re.compile(rb'"completion_tokens":\s*(\d{1,9})')
_TAIL_BYTES = 4096


class Sight(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One exchange at one moment. `at` is when it began, in seconds since 1970."""

    id: str
    at: float
    seconds: float
    model: str = ""
    phase: Phase = "waiting"
    detail: str = ""
    """The tool that is called, or what went wrong."""
    first_s: float | None = None
    """When the first of the answer came."""
    tokens: int = 0
    counted: bool = False
    """The upstream's own number of tokens, and no guess."""
    per_s: float | None = None
    """Tokens of each second since the first of the answer."""
    notes: str = ""

    @property
    def over(self) -> bool:
        return self.phase in ("done", "incomplete", "failed", "left")


class Watcher:
    """An `ObserverFactory` that reports the progress of each exchange."""

    def __init__(
        self,
        tell: Callable[[Sight], None],
        *,
        progress_s: float = PROGRESS_S,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` must neither wait nor raise; growth alone is told every `progress_s` seconds.

        `timer` measures how long things take.
        """
        self.tell = tell
        self.progress_s = progress_s
        self.clock = clock
        self.timer = timer

    def __call__(self, record: Record) -> Observer:
        return _Watching(self, record)


class _Watching:
    """The observer of one exchange."""

    wants: frozenset[type[ObservedEvent]] = frozenset(
        {
            Routed,
            AttemptWritten,
            UpstreamCalled,
            UpstreamAnswered,
            ChunkReceived,
            RetryScheduled,
            EventsSent,
            ResponseSent,
            RequestEnded,
        }
    )

    def __init__(self, watcher: Watcher, record: Record) -> None:
        self._watcher = watcher
        self._record = record
        self._at = watcher.clock()
        self._began = self._told = watcher.timer()
        self._known = False  # where the request goes; before, there is nothing to show
        self._streams = False  # as events
        self._whole = False  # in one piece: then there is no first token, and no speed
        self._phase: Phase = "waiting"
        self._detail = ""
        self._first: float | None = None
        self._last = 0.0
        self._characters = 0
        self._tokens: int | None = None
        self._seen_reasoning = False
        self._attempts = 0
        self._tail = b""

    def on(self, event: ObservedEvent) -> None:
        match event:
            case EventsSent(events):
                self._events_sent(events)
            case ChunkReceived(chunk):
                self._chunk_received(chunk)
            case Routed():
                self._known = True
            case AttemptWritten(translation):
                self._streams = bool(translation.request.stream)
                self._whole = not self._streams
            case UpstreamCalled():
                self._upstream_called()
            case UpstreamAnswered():
                self._tail = b""
            case RetryScheduled(_, delay_s):
                if self._known:
                    self._become("waiting", f"again in {delay_s:.0f}s")
            case ResponseSent(response):
                self._count(response)
            case RequestEnded():
                self._ended()
            case _:
                pass

    def _upstream_called(self) -> None:
        if self._known:
            self._attempts += 1
            again = f"attempt {self._attempts}" if self._attempts > 1 else ""
            self._become("waiting", again)

    def _chunk_received(self, chunk: bytes) -> None:
        if self._streams or not self._known:
            return  # its events say more
        self._grow(0)
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        self._become("answering", "")

    def _events_sent(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, _DELTAS):
                self._grow(len(event.delta))
            elif isinstance(event, OutputItemAdded):
                self._grow(0)
                self._open(event)
            elif isinstance(event, Completed | Incomplete):
                self._count(event.response)
        if self._watcher.timer() - self._told >= self._watcher.progress_s:
            self._tell()

    def _ended(self) -> None:
        record = self._record
        if not self._known and not record.outcome:
            return  # nobody asked a model for anything
        if self._tokens is None and (counts := _COUNTED.findall(self._tail)):
            self._tokens = int(counts[-1])
        self._phase, self._detail = _end(record)
        self._tell()

    def _open(self, event: OutputItemAdded) -> None:
        match event.item:
            case items.Reasoning():
                self._seen_reasoning = True
                self._become("thinking", "")
            case items.Message() | items.Compaction():
                self._become("answering", "")
            case item:
                kind = str(item.__struct_config__.tag).removesuffix("_call")
                self._become("calling", getattr(item, "name", kind))

    def _count(self, response: Response) -> None:
        if response.usage is not None:
            hidden = response.usage.output_tokens_details.reasoning_tokens
            shown = response.usage.output_tokens - (0 if self._seen_reasoning else hidden)
            self._tokens = max(0, shown)

    def _grow(self, characters: int) -> None:
        self._last = self._watcher.timer()
        if self._first is None:
            self._first = self._last
        self._characters += characters

    def _become(self, phase: Phase, detail: str) -> None:
        if (phase, detail) != (self._phase, self._detail) or self._told == self._began:
            self._phase, self._detail = phase, detail
            self._tell()

    def _tell(self) -> None:
        self._told = now = self._watcher.timer()
        tokens = self._tokens
        if tokens is None:
            tokens = self._characters // CHARACTERS_PER_TOKEN
        first = None if self._whole else self._first
        lasted = 0.0 if first is None else self._last - first
        self._watcher.tell(
            Sight(
                id=self._record.request_id,
                at=self._at,
                seconds=round(now - self._began, 3),
                model=self._record.model,
                phase=self._phase,
                detail=self._detail,
                first_s=None if first is None else round(first - self._began, 3),
                tokens=tokens,
                counted=self._tokens is not None,
                per_s=round(tokens / lasted, 1) if tokens and lasted >= MIN_MEASURED_S else None,
                notes=self._record.remarks,
            )
        )


def _end(record: Record) -> tuple[Phase, str]:
    """How an exchange ended, and why."""
    outcome = record.outcome
    if outcome.startswith("client left"):
        return "left", outcome.partition(": ")[2]
    if outcome in ("completed", "incomplete"):
        return ("done" if outcome == "completed" else "incomplete"), ""
    if not outcome and record.status is not None and record.status < 400:
        return "done", ""
    return "failed", outcome.removeprefix("failed").strip() or str(record.status or "")
