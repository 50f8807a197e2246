"""Makes counters, gauges and histograms of one registry.

prometheus_client reads its settings on import, so this module is imported as late as `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAMESPACE = "translator"
"""The prefix of all names."""

M = TypeVar("M", Counter, Gauge, Histogram)

MultiprocessMode = Literal["livesum", "livemax", "max"]
"""How the gauges of several workers become one."""

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
"""Bounds of durations, in seconds."""


class Instruments:
    """The instruments of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        registry = self._registry
        return _cached(Counter(name, text, labels, namespace=NAMESPACE, registry=registry))

    def gauge(
        self, name: str, text: str, *labels: str, mode: MultiprocessMode = "livesum"
    ) -> Gauge:
        made = Gauge(
            name,
            text,
            labels,
            namespace=NAMESPACE,
            registry=self._registry,
            multiprocess_mode=mode,
        )
        return _cached(made)

    def histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = SLOW
    ) -> Histogram:
        made = Histogram(
            name, text, labels, namespace=NAMESPACE, registry=self._registry, buckets=buckets
        )
        return _cached(made)


def _cached(metric: M) -> M:
    """The metric, with a cache of its children, which it keeps anyway.

    prometheus_client checks the labels and takes a lock each time that it looks for one.
    """
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric
