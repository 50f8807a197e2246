"""Time series of prometheus_client: the bounds of their buckets, and their cached children."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

from translator.service.base.connection_meter import CutReason

M = TypeVar("M", Counter, Gauge, Histogram)

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
RATES = (1, 2.5, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)


def cached(metric: M) -> M:
    """The metric, with a cache of its children, which it keeps anyway.

    prometheus_client checks the labels and takes a lock each time that it looks for one.
    """
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric


class ConnectionMetrics:
    """A `ConnectionMeter`."""

    def __init__(self, gauge: Gauge, cut: Counter) -> None:
        self.opened = gauge.inc
        self.closed = gauge.dec
        self._cut = cut

    def cut(self, reason: CutReason) -> None:
        self._cut.labels(reason).inc()
