"""What servers say, made fit for a model: the text of results, and the tools of a list.

    text of a result = { text | what a picture, a sound or a file is } | its structured content ;
    tool             = name, description, schema, hints ;

All of it comes from strangers: control characters and marks of chat templates are taken out or
broken up, and lengths are bounded. A tool whose schema has such marks where breaking them would
change its meaning is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mcp_types
import msgspec
from msgspec import Struct

from translator.service.tools.untrusted import harmless
from translator.wire.json_values import utf8_size

MAX_DESCRIPTION_CHARACTERS = 1024
MAX_NAME_CHARACTERS = 128
_WORDS = frozenset({"description", "title", "$comment"})


class McpTool(Struct, frozen=True, kw_only=True):
    """A tool of a server."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = {}
    read_only: bool | None = None
    """The server's own hint; None where it gives none."""

    idempotent: bool = False


def harmless_text(text: str, limit: int) -> str:
    """A text without what is not to be seen, and at most so many characters long."""
    clean = harmless(text[: 2 * limit])
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1_000_000 else f"{number / 1e3:.0f} kB"


def result_text(result: mcp_types.CallToolResult, limit: int) -> str:
    """The text of a result, in at most `limit` bytes; a result that says nothing says so.

    What is cut ends with a mark that says how long it was.
    """
    whole = "\n".join(filter(None, map(_block_text, result.content)))
    if not whole and result.structured_content is not None:
        whole = msgspec.json.encode(result.structured_content).decode()
    size = utf8_size(whole)
    encoded = harmless(whole[:limit]).encode()
    if size <= limit and len(encoded) <= limit:
        return encoded.decode() or "The tool gave no output."
    mark = f"\n[cut: {_size(size)} in all]"
    return encoded[: max(0, limit - len(mark))].decode("utf-8", "ignore") + mark


def _block_text(block: mcp_types.ContentBlock) -> str:
    if isinstance(block, mcp_types.TextContent):
        return block.text
    if isinstance(block, mcp_types.ResourceLink):
        return f"[link: {block.name} ({block.uri})]"
    if isinstance(block, mcp_types.EmbeddedResource):
        resource = block.resource
        if isinstance(resource, mcp_types.TextResourceContents):
            return resource.text
        return f"[file: {resource.mime_type or 'of an unknown type'}, not shown]"
    kind = "image" if isinstance(block, mcp_types.ImageContent) else "audio"
    return f"[{kind}: {block.mime_type}, {_size(len(block.data) * 3 // 4)}, not shown]"


def read_tools(listed: Iterable[mcp_types.Tool]) -> list[McpTool]:
    """The usable tools of a list; the first of a name is the one."""
    found: dict[str, McpTool] = {}
    for tool in listed:
        name = tool.name
        if not name or len(name) > MAX_NAME_CHARACTERS or harmless(name) != name or name in found:
            continue
        try:
            schema = _schema(tool.input_schema)
        except ValueError:
            continue
        hints = tool.annotations
        found[name] = McpTool(
            name=name,
            description=harmless_text(tool.description or "", MAX_DESCRIPTION_CHARACTERS),
            input_schema=schema,
            read_only=None if hints is None else hints.read_only_hint,
            idempotent=hints is not None and bool(hints.read_only_hint or hints.idempotent_hint),
        )
    return list(found.values())


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    """A schema whose words are harmless. Raises ValueError where other parts of it are not."""
    clean: dict[str, Any] = {}
    for key, entry in value.items():
        if key in _WORDS and isinstance(entry, str):
            clean[key] = harmless_text(entry, MAX_DESCRIPTION_CHARACTERS)
        else:
            clean[_kept(key)] = _clean(entry)
    return clean


def _clean(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return _schema(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list):
        return [_clean(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
    return _kept(value) if isinstance(value, str) else value


def _kept(text: str) -> str:
    if harmless(text) != text:
        raise ValueError(text)
    return text
