from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import pytest

from .serving import Listener, McpScript


@pytest.fixture(scope="session")
def listener() -> Iterator[Listener]:
    """A port for the servers of all tests."""
    listener = Listener()
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


@pytest.fixture
async def script(listener: Listener) -> AsyncGenerator[McpScript]:
    """A real MCP server that listens, of this test alone."""
    async with McpScript(listener).running() as running:
        yield running
