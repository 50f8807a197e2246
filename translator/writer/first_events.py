"""The first events of a response.

first = created, [ queued ], in_progress ;      queued in the background alone
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from translator.wire.events import Created, Event, InProgress, Queued
from translator.wire.responses import Response


def first_events(number: Callable[[], int], response: Response) -> list[Event]:
    """The events that announce a response; `number()` is the next sequence number."""
    if not response.background:
        return [Created(number(), response), InProgress(number(), response)]
    queued = replace(response, status="queued")
    return [Created(number(), queued), Queued(number(), queued), InProgress(number(), response)]
