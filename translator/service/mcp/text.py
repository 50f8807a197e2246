"""What servers say, made fit for a model: the text of results.

    text of a result = { text | what a picture, a sound or a file is } | its structured content ;

All of it comes from strangers: control characters and marks of chat templates are taken out or
broken up, and lengths are bounded.
"""

from __future__ import annotations

import mcp_types
import msgspec

from translator.service.tools.untrusted import harmless
from translator.wire.json_values import utf8_size


def harmless_text(text: str, limit: int) -> str:
    """A text without what is not to be seen, and at most so many characters long."""
    clean = harmless(text[: 2 * limit])
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def _size(number: int) -> str:
    if number < 1000:
        return f"{number} bytes"
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
