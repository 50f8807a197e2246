"""The servers of the settings, as the service uses them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from translator.service.config.mcp import Mcp, McpServer
from translator.service.config.tools import Tools
from translator.service.tools.addresses import AddressRules

from .failures import McpFailed
from .listed import in_words
from .servers import McpServers, Target
from .targets import Targets
from .transport import Connections

CHECK = "[check]"
"""Whose session it is when no client asks."""


class McpRoom:
    """Which servers there are, and their sessions."""

    failures = McpFailed

    def __init__(
        self,
        tools: Tools,
        settings: Mcp,
        *,
        now: Callable[[], float],
        own_headers: Mapping[str, str],
        own_ports: Iterable[int],
    ) -> None:
        """`now` is in seconds of a clock that no one sets.

        `own_headers` and `own_ports` are those of this service, which is no server of its own.
        """
        rules = AddressRules(tools.allow_private, own_ports)
        self.limits = settings.limits
        self.targets = Targets(settings, rules)
        self.servers = McpServers(
            settings.limits,
            Connections(
                rules,
                connect_timeout_s=settings.limits.connect_timeout_s,
                max_answer_bytes=settings.limits.max_answer_bytes,
                own_headers=own_headers,
                proxy=tools.limits.proxy,
            ),
            now,
            max_result_bytes=tools.limits.max_result_bytes,
        )

    async def names(self, server: McpServer) -> tuple[list[str], int, str]:
        """The names of a server's tools, how many are left out, and which cannot be used.

        Raises McpFailed.
        """
        target = Target(CHECK, server.url, server.headers, checked=False)
        listed = await self.servers.tools(target)
        names = [tool.name for tool in listed.tools]
        return names, listed.left_out, in_words(listed.unusable)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The servers can be used while the context lasts."""
        self.servers.open()
        try:
            yield
        finally:
            await self.servers.aclose()
