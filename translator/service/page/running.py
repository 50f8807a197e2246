"""What is being answered now: a sample of the answers in progress.

    turns, passed chat requests ──► running_rows ──► at most MAX_ROWS rows, oldest first

Nothing is observed: a row is read from the turn when somebody looks, and holds no word of a
conversation. Texts that clients or upstreams chose are cut and stripped of control characters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from translator import Translation
from translator.service.observe.context import RequestContext
from translator.service.turns.bounds import TurnBounds
from translator.service.turns.turn import Turn

from .text import printable

MAX_ROWS = 50
"""Most rows of a sample: with all their texts at their longest, some 40 KiB."""

MAX_SIZED_BYTES = 1024 * 1024
"""Of an answer of more bytes upstream the size is estimated from these: adding it up takes about a
millisecond per megabyte."""

BYTES_PER_TOKEN = 4
"""For the estimate of tokens: an upstream counts them at the end."""

MAX_NAME = 80
"""Longest name in a row, in characters; of longer ones the end is cut off."""

Phase = Literal["waiting", "thinking", "answering", "calling"]

_PHASES: dict[str, Phase] = {
    "": "waiting",
    "reasoning": "thinking",
    "message": "answering",
    "call": "calling",
}


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer in progress."""

    id: str
    at: float
    """When its request came, in seconds since 1970."""

    model: str = ""
    upstream: str = ""
    client: str = ""
    phase: Phase = "waiting"
    detail: str = ""
    """The tool that is called, or that a chat request is passed through: its size is not known."""

    first_s: float | None = None
    """Seconds from the request to the first output of a stream."""

    tokens: int = 0
    """An estimate."""

    notices: int = 0
    retries: int = 0


class Running(Struct, frozen=True):
    """A sample: the rows, and of how many answers they are the oldest.

    `silent` counts the workers that did not answer in time.
    """

    rows: list[Row]
    total: int
    silent: int = 0


def running(
    bounds: TurnBounds, client: str | None, clock: Callable[[], float] = time.time
) -> Running:
    """The answers of this process; with `client`, only those of the client of that name."""
    turns = [turn for turn in bounds.held.owners if isinstance(turn, Turn)]
    found: list[tuple[RequestContext, Translation | None]] = [
        *((turn.context, turn.translation) for turn in turns),
        *((context, None) for context in bounds.passing),
    ]
    if client is not None:
        found = [one for one in found if one[0].record.client == client]
    found.sort(key=lambda one: one[0].record.started_at)
    now, at = bounds.timer(), clock()
    rows = [_row(context, translation, at - now) for context, translation in found[:MAX_ROWS]]
    return Running(rows, len(found))


def joined(samples: list[Running], silent: int) -> Running:
    """The samples of several processes as one."""
    rows = sorted((row for sample in samples for row in sample.rows), key=lambda row: row.at)
    return Running(rows[:MAX_ROWS], sum(sample.total for sample in samples), silent)


def _row(context: RequestContext, translation: Translation | None, epoch: float) -> Row:
    """The row of an answer; `epoch` is what the timer lacks to seconds since 1970."""
    record = context.record
    phase: Phase = "waiting" if record.status is None else "answering"
    detail, tokens = "passed through", 0
    if translation is not None:
        kind, detail = translation.writing
        phase = _PHASES[kind]
        tokens = _written(translation) // BYTES_PER_TOKEN
    return Row(
        id=printable(record.request_id, MAX_NAME),
        at=round(record.started_at + epoch, 1),
        model=printable(record.model, MAX_NAME),
        upstream=printable(record.upstream, MAX_NAME),
        client=printable(record.client, MAX_NAME),
        phase=phase,
        detail=printable(detail, MAX_NAME),
        first_s=None if record.first_token_s is None else round(record.first_token_s, 1),
        tokens=tokens,
        notices=len(record.notices),
        retries=record.retries + max(0, record.attempts - 1),
    )


def _written(translation: Translation) -> int:
    """The bytes of text of an answer, or an estimate where it is large."""
    received = translation.received
    if received <= MAX_SIZED_BYTES:
        return translation.written
    return received // 40  # a chunk of some 160 bytes brings a token
