"""Two nodes with two workers each, while workers are killed; see `hammer` for many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from translator.service.config.store import Location

from .hammer import hammered

pytestmark = pytest.mark.anyio


async def test_two_nodes_pg(postgres_location: Location, tmp_path: Path) -> None:
    """Scenario 56, for some seconds: what clients saw is what is found, at either node."""
    counts = await hammered(postgres_location, tmp_path, seconds=4, conversations=16, every_s=1.5)
    assert counts["completed"] >= 4  # on a slow machine, too
