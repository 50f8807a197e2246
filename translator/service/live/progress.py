"""Progress of an exchange: an observer that reports its phase, size and speed when they change.

    waiting, { thinking | answering | calling }, ( done | incomplete | failed | left )

A report holds numbers and the names of models and tools, and no text of the conversation.
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
from translator.service.observe.record import Record, bounded
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
from translator.wire.responses import Usage

Phase = Literal[
    "waiting", "thinking", "answering", "calling", "done", "incomplete", "failed", "left"
]

_ENDED = frozenset({"done", "incomplete", "failed", "left"})

REPORT_INTERVAL_S = 0.25
"""Shortest time between two reports in which only the size has changed, in seconds."""

CHARACTERS_PER_TOKEN = 4
"""For the estimate of tokens until the upstream reports its count, if it ever does."""

MIN_MEASURED_S = 0.2
"""Shortest time from which a speed is computed: an answer in one chunk has none."""

_DELTAS = (
    OutputTextDelta,
    ReasoningSummaryTextDelta,
    ReasoningTextDelta,
    FunctionCallArgumentsDelta,
    CustomToolCallInputDelta,
    RefusalDelta,
)
_FINAL_PHASES: dict[str, Phase] = {"completed": "done", "incomplete": "incomplete"}
_COUNTED = re.compile(rb'"completion_tokens":\s*(\d{1,9})')
_TAIL_BYTES = 4096


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A snapshot of an exchange. `at` is the time of its start, in seconds since 1970."""

    id: str
    at: float
    seconds: float
    model: str = ""
    phase: Phase = "waiting"
    detail: str = ""
    """The tool that is called, or the reason of a failure."""
    first_s: float | None = None
    """Seconds from the start to the first output of a stream."""
    tokens: int = 0
    counted: bool = False
    """Whether `tokens` is the upstream's count; else it is an estimate."""
    per_s: float | None = None
    """Tokens per second since the first output."""
    notes: str = ""
    client: str = ""
    """The client's name in the settings."""

    @property
    def ended(self) -> bool:
        return self.phase in _ENDED


class ProgressObserverFactory:
    """An `ObserverFactory` that reports the progress of each exchange."""

    def __init__(
        self,
        report: Callable[[Progress], None],
        *,
        interval_s: float = REPORT_INTERVAL_S,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` must neither wait nor raise.

        `interval_s` is the shortest time between two reports in which only the size has changed.
        `clock` gives seconds since 1970, `timer` measures durations.
        """
        self.report = report
        self.interval_s = interval_s
        self.clock = clock
        self.timer = timer

    def __call__(self, record: Record) -> Observer:
        return _ProgressObserver(self, record)


class _Output:
    """Size and speed of an answer."""

    __slots__ = ("_characters", "_counted", "_hidden", "first_at", "last_at")

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.last_at = 0.0
        self._characters = 0
        self._counted: int | None = None
        self._hidden = 0

    def grow(self, characters: int, now: float) -> None:
        if self.first_at is None:
            self.first_at = now
        self.last_at = now
        self._characters += characters

    def count(self, tokens: int, hidden: int = 0) -> None:
        """The upstream has reported its count; `hidden` tokens of it came before the output."""
        self._counted = tokens
        self._hidden = hidden

    @property
    def is_counted(self) -> bool:
        return self._counted is not None

    @property
    def tokens(self) -> int:
        if self._counted is not None:
            return self._counted
        return self._characters // CHARACTERS_PER_TOKEN

    def per_second(self) -> float | None:
        seconds = 0.0 if self.first_at is None else self.last_at - self.first_at
        tokens = self.tokens - self._hidden
        return round(tokens / seconds, 1) if tokens > 0 and seconds >= MIN_MEASURED_S else None


class _ProgressObserver:
    """Reports the progress of one exchange.

    The events tell how a stream grows. An answer that is not translated as a stream grows by the
    upstream's chunks; one that is sent whole has neither a first output nor a speed.
    """

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

    def __init__(self, factory: ProgressObserverFactory, record: Record) -> None:
        self._factory = factory
        self._record = record
        self._at = factory.clock()
        self._started_at = self._reported_at = factory.timer()
        self._output = _Output()
        self._phase: Phase = "waiting"
        self._detail = ""
        self._routed = False
        self._streams = False  # translated, as events
        self._whole = False  # translated, as one response
        self._has_reasoning = False
        self._calls = 0
        self._tail = b""  # of the upstream's body

    def on(self, event: ObservedEvent) -> None:
        match event:
            case EventsSent(events):
                self._events_sent(events)
            case ChunkReceived(chunk):
                self._chunk_received(chunk)
            case Routed():
                self._routed = True
            case AttemptWritten(translation):
                self._streams = bool(translation.request.stream)
                self._whole = not self._streams
            case UpstreamCalled():
                self._upstream_called()
            case UpstreamAnswered():
                self._tail = b""
            case RetryScheduled(_, delay_s):
                if self._routed:
                    self._enter("waiting", f"again in {delay_s:.0f}s")
            case ResponseSent(response) if response.usage is not None:
                self._count_tokens(response.usage)
            case RequestEnded():
                self._ended()
            case _:
                pass

    def _upstream_called(self) -> None:
        if self._routed:
            self._calls += 1
            self._enter("waiting", f"attempt {self._calls}" if self._calls > 1 else "")

    def _chunk_received(self, chunk: bytes) -> None:
        if self._streams or not self._routed:
            return
        self._output.grow(0, self._factory.timer())
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        self._enter("answering")

    def _events_sent(self, events: Sequence[Event]) -> None:
        now = self._factory.timer()
        for event in events:
            if isinstance(event, _DELTAS):
                self._output.grow(len(event.delta), now)
            elif isinstance(event, OutputItemAdded):
                self._output.grow(0, now)
                self._item_added(event.item)
            elif isinstance(event, Completed | Incomplete) and event.response.usage is not None:
                self._count_tokens(event.response.usage)
        if now - self._reported_at >= self._factory.interval_s:
            self._report()

    def _ended(self) -> None:
        if not self._routed and not self._record.outcome:
            return  # a request without a model, such as a list of models
        usage = self._record.usage
        if usage is not None:
            self._count_tokens(usage)
        elif not self._output.is_counted and (counts := _COUNTED.findall(self._tail)):
            self._output.count(int(counts[-1]))
        self._phase, self._detail = _final_phase(self._record)
        self._report()

    def _item_added(self, item: items.OutputItem) -> None:
        match item:
            case items.Reasoning():
                self._has_reasoning = True
                self._enter("thinking")
            case items.Message() | items.Compaction():
                self._enter("answering")
            case _:
                kind = str(item.__struct_config__.tag).removesuffix("_call")
                self._enter("calling", getattr(item, "name", kind))

    def _count_tokens(self, usage: Usage) -> None:
        """Count as the log does; for the speed, reasoning that was not shown took no time here."""
        hidden = 0 if self._has_reasoning else usage.output_tokens_details.reasoning_tokens
        self._output.count(usage.output_tokens, hidden)

    def _enter(self, phase: Phase, detail: str = "") -> None:
        """Report the phase if it is new; the first one always."""
        if (phase, detail) != (self._phase, self._detail) or self._reported_at == self._started_at:
            self._phase, self._detail = phase, detail
            self._report()

    def _report(self) -> None:
        self._reported_at = now = self._factory.timer()
        output = self._output
        first_at = None if self._whole else output.first_at
        seconds = now - self._started_at
        first_s = None if first_at is None else first_at - self._started_at
        if self._phase in _ENDED:  # as the log has it, which is measured a little later
            seconds = self._record.seconds or seconds
            first_s = self._record.first_token_s or first_s
        self._factory.report(
            Progress(
                id=self._record.request_id,
                at=self._at,
                seconds=round(seconds, 3),
                model=self._record.model,
                phase=self._phase,
                detail=self._detail,
                first_s=None if first_s is None else round(first_s, 3),
                tokens=output.tokens,
                counted=output.is_counted,
                per_s=None if self._whole else output.per_second(),
                notes=self._record.remarks,
                client=self._record.client,
            )
        )


def _final_phase(record: Record) -> tuple[Phase, str]:
    """The last phase of an exchange, and the reason of a failure."""
    outcome = bounded(record.outcome)
    if outcome in _FINAL_PHASES:
        return _FINAL_PHASES[outcome], ""
    if outcome.startswith("client left"):
        return "left", outcome.partition(": ")[2]
    if not outcome and record.status is not None and record.status < 400:
        return "done", ""
    return "failed", outcome.removeprefix("failed").strip() or str(record.status or "")
