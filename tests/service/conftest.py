from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from .log import Log
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


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """The log of `translator` in JSON, or in the form that the test is parametrized with."""
    found = Log(getattr(request, "param", "json"))
    logger = logging.getLogger("translator")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(found.where)
    yield found
    logger.removeHandler(found.where)
    logger.setLevel(before)
