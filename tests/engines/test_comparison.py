"""Translator and the engine's own /v1/responses, point by point; docs/engines.md has the result."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import comparison
from .comparison import POINTS, SEEN, Endpoint, Point
from .engine import Engine


@pytest.fixture(scope="module")
def endpoints(service_url: str, engine: Engine) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Translator, and the engine by itself."""
    comparison.ENGINE[:] = [comparison.version_of(engine.name)]
    ours, theirs = Endpoint(service_url), Endpoint(engine.base_url)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.look.__name__)
def test_point(endpoints: tuple[Endpoint, Endpoint], point: Point) -> None:
    ours, theirs = map(point.look, endpoints)
    SEEN[point.name] = ours, theirs
    if point.expected is not None:
        assert ours == point.expected
