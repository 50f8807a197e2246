from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from .serving import McpScript


@pytest.fixture
async def script() -> AsyncGenerator[McpScript]:
    """A real MCP server that listens."""
    async with McpScript().running() as running:
        yield running
