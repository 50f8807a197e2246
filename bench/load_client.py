"""Streams that are opened at once and read to their end; prints what was seen, as JSON.

    python -m bench.load_client PLAN

The plan is a JSON object, see `Load`. All of it is raw asyncio protocols: a read looks for the
stamps of tokens in the bytes, and parses nothing. Latency is the age of a token when it is read;
CPU is what the scheduler accounted to the watched processes between two moments, with all the
tokens that came between them.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any, cast

import msgspec
import uvloop

STAMP = re.compile(rb'"(\d{19}) "')


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do. `warm_up_s` and `measure_s` 0: from the first request to the last answer."""

    port: int
    path: str
    body: str
    streams: int
    pids: list[int] = []
    """Whose CPU time counts, with all their descendants."""

    ramp_s: float = 0.5
    warm_up_s: float = 0
    measure_s: float = 0
    sequential: bool = False
    """One after the other on one connection, in place of all at once."""

    count_only: bool = False
    """Tokens are counted and their ages left alone, for the fastest streams."""

    headers: dict[str, str] = {}
    end: str = "0\r\n\r\n"
    """With what an answer ends."""


def cpu_seconds(pids: list[int]) -> float:
    """CPU time of processes and of their descendants so far, as the scheduler accounts for it."""
    total = 0
    for pid in with_descendants(pids):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total / 1e9


def with_descendants(pids: list[int]) -> list[int]:
    found = list(pids)
    for pid in found:  # grows while it is walked
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


class Recorder:
    """What all streams have seen."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.measuring = not load.measure_s
        self.tokens = 0
        self.ages_ns: list[int] = []
        self.first_token_s: list[float] = []
        self.errors: list[str] = []


class Stream(asyncio.Protocol):
    """One connection with one request, or with many in turn."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._load = recorder.load
        self._end = recorder.load.end.encode()
        self._tail = b""
        self._transport: asyncio.Transport | None = None
        self._asked = 0.0
        self._first = True
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        load = self._load
        body = load.body.encode()
        headers = {
            "host": f"127.0.0.1:{load.port}",
            "content-type": "application/json",
            "accept": "text/event-stream",
            "content-length": str(len(body)),
            **load.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        assert self._transport is not None
        self._asked = time.monotonic()
        self._first = True
        self._tail = b""
        self.done = asyncio.get_running_loop().create_future()
        self._transport.write(f"POST {load.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        recorder = self._recorder
        if self._first and not data.startswith(b"HTTP/1.1 200") and not self._tail:
            recorder.errors.append(data[:300].decode("utf-8", "replace"))
        if self._load.count_only:
            if recorder.measuring:
                recorder.tokens += data.count(b'"0') + data.count(b'"1')
        else:
            stamps = STAMP.findall(data)
            if stamps:
                if self._first:
                    self._first = False
                    recorder.first_token_s.append(now / 1e9 - self._asked)
                if recorder.measuring:
                    recorder.tokens += len(stamps)
                    recorder.ages_ns += [now - int(stamp) for stamp in stamps]
        self._tail = (self._tail + data)[-16:]
        if self._tail.endswith(self._end) and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def run(load: Load) -> dict[str, Any]:
    recorder = Recorder(load)
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    cpu_before, own_before = cpu_seconds(load.pids), time.process_time()
    if load.sequential:
        _, stream = await loop.create_connection(lambda: Stream(recorder), "127.0.0.1", load.port)
        for _ in range(load.streams):
            stream.ask()
            await asyncio.wait_for(stream.done, 60)
        cpu, own = cpu_seconds(load.pids) - cpu_before, time.process_time() - own_before
        elapsed = time.monotonic() - began
    else:
        streams: list[Stream] = []
        for n in range(load.streams):
            _, stream = await loop.create_connection(
                lambda: Stream(recorder), "127.0.0.1", load.port
            )
            stream.ask()
            streams.append(stream)
            await asyncio.sleep(max(0.0, began + load.ramp_s * n / load.streams - time.monotonic()))
        if load.measure_s:
            await asyncio.sleep(load.warm_up_s)
            cpu_before, own_before = cpu_seconds(load.pids), time.process_time()
            began = time.monotonic()
            recorder.measuring = True
            await asyncio.sleep(load.measure_s)
            recorder.measuring = False
        else:
            await asyncio.wait([stream.done for stream in streams], timeout=120)
        elapsed = time.monotonic() - began
        cpu, own = cpu_seconds(load.pids) - cpu_before, time.process_time() - own_before
        for stream in streams:
            stream.close()
    ages = sorted(recorder.ages_ns)
    firsts = sorted(recorder.first_token_s)
    return {
        "tokens": recorder.tokens,
        "elapsed_s": elapsed,
        "cpu_s": cpu,
        "client_cpu_s": own,
        "age_p50_ms": _at(ages, 0.5) / 1e6,
        "age_p99_ms": _at(ages, 0.99) / 1e6,
        "first_p50_ms": _at(firsts, 0.5) * 1e3,
        "first_p99_ms": _at(firsts, 0.99) * 1e3,
        "answers": len(firsts),
        "errors": recorder.errors[:3],
    }


def _at(values: list[Any], share: float) -> float:
    return float(values[min(len(values) - 1, int(len(values) * share))]) if values else 0.0


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Load)))))
