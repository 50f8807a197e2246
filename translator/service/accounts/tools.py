"""Tools that the service runs: their names in the rights of keys and channels, and in prices.

    right    search, mcp (every server), mcp:NAME (one)
    price    tool:search, tool:mcp      a row of prices, whose price per request is that of a call

A tool without a price costs nothing. A call is held and settled like a request, in a usage of its
own kind; within a request it takes no slot and nothing of its minute.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["request", "search", "mcp"]
"""What a hold is for."""

ToolKind = Literal["search", "mcp"]

TOOLS: tuple[ToolKind, ...] = ("search", "mcp")

_PRICED = "tool:"


class ToolCalls(Struct, frozen=True):
    """Calls of a tool that a hold is for; `parent` is the hold of the request that has them."""

    kind: ToolKind
    count: int
    parent: int | None = None


def kind_of(tool: str) -> ToolKind:
    """The kind of a tool, such as `mcp:docs`."""
    return "search" if tool == "search" else "mcp"


def has_right(tools: tuple[str, ...] | None, tool: str) -> bool:
    """Whether a tool is among those of a key or a channel; None are all."""
    return tools is None or tool in tools or kind_of(tool) in tools


def priced_name(kind: ToolKind) -> str:
    """The name of a tool in prices, and in usages in place of a model."""
    return _PRICED + kind


def is_priced_name(name: str) -> bool:
    """Whether a name in prices is reserved for tools."""
    return name.startswith(_PRICED)


def tool_problem(tool: str) -> str:
    """What is wrong with the name of a right; empty where it is one."""
    kind, colon, name = tool.partition(":")
    if (kind == "search" and not colon) or (kind == "mcp" and (not colon or name)):
        return ""
    return f"{tool!r} is no tool; known: search, mcp, mcp:NAME"
