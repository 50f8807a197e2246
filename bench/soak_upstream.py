"""The upstream of the soak test: its answer follows from the number in the model's name.

    python -m bench.soak_upstream PORT

So the driver knows each answer before it asks, and no two answers are alike. Two in a hundred
requests meet a fault; it, too, follows from the number. A model that is called `hostile-KIND` gets
what `hostile.misbehave` has for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal

import uvloop
from msgspec import Struct

from .bodies import frame
from .hostile import misbehave

Kind = Literal["text", "reasoning", "call", "calls", "whole", "chat", "websocket"]
Fault = Literal["", "refused", "later", "closed early", "cut", "garbage", "reset", "left"]

KINDS: dict[Kind, int] = {
    "text": 50, "reasoning": 10, "call": 10, "calls": 5, "whole": 10, "chat": 5, "websocket": 10,
}  # fmt: skip
"""The ways to ask, and how often each is taken in a hundred."""

FAULTS: tuple[Fault, ...] = (
    "refused", "later", "closed early", "cut", "garbage", "reset", "left",
)  # fmt: skip
"""503; 503 that asks for a later try; a connection closed before the answer; a chunk cut in half;
rubbish in mid-answer; a reset in mid-answer; a client that leaves."""

FAULTS_PER_100 = 2
PAUSES = {0.0: 2, 0.02: 8, 0.05: 40, 0.1: 50}
"""How many seconds lie between two frames, and how often in a hundred. With 300 streams that makes
about 4,000 events a second: what two CPUs, the ends included, have time for."""

MODEL = re.compile(rb'"model":\s*"soak-(\d+)"')
HOSTILE = re.compile(rb'"model":\s*"hostile-([\w ]+)"')


class Answer(Struct, frozen=True):
    """What comes of one request."""

    number: int
    kind: Kind
    fault: Fault
    frames: tuple[bytes, ...]
    """Frames of a stream; without one, the only body."""
    pause_s: float
    """Between two of them."""
    breaks_at: int
    """How many frames are sent before a fault in mid-answer."""


def answer(number: int) -> Answer:
    chance = random.Random(number)
    [kind] = chance.choices(list(KINDS), weights=list(KINDS.values()))
    fault: Fault = chance.choice(FAULTS) if chance.random() * 100 < FAULTS_PER_100 else ""
    count = int(chance.triangular(10, 300, 60))
    words = [f"n{number}w{place} " for place in range(count)]
    frames = (_whole(words),) if kind == "whole" else tuple(_frames(kind, words))
    [pause_s] = chance.choices(list(PAUSES), weights=list(PAUSES.values()))
    breaks_at = 0 if kind == "whole" else chance.randrange(2, len(frames))
    return Answer(number, kind, fault, frames, pause_s, breaks_at)


def _frames(kind: Kind, words: list[str]) -> Iterator[bytes]:
    yield frame({"role": "assistant", "content": ""})
    finish = "stop"
    half = len(words) // 2
    match kind:
        case "reasoning":
            yield from (frame({"reasoning_content": word}) for word in words[:half])
            yield from (frame({"content": word}) for word in words[half:])
        case "call":
            yield from _call(0, words)
            finish = "tool_calls"
        case "calls":
            yield from _call(0, words[:half])
            yield from _call(1, words[half:])
            finish = "tool_calls"
        case _:
            yield from (frame({"content": word}) for word in words)
    yield frame({}, finish)
    yield b"data: [DONE]\n\n"


def _call(index: int, words: list[str]) -> Iterator[bytes]:
    number = words[0].partition("w")[0]
    call = {"index": index, "id": f"call_{number}_{index}", "type": "function"}
    yield frame({"tool_calls": [call | {"function": {"name": "ls", "arguments": '{"x":"'}}]})
    for text in (*words, '"}'):
        yield frame({"tool_calls": [{"index": index, "function": {"arguments": text}}]})


def _whole(words: list[str]) -> bytes:
    message = {"role": "assistant", "content": "".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": len(words), "total_tokens": 3 + len(words)}
    body: dict[str, Any] = {"object": "chat.completion", "choices": [choice], "usage": usage}
    return json.dumps(body).encode()


class Upstream:
    def __init__(self) -> None:
        self._put_off: set[int] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # RuntimeError: uvloop's word for a connection that was closed meanwhile
        with suppress(asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(size[1]) if size else 0)
                if hostile := HOSTILE.search(body):
                    await misbehave(hostile[1].decode(), head, body, writer)
                    continue
                found = MODEL.search(body)
                assert found, body[:200]
                await self._answer(answer(int(found[1])), writer)
        writer.close()

    async def _answer(self, given: Answer, writer: asyncio.StreamWriter) -> None:
        match given.fault:
            case "later" if given.number not in self._put_off:
                self._put_off.add(given.number)
                writer.write(_error(b"retry-after: 0\r\n"))
                return
            case "refused":
                writer.write(_error())
                return
            case "closed early":
                raise ConnectionError
        self._put_off.discard(given.number)
        kind = b"application/json" if given.kind == "whole" else b"text/event-stream"
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind
        )
        for place, chunk in enumerate(given.frames):
            if given.fault in ("cut", "garbage", "reset") and place == given.breaks_at:
                _break(given.fault, chunk, writer)
                raise ConnectionError
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            if given.pause_s and place > 1:  # the first events come at once
                await asyncio.sleep(given.pause_s)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _error(*lines: bytes) -> bytes:
    body = b'{"error":{"message":"busy"}}'
    head = b"HTTP/1.1 503 Busy\r\ncontent-type: application/json\r\n" + b"".join(lines)
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def _break(fault: Fault, chunk: bytes, writer: asyncio.StreamWriter) -> None:
    if fault == "cut":
        writer.write(b"%x\r\n%b" % (len(chunk), chunk[: len(chunk) // 2]))
    elif fault == "garbage":
        writer.write(b"\xff\x00rubbish\r\n")
    else:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def main(port: int) -> None:
    server = await asyncio.start_server(Upstream().connected, "127.0.0.1", port, backlog=2048)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
