"""A chat upstream that costs next to nothing: raw asyncio protocols, and chunks made beforehand.

    PUT /plan    {"tokens": N, "rate": R, "hold_s": S}    what every later request gets
    POST *       an event stream of N tokens

A rate of R sends R tokens a second to each stream, all streams in turn; 0 sends as fast as the
other side reads. `hold_s` keeps a stream open after its tokens. Each paced token is the time in
nanoseconds at which it was sent (CLOCK_MONOTONIC), so that whoever reads it knows how old it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from itertools import count
from typing import cast

import uvloop

from .bodies import frame

TICK_S = 0.001
BLOCK = 64  # tokens of one write, when all are sent at once
DONE = frame({}, "stop") + b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STAMP = "0" * 19 + " "
BEFORE, AFTER = frame({"content": STAMP}).split(STAMP.encode())


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_SIZE = b"%x\r\n" % (len(BEFORE) + len(AFTER) + len(STAMP))


def token() -> bytes:
    """One token that says when it was sent."""
    return b"%s%s%019d %s\r\n" % (_SIZE, BEFORE, time.monotonic_ns(), AFTER)


class Plan:
    """What a request gets."""

    def __init__(self, tokens: int = 10, rate: float = 0, hold_s: float = 0) -> None:
        self.tokens = tokens
        self.rate = rate
        self.hold_s = hold_s


class Pacer:
    """All streams in turn: each tick of a millisecond writes to those whose turn it is."""

    def __init__(self) -> None:
        self._streams: dict[int, list[Stream]] = {}
        self._phases = count()
        self._period = 20
        self.busiest_s = 0.0

    def add(self, stream: Stream) -> None:
        self._period = max(1, round(1 / stream.plan.rate / TICK_S))
        # A step that shares no factor with usual periods spreads streams that begin together.
        self._streams.setdefault(next(self._phases) * 7 % self._period, []).append(stream)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for tick in count():
            began_tick = loop.time()
            due = self._streams.get(tick % self._period)
            if due:
                for stream in due:
                    stream.send_token()
                due[:] = [stream for stream in due if stream.left > 0]
            self.busiest_s = max(self.busiest_s, loop.time() - began_tick)
            ahead = began + (tick + 1) * TICK_S - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            elif tick % 8 == 0:
                await asyncio.sleep(0)


class Stream(asyncio.Protocol):
    """One connection: requests, one after the other, and their answers."""

    def __init__(self, pacer: Pacer, plans: list[Plan]) -> None:
        self._pacer = pacer
        self._plans = plans
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self.plan = plans[-1]
        self.left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self.left = 0

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_blocks()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (request := self._request()) is not None:
            self._answer(*request)

    def _request(self) -> tuple[bytes, bytes] | None:
        """The next whole request: its first line and its body."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end])
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if b"\r\nexpect: 100-continue" in head.lower() and len(self._received) == end + 4:
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._received) < end + 4 + length:
            return None
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        return head.partition(b"\r\n")[0], body

    def _answer(self, line: bytes, body: bytes) -> None:
        if self._transport is None:
            return
        if line.startswith(b"PUT /plan "):
            self._plans.append(Plan(**json.loads(body)))
            answer = json.dumps({"busiest_s": self._pacer.busiest_s}).encode()
            self._pacer.busiest_s = 0.0
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer)
            )
            return
        self.plan = self._plans[-1]
        self.left = self.plan.tokens
        self._transport.write(HEAD + chunked(frame({"role": "assistant", "content": ""})))
        if self.plan.rate:
            self._pacer.add(self)
        elif self.left <= BLOCK:
            self._transport.write(b"".join(token() for _ in range(self.left)))
            self.left = 0
            self._end()
        else:
            self._send_blocks()

    def send_token(self) -> None:
        if self._transport is None or self.left <= 0:
            return
        self._transport.write(token())
        self.left -= 1
        if self.left == 0:
            self._end()

    def _send_blocks(self) -> None:
        """As much as the other side takes; `resume_writing` goes on."""
        if self._transport is None or self.left <= 0 or self.plan.rate:
            return
        while self._writable and self.left > 0:
            self.left -= BLOCK
            self._transport.write(token() * BLOCK)
        if self.left <= 0:
            self._end()

    def _end(self) -> None:
        if self.plan.hold_s:
            asyncio.get_running_loop().call_later(self.plan.hold_s, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        if self._transport is not None:
            self._transport.write(chunked(DONE) + b"0\r\n\r\n")


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer()
    plans = [Plan()]
    await loop.create_server(lambda: Stream(pacer, plans), "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await pacer.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    uvloop.run(serve(parser.parse_args().port))
