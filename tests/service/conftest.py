from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .wire import ScriptedUpstream


@pytest.fixture
def anyio_backend() -> str:
    """Tests run on asyncio only: uvicorn and aiohttp do."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted upstream is on this machine, whatever the machine's proxy settings are."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream that listens."""
    async with ScriptedUpstream().running() as running:
        yield running
