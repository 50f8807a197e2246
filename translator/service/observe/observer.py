"""Observers of a request: a trace, metrics, a live view, a test.

    request = [ RequestReceived ], [ Routed ], { attempt }, { ToolRan },
              [ ResponseSent | ErrorSent ], RequestEnded ;
    attempt = [ FallbackChosen ], { ImageDescribed }, [ AttemptWritten ],
              { UpstreamCalled, [ UpstreamAnswered ], RetryScheduled },
              UpstreamCalled, [ UpstreamAnswered, { ChunkReceived } ], { EventsSent },
              [ AttemptFailed ] ;

The application is given an `ObserverFactory`, which decides for each request whether anyone
observes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Raw, Struct

from translator import Notice, Translation, TranslatorError, UpstreamError
from translator.service.models.table import Route
from translator.wire.events import Event
from translator.wire.responses import Response, Usage

from .record import Record

DescriptionResult = Literal["described", "failed"]
ToolName = Literal["search", "open", "click", "find", "time", "mcp_list", "mcp", "other"]
ToolResult = Literal["completed", "refused", "failed", "left"]
"""How a call has ended; "left": it was cancelled, with its client or with the service."""


class RequestReceived(Struct, frozen=True):
    """The client's request body, whole."""

    body: bytes


class Routed(Struct, frozen=True):
    """The upstream and the facts of the model; `earlier` are items of the previous response."""

    route: Route
    earlier: Sequence[Raw] | None


class FallbackChosen(Struct, frozen=True):
    """The next attempt takes another route than the one before; `why` is one word.

    Also before the first attempt, where that is not what the client asked for. `why` is empty where
    it is, after all.
    """

    route: Route
    why: str


class AttemptWritten(Struct, frozen=True):
    """The chat request of an attempt; `notices` say what it loses of the client's request."""

    translation: Translation
    notices: Sequence[Notice]


class UpstreamCalled(Struct, frozen=True):
    """A request is sent upstream."""

    path: str
    body: bytes | None


class UpstreamAnswered(Struct, frozen=True):
    """The upstream's status line and headers have arrived."""

    status: int
    headers: Mapping[str, str]


class ChunkReceived(Struct, frozen=True):
    """A chunk of the upstream's body, as the network cut it; of an error's body, too."""

    chunk: bytes


class ImageDescribed(Struct, frozen=True):
    """Another model has been asked to describe an image of the request, with this `result`.

    `model` is its id; `usage` is not part of the usage of the response.
    """

    model: str
    result: DescriptionResult
    usage: Usage | None


class ToolRan(Struct, frozen=True):
    """The service has run a tool itself, or refused to: for a response, or for its search."""

    tool: ToolName
    result: ToolResult
    seconds: float


class AttemptFailed(Struct, frozen=True):
    """The answer to the latest upstream request ends with an error that is not in its body."""

    error: TranslatorError


class RetryScheduled(Struct, frozen=True):
    """The upstream did not accept the latest request; it is sent again after `delay_s` seconds."""

    error: UpstreamError
    delay_s: float


class EventsSent(Struct, frozen=True):
    """Events that are sent to the client in one write."""

    events: Sequence[Event]


class ResponseSent(Struct, frozen=True):
    """A response that is sent to the client as one JSON body."""

    response: Response


class ErrorSent(Struct, frozen=True):
    """An error that is sent to the client in place of an answer."""

    error: TranslatorError


class RequestEnded(Struct, frozen=True):
    """The request is over; its record is final."""


ObservedEvent: TypeAlias = (
    RequestReceived
    | Routed
    | FallbackChosen
    | AttemptWritten
    | ImageDescribed
    | ToolRan
    | UpstreamCalled
    | UpstreamAnswered
    | ChunkReceived
    | AttemptFailed
    | RetryScheduled
    | EventsSent
    | ResponseSent
    | ErrorSent
    | RequestEnded
)


class Observer(Protocol):
    """Observes one request.

    `on` is called as things happen, with the objects that the service itself uses: it must neither
    change them, nor raise, nor wait. Headers and bodies may hold secrets. It ignores events that
    `wants` does not name; they need not be made for it, which matters for `ChunkReceived` and
    `EventsSent`, the only ones that come per chunk.
    """

    @property
    def wants(self) -> frozenset[type[ObservedEvent]]: ...
    def on(self, event: ObservedEvent) -> None: ...


class NullObserver:
    """Observes nothing."""

    wants: frozenset[type[ObservedEvent]] = frozenset()

    def on(self, event: ObservedEvent) -> None:
        pass


NOBODY = NullObserver()

ObserverFactory: TypeAlias = Callable[[Record], Observer | None]
"""Makes the observer of a request that begins; None: nobody observes it."""
