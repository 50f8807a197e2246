"""The MCP servers of an application: imported where the settings have a use for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from translator.service.base.hops import HEADER, Hops
from translator.service.config.mcp import Mcp
from translator.service.config.settings import Server, SettingsError
from translator.service.config.tools import Tools
from translator.service.tools.hosted import hosted_bounds
from translator.service.tools.owners import Owners
from translator.service.turns.dispatcher import Dispatcher

if TYPE_CHECKING:
    from translator.service.mcp.room import McpRoom


def open_mcp(
    server: Server, tools: Tools, settings: Mcp, now: Callable[[], float], hops: Hops
) -> McpRoom:
    """The servers of the settings; raises SettingsError where the SDK is missing.

    `now` is in seconds of a clock that no one sets.
    """
    try:
        from translator.service.mcp.room import McpRoom  # a second, which is taken at the start
    except ModuleNotFoundError as error:
        from translator.program.invocation import install_hint

        raise SettingsError(
            [f"tools.mcp: {error.name} is missing; {install_hint('service,tools')} installs it"]
        ) from None
    return McpRoom(
        tools,
        settings,
        now=now,
        own_headers={HEADER: hops.forwarded(())},
        own_ports=own_ports(server),
    )


def host_servers(dispatcher: Dispatcher, tools: Tools, room: McpRoom) -> None:
    """Let the dispatcher have the servers, beside the search that it may have."""
    from translator.service.mcp.hosting import HostedServers

    owners = Owners(secrets.token_bytes(16))
    hosting = HostedServers(tools.limits, room, owners, hosted_bounds(tools.limits))
    hosting.inner = dispatcher.hosting
    dispatcher.hosting = hosting


def own_ports(server: Server) -> list[int]:
    """The ports on which the service listens."""
    return [port for port in (server.port, server.metrics_port) if port]
