"""Chat requests: accessors for tests, and a call that scripted models often make."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from tests.clients.upstream import Call

Request = dict[str, Any]


def run(command: str, call_id: str = "functions.exec_command:0") -> Call:
    """A call of Codex's shell."""
    return Call(call_id, "exec_command", {"cmd": command})


def roles(request: Request) -> list[str]:
    return [message["role"] for message in request["messages"]]


def functions(request: Request) -> dict[str, Request]:
    """The declared functions by name."""
    return {tool["function"]["name"]: tool["function"] for tool in request["tools"]}


def results(request: Request) -> dict[str, str]:
    """The result of each call, by call id."""
    tools = [message for message in request["messages"] if message["role"] == "tool"]
    return {message["tool_call_id"]: message["content"] for message in tools}


def reasoning(message: Request) -> str | None:
    """The reasoning of an assistant message, whatever its field is called."""
    return message.get("reasoning_content", message.get("reasoning"))


def image_urls(message: Request) -> list[str]:
    parts = message["content"] if isinstance(message["content"], list) else []
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def items(request: Request, kind: str) -> list[Request]:
    """The input items of one type in a Responses request."""
    return [item for item in request["input"] if item["type"] == kind]


def png(width: int = 8, height: int = 8) -> bytes:
    """A small image of one colour."""
    rows = (b"\0" + b"\x80\x10\x10" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
