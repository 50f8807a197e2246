"""Lists of tools as servers send them: read tool by tool, and not as one.

    page  ──►  its tools, set apart from the message  ──►  { McpTool | why it cannot be used }

The SDK takes a list with one odd tool for nonsense, so it is given an empty one instead, with the
tools beside it as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol

import mcp_types
import msgspec
from mcp.shared.message import SessionMessage
from msgspec import Struct

from translator.service.config.mcp import McpSection
from translator.service.tools.untrusted import harmless
from translator.wire.json_values import as_list, as_object, as_string

from .text import harmless_text

MAX_DESCRIPTION_CHARACTERS = 1024
MAX_NAME_CHARACTERS = 128
MAX_SHOWN_CHARACTERS = 64
MAX_NAMED = 10
"""Most unusable tools that a message names."""

_WORDS = frozenset({"description", "title", "$comment"})
_APART = "translator/tools"
_Item = SessionMessage | Exception


class McpTool(Struct, frozen=True, kw_only=True):
    """A tool of a server."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = {}
    read_only: bool | None = None
    """The server's own hint; None where it gives none."""

    idempotent: bool = False


class _Messages(Protocol):
    """A stream of messages, as the SDK has it."""

    async def receive(self) -> _Item: ...
    async def aclose(self) -> None: ...
    async def __anext__(self) -> _Item: ...
    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None: ...


class ToolList(Struct, frozen=True):
    """The tools of a server, within the bounds."""

    tools: tuple[McpTool, ...]
    left_out: int = 0
    """How many the bounds have kept out, as far as is known."""

    unusable: tuple[str, ...] = ()
    """Those that cannot be used, with the reasons."""


class ToolsApart:
    """The messages of a server, with the tools of its lists set apart."""

    def __init__(self, inner: _Messages) -> None:
        self._inner = inner

    @property
    def last_context(self) -> object:
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> _Item:
        return _set_apart(await self._inner.receive())

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> ToolsApart:
        return self

    async def __anext__(self) -> _Item:
        return _set_apart(await self._inner.__anext__())

    async def __aenter__(self) -> ToolsApart:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc_val, exc_tb)


def _set_apart(item: _Item) -> _Item:
    message = item.message if isinstance(item, SessionMessage) else None
    if isinstance(message, mcp_types.JSONRPCResponse):
        tools = as_list(message.result.get("tools"))
        if tools is not None:
            meta = as_object(message.result.get("_meta")) or {}
            message.result |= {"tools": [], "_meta": {**meta, _APART: tools}}
    return item


def tools_in(page: mcp_types.ListToolsResult) -> list[Any]:
    """The tools of a page of a list, as they came."""
    return [*(as_list((page.meta or {}).get(_APART)) or ())]


def within_bounds(listed: Iterable[object], limits: McpSection) -> ToolList:
    """The usable tools of a list, as many as there may be."""
    usable, unusable = read_tools(listed)
    kept: list[McpTool] = []
    size = 0
    for tool in usable:
        size += len(msgspec.json.encode(tool))
        if len(kept) == limits.max_tools or size > limits.max_schema_bytes:
            break
        kept.append(tool)
    return ToolList(tuple(kept), len(usable) - len(kept), tuple(unusable))


def in_words(unusable: Sequence[str]) -> str:
    """Unusable tools in a message."""
    more = len(unusable) - MAX_NAMED
    return ", ".join(unusable[:MAX_NAMED]) + (f", and {more} more" if more > 0 else "")


def read_tools(listed: Iterable[object]) -> tuple[list[McpTool], list[str]]:
    """The usable tools of a list, the first of each name; and of the others, what is wrong."""
    found: dict[str, McpTool] = {}
    unusable: list[str] = []
    for value in listed:
        fields = as_object(value) or {}
        name = as_string(fields.get("name")) or ""
        try:
            if name in found:
                raise _Unusable("its name is another's, too")
            found[name] = _read_tool(name, fields)
        except (_Unusable, RecursionError) as error:
            why = str(error) if isinstance(error, _Unusable) else "its schema is nested too deeply"
            shown = harmless_text(name, MAX_SHOWN_CHARACTERS)
            unusable.append(f"'{shown}' ({why})")
    return list(found.values()), unusable


class _Unusable(Exception):
    """Why a tool cannot be used."""


def _read_tool(name: str, fields: dict[str, Any]) -> McpTool:
    if not name or len(name) > MAX_NAME_CHARACTERS or harmless(name) != name:
        raise _Unusable("its name is none, too long, or has characters that no name may have")
    schema = fields.get("inputSchema")
    given = {} if schema is None else as_object(schema)
    if given is None or given.get("type", "object") != "object":
        raise _Unusable("its inputSchema is not one of an object")
    hints = as_object(fields.get("annotations")) or {}
    read_only = hints.get("readOnlyHint")
    return McpTool(
        name=name,
        description=harmless_text(
            as_string(fields.get("description")) or "", MAX_DESCRIPTION_CHARACTERS
        ),
        input_schema=clean_schema(given if "type" in given else {"type": "object", **given}),
        read_only=read_only if isinstance(read_only, bool) else None,
        idempotent=read_only is True or hints.get("idempotentHint") is True,
    )


def clean_schema(value: dict[str, Any]) -> dict[str, Any]:
    """A schema whose words are harmless; raises where other parts of it are not."""
    clean: dict[str, Any] = {}
    for key, entry in value.items():
        if key in _WORDS and isinstance(entry, str):
            clean[key] = harmless_text(entry, MAX_DESCRIPTION_CHARACTERS)
        else:
            clean[_kept(key)] = _clean(entry)
    return clean


def _clean(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return clean_schema(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list):
        return [_clean(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
    return _kept(value) if isinstance(value, str) else value


def _kept(text: str) -> str:
    if harmless(text) != text:
        raise _Unusable("its schema has marks of chat templates, or characters that do not show")
    return text
