"""Several observers of one request as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .observer import ObservedEvent, Observer, ObserverFactory
from .record import Record


def fan_out(factories: Sequence[ObserverFactory]) -> ObserverFactory | None:
    """One factory for all; None for none."""
    if len(factories) < 2:
        return factories[0] if factories else None

    def make(record: Record) -> Observer | None:
        observers = [one for factory in factories if (one := factory(record)) is not None]
        return FanOut(observers) if len(observers) > 1 else observers[0] if observers else None

    return make


class FanOut:
    """Gives each event to the observers that want it, in their order."""

    __slots__ = ("_targets", "wants")

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.wants: frozenset[type[ObservedEvent]] = frozenset().union(
            *(one.wants for one in observers)
        )
        self._targets: dict[type[ObservedEvent], list[Callable[[ObservedEvent], None]]] = {
            kind: [one.on for one in observers if kind in one.wants] for kind in self.wants
        }

    def on(self, event: ObservedEvent) -> None:
        for target in self._targets.get(type(event), ()):
            target(event)
