"""Which server a request means, and whether this client may use it.

server_url absent:   the operator's [tools.mcp.NAME] whose name is the label, with its credential
server_url given:    a URL that [tools] allow has a pattern for, with the client's credential
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from translator.service.config.mcp import Mcp, McpServer
from translator.service.tools.addresses import AddressRules, NotAllowed, parsed

from .servers import Target

MAX_NAMED = 10
"""Most servers that an error names."""


class NoSuchServer(Exception):
    """A server that a client may not use; the message is for its user."""


class Targets:
    """The servers that clients may use."""

    def __init__(self, settings: Mcp, rules: AddressRules) -> None:
        self._settings = settings
        self._rules = rules

    def named(self, label: str, may_use: Callable[[McpServer], bool]) -> McpServer:
        """The operator's server of a label; raises NoSuchServer. `may_use`: a client's rights."""
        server = self._settings.servers.get(label)
        if server is not None and may_use(server):
            return server
        names = [one.name for one in self._settings.servers.values() if may_use(one)]
        shown = f"; there are {', '.join(names[:MAX_NAMED])}" if names else ""
        raise NoSuchServer(f"This service has no MCP server named '{label[:64]}'{shown}.")

    def of_operator(
        self,
        owner: str,
        label: str,
        headers: Mapping[str, str],
        may_use: Callable[[McpServer], bool],
    ) -> Target:
        """A server by its label; the client's own headers are added, its credential goes first."""
        server = self.named(label, may_use)
        own = dict(headers)
        merged = {**own, **server.headers}
        if "authorization" in own:
            merged["authorization"] = own["authorization"]
        return Target(owner, server.url, merged, checked=False)

    def of_client(self, owner: str, url: str, headers: Mapping[str, str]) -> Target:
        """A server by its URL. Raises NoSuchServer."""
        try:
            self._rules.check_url(url)
            parts = parsed(url)
        except NotAllowed as error:
            raise NoSuchServer(f"The MCP server must not be connected to: {error}.") from None
        if not any(one.matches(parts) for one in self._settings.allow):
            raise NoSuchServer(
                "The MCP server is not one that this service may connect to;"
                " the setting `allow` of [tools] names those that it may."
            )
        return Target(owner, parts.geturl(), dict(headers), checked=True)
