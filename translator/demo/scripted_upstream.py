"""Scripted upstream: an HTTP server that speaks only Chat Completions and streams from a script.

It reports each chunk before sending it, and pauses afterwards: the events that the client receives
until the next chunk come from this one. Like strict upstreams it rejects, with 400, a role or a
tool of another API and a call without its result.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

JSON = dict[str, Any]

STEPS = 10
"""Sleeps in a pause: each lets the sent bytes go one hop further, also on a busy machine."""

MAX_HEAD_BYTES = 64 * 1024
"""Longest request head that is read, in bytes."""

ROLES = ("system", "user", "assistant", "tool")


class ScriptedUpstream:
    """A server on a free port of 127.0.0.1 that plays one list of chunks per request."""

    def __init__(
        self,
        script: Sequence[Sequence[JSON]],
        *,
        pause_s: float,
        on_request: Callable[[JSON], None],
        on_chunk: Callable[[JSON | None], None],
    ) -> None:
        self._script = iter(script)
        self._pause_s = pause_s
        self._on_request = on_request  # called before a request is answered
        self._on_chunk = on_chunk  # called before a chunk is sent; None stands for [DONE]
        self._server: asyncio.Server | None = None
        self.requests: list[JSON] = []
        self.rejections: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._answer, "127.0.0.1", 0, limit=MAX_HEAD_BYTES
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path, body = await _read_request(reader)
            reason = rejection(path, body)
            chunks = next(self._script, None)
            if reason is None and chunks is None:
                reason = "the script has ended"
            if reason is not None or chunks is None:
                self.rejections.append(str(reason))
                await _reject(writer, str(reason))
                return
            self.requests.append(body)
            self._on_request(body)
            await self._stream(writer, chunks)
        except (OSError, EOFError, ValueError) as error:
            self.rejections.append(f"the request ended early: {error}")
        except asyncio.CancelledError:
            pass  # the demo stops; asyncio would log a cancelled connection as an error
        finally:
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter, chunks: Sequence[JSON]) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        await self._pause()
        for chunk in (*chunks, None):
            self._on_chunk(chunk)
            data = "[DONE]" if chunk is None else json.dumps(chunk, ensure_ascii=False)
            frame = f"data: {data}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            await writer.drain()
            await self._pause()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _pause(self) -> None:
        for _ in range(STEPS):
            await asyncio.sleep(self._pause_s / STEPS)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, JSON]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in head[1:])
    headers = {name.lower(): value.strip() for name, _, value in fields}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return head[0].split(" ")[1], json.loads(content)


async def _reject(writer: asyncio.StreamWriter, reason: str) -> None:
    error = {"message": reason, "type": "invalid_request_error", "param": None, "code": None}
    content = json.dumps({"error": error}).encode()
    writer.write(
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(content), content)
    )
    await writer.drain()


def rejection(path: str, body: Mapping[str, Any]) -> str | None:
    """Why a strict upstream rejects this request, or None."""
    if path != "/v1/chat/completions":
        return f"unknown path {path}"
    unknown = body.keys() & {"input", "instructions", "include", "reasoning", "max_output_tokens"}
    if unknown:
        return f"{', '.join(sorted(unknown))}: not a parameter of Chat Completions"
    for index, tool in enumerate(body.get("tools", [])):
        if tool.get("type") != "function" or "name" not in tool.get("function", {}):
            return f"tools[{index}]: 'type' of tool must be 'function'"
    open_calls: list[str] = []
    for index, message in enumerate(body.get("messages", [])):
        role = message.get("role")
        if role not in ROLES:
            return f"messages[{index}].role: {role} is not one of {', '.join(ROLES)}"
        if role == "tool" and message.get("tool_call_id") not in open_calls:
            return f"messages[{index}]: a result must follow its call"
        if role == "tool":
            open_calls.remove(message["tool_call_id"])
        elif open_calls:
            return f"messages[{index}]: {', '.join(open_calls)} has no result yet"
        open_calls += [call["id"] for call in message.get("tool_calls", [])]
    return f"messages: {', '.join(open_calls)} has no result" if open_calls else None
