from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from .searching import ScriptedWeb


@pytest.fixture
async def scripted() -> AsyncGenerator[ScriptedWeb]:
    """A scripted web that listens."""
    async with ScriptedWeb().running() as running:
        yield running
