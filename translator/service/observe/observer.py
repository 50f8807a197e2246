"""Whoever looks on while a request is answered: a trace, a live view, a test.

    seen    = [ asked ], [ routed ], { attempt }, [ responded | refused ], ended ;
    attempt = [ lost, written ], { called, [ answered ], again },
              called, [ answered, { received } ], { sent }, [ broke ] ;

The application is given a `Watch`, which decides for each request whether anybody looks on. Where
nobody looks at pieces and events, that costs one comparison for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Raw

from translator import Notice, Translation, TranslatorError, UpstreamError
from translator.service.models.table import Route
from translator.wire.events import Event
from translator.wire.responses import Response

from .record import Record


class Witness:
    """Looks on at one request; a subclass overrides what it wants to see.

    A method is called as the thing happens, with the very objects that travel on: it must neither
    change them, nor raise, nor wait. What it sees of headers and bodies may hold secrets.
    """

    def asked(self, request: bytes) -> None:
        """The client's request body is there, whole."""

    def routed(self, route: Route, earlier: Sequence[Raw] | None) -> None:
        """It is known where the request goes. `earlier` are the items of its previous response."""

    def called(self, path: str, body: bytes | None) -> None:
        """A request goes upstream; more than once when the upstream refuses a field."""

    def lost(self, notices: Sequence[Notice]) -> None:
        """What the request that goes upstream next does not say, or says otherwise."""

    def written(self, translation: Translation) -> None:
        """The translation for the next request upstream, which may lack fields of it."""

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The upstream's status line and headers are there."""

    def received(self, piece: bytes) -> None:
        """A piece of the upstream's body, an error's too, as the network cut it."""

    def broke(self, error: TranslatorError) -> None:
        """The answer to the latest request upstream ends here, for a reason not in its body."""

    def again(self, error: UpstreamError, seconds: float) -> None:
        """The latest request upstream was not taken; after a wait the same one goes there again."""

    def sent(self, events: Sequence[Event]) -> None:
        """The client gets these events, all at once."""

    def responded(self, response: Response) -> None:
        """The client gets this response, whole."""

    def refused(self, error: TranslatorError) -> None:
        """The client gets this error in place of an answer."""

    def ended(self, record: Record) -> None:
        """The request is over; `record.outcome` says how."""


def for_pieces(witness: Witness | None) -> Callable[[bytes], None] | None:
    """Its `received`, where it looks at pieces: they are many."""
    return None if witness is None or _is_not_seen(witness, "received") else witness.received


def for_events(witness: Witness | None) -> Callable[[Sequence[Event]], None] | None:
    """Its `sent`, where it looks at events."""
    return None if witness is None or _is_not_seen(witness, "sent") else witness.sent


def _is_not_seen(witness: Witness, name: str) -> bool:
    return getattr(type(witness), name) is getattr(Witness, name)


Watch: TypeAlias = Callable[[Record], Witness | None]
"""Who looks on at a request that begins; None when nobody does."""
