"""Makes counters, gauges and histograms of one registry.

prometheus_client reads its settings on import, so this module is imported as late as `metrics`.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.samples import Sample

from .shared_metrics import FOLDER

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
        if FOLDER in os.environ:
            return _cached(made)
        return _of_one_process(made, has_labels=bool(labels))

    def histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = SLOW
    ) -> Histogram:
        made = Histogram(
            name, text, labels, namespace=NAMESPACE, registry=self._registry, buckets=buckets
        )
        return _cached(made)

    def loop_histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = SLOW
    ) -> Histogram:
        """A histogram that the event loop alone observes: in one process, without a lock."""
        made = self.histogram(name, text, *labels, buckets=buckets)
        return made if FOLDER in os.environ else _unlocked(made, labels, buckets)


class _Distribution:
    """The observations of one series, added up."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        self.sum += amount
        self._counts[bisect_left(self._bounds, amount)] += 1

    def so_far(self) -> tuple[list[int], float]:
        """The cumulative counts, one for each bound and one of all; and the sum."""
        return list(accumulate(self._counts)), self.sum


def _unlocked(histogram: Histogram, names: Sequence[str], bounds: Sequence[float]) -> Histogram:
    """The histogram, whose samples get their values when the metrics are read.

    That is done in another thread: all samples of a series are of the same moment.
    """
    found: Any = histogram
    labels, collect = histogram.labels, histogram.collect
    series: dict[tuple[str, ...], _Distribution] = {}

    @cache
    def of(*values: str) -> _Distribution:
        one = series[tuple(map(str, values))] = _Distribution(bounds)
        labels(*values)  # so that prometheus_client makes its samples
        return one

    def filled(sample: Sample, so_far: Mapping[tuple[str, ...], tuple[list[int], float]]) -> Sample:
        counts, total = so_far[tuple([sample.labels[name] for name in names])]
        kind = sample.name.rpartition("_")[2]
        if kind == "sum":
            return sample._replace(value=total)
        if kind == "count":
            return sample._replace(value=float(counts[-1]))
        if kind == "bucket":
            bound = float(sample.labels["le"])
            return sample._replace(value=float(counts[bisect_left(bounds, bound)]))
        return sample  # `_created`

    def collected() -> Iterator[Metric]:
        for metric in collect():
            so_far = {values: one.so_far() for values, one in tuple(series.items())}
            metric.samples = [filled(sample, so_far) for sample in metric.samples]
            yield metric

    if names:
        found.labels = of
    else:
        one = series[()] = _Distribution(bounds)
        found.observe = one.observe
    found.collect = collected
    return histogram


class _Level:
    """The value of a gauge, which asks for it when the metrics are read.

    prometheus_client takes a lock for each change, and checks the gauge before it.
    """

    __slots__ = ("_value",)

    def __init__(self, gauge: Gauge) -> None:
        self._value = 0.0
        gauge.set_function(lambda: self._value)

    def inc(self, amount: float = 1) -> None:
        self._value += amount

    def dec(self, amount: float = 1) -> None:
        self._value -= amount

    def set(self, value: float) -> None:
        self._value = value


def _of_one_process(gauge: Gauge, *, has_labels: bool) -> Gauge:
    """The gauge, changed without a lock: what counts up and down is the event loop's alone."""
    found: Any = gauge
    if has_labels:
        labels = gauge.labels
        found.labels = cache(lambda *values: _Level(labels(*values)))
    else:
        level = _Level(gauge)
        found.inc, found.dec, found.set = level.inc, level.dec, level.set
    return gauge


def _cached(metric: M) -> M:
    """The metric, with a cache of its children, which it keeps anyway.

    prometheus_client checks the labels and takes a lock each time that it looks for one.
    """
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric
