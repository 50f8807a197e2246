"""Several who look on at the same request, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Raw

from translator import Notice, Translation, TranslatorError, UpstreamError
from translator.service.models.table import Route
from translator.wire.events import Event
from translator.wire.responses import Response

from .observer import Watch, Witness, for_events, for_pieces
from .record import Record


def together(watches: Sequence[Watch]) -> Watch | None:
    """One `Watch` for all; None for none."""
    if len(watches) < 2:
        return watches[0] if watches else None

    def watch(record: Record) -> Witness | None:
        seeing = [witness for one in watches if (witness := one(record)) is not None]
        return _Together(seeing) if len(seeing) > 1 else seeing[0] if seeing else None

    return watch


class _Together(Witness):
    """Pieces only go to those who look at pieces: they are many."""

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        self._all = witnesses
        self._receive = [one for one in map(for_pieces, witnesses) if one is not None]
        self._send = [one for one in map(for_events, witnesses) if one is not None]

    def asked(self, request: bytes) -> None:
        for one in self._all:
            one.asked(request)

    def routed(self, route: Route, earlier: Sequence[Raw] | None) -> None:
        for one in self._all:
            one.routed(route, earlier)

    def lost(self, notices: Sequence[Notice]) -> None:
        for one in self._all:
            one.lost(notices)

    def written(self, translation: Translation) -> None:
        for one in self._all:
            one.written(translation)

    def called(self, path: str, body: bytes | None) -> None:
        for one in self._all:
            one.called(path, body)

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        for one in self._all:
            one.answered(status, headers)

    def received(self, piece: bytes) -> None:
        for receive in self._receive:
            receive(piece)

    def broke(self, error: TranslatorError) -> None:
        for one in self._all:
            one.broke(error)

    def again(self, error: UpstreamError, seconds: float) -> None:
        for one in self._all:
            one.again(error, seconds)

    def sent(self, events: Sequence[Event]) -> None:
        for send in self._send:
            send(events)

    def responded(self, response: Response) -> None:
        for one in self._all:
            one.responded(response)

    def refused(self, error: TranslatorError) -> None:
        for one in self._all:
            one.refused(error)

    def ended(self, record: Record) -> None:
        for one in self._all:
            one.ended(record)
