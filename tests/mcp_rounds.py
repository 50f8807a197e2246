"""Play responses with MCP tools through the core: declarations, listings, and a fake runner."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw

from tests.rounds import REQUEST as SEARCHING
from translator.common.hosted import Approved, Hosted, HostedCall, McpListing, McpTool, Outcome

SERVER: dict[str, Any] = {
    "type": "mcp",
    "server_label": "math",
    "server_url": "https://user:planted-pass@math.example/mcp?key=planted-query",
    "authorization": "planted-token",
    "headers": {"x-key": "planted-header"},
    "require_approval": "never",
}
ASKING: dict[str, Any] = {name: SERVER[name] for name in ("type", "server_label", "server_url")}
REQUEST: dict[str, Any] = {**SEARCHING, "tools": [SERVER]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}


def tool(name: str, description: str = "", *, read_only: bool | None = None) -> McpTool:
    return McpTool(name, description, Raw(json.dumps(SCHEMA).encode()), read_only)


ADD = tool("add", "Add two numbers.", read_only=True)
LISTED = "mcpl_" + "1" * 24
LISTING = McpListing((ADD, tool("write")), LISTED)


def hosted(
    listing: McpListing = LISTING, *approved: Approved, label: str = "math", **more: Any
) -> Hosted:
    """What runs here for a request with one server."""
    given: dict[str, Any] = {"kinds": frozenset({"web_search", "mcp"}), **more}
    return Hosted(mcp={label: listing}, approved=approved, **given)


def adds(call: HostedCall) -> Outcome:
    """A runner that adds; whatever is not two numbers fails."""
    given = json.loads(call.arguments)
    if call.name != "add":
        error = {"type": "http_error", "code": 401, "message": "The server answered with HTTP 401."}
        text = "The tool failed: The server answered with HTTP 401."
        return Outcome((text,), failed=True, error=Raw(json.dumps(error).encode()))
    return Outcome((str(given["a"] + given["b"]),))
