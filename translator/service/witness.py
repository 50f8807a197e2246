"""Whoever looks on while a request is answered: a trace, a live view, a test.

    seen = asked, { called, [ answered, { received } ], { sent } }, ended ;

The application is given a `Watch`, which decides for each request whether anybody looks on. Where
nobody does, that costs one comparison per piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from translator import Notice
from translator.events import Event
from translator.responses import Response

from .record import Record


class Witness:
    """Looks on at one request; a subclass overrides what it wants to see.

    A method is called as the thing happens, with the very objects that travel on: it must neither
    change them, nor raise, nor wait. What it sees of headers and bodies may hold secrets.
    """

    def asked(self, request: bytes) -> None:
        """The client's request body is there, whole."""

    def called(self, path: str, body: bytes | None) -> None:
        """A request goes upstream; more than once when the upstream refuses a field."""

    def lost(self, notices: Sequence[Notice]) -> None:
        """What the request that goes upstream next does not say, or says otherwise."""

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The upstream's status line and headers are there."""

    def received(self, piece: bytes) -> None:
        """A piece of the upstream's body, an error's too, as the network cut it."""

    def sent(self, events: Sequence[Event]) -> None:
        """The client gets these events, all at once."""

    def responded(self, response: Response) -> None:
        """The client gets this response, whole."""

    def ended(self, record: Record) -> None:
        """The request is over; `record.outcome` says how."""


Watch: TypeAlias = Callable[[Record], Witness | None]
"""Who looks on at a request that begins; None when nobody does."""
