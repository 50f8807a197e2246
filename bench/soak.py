"""Soak test: many streams for a long time, with faults, and every byte compared.

    python -m bench.soak [--minutes 20] [--streams 300] [--workers 1]

    driver ──► translator ──► bench.soak_upstream

The driver makes the expected answer with the core, from the upstream's own frames; ids and times
are masked, but not which id stands where. So no event can be lost, doubled or crossed between
streams undetected. Memory, descriptors and the time to the first event are sampled; the exit code
is 0 when no answer was wrong and none of them grew.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from msgspec import Struct

import translator
from translator.reader.sse import Decoder

from .scheduler import unique_kib, with_descendants
from .section import table
from .soak_upstream import FAULTS, Answer, answer
from .targets import ROOT, SCRATCH, free_port

WARM_UP = 0.25
"""The share of the time after which no figure should grow."""

WINDOWS = 10
MAX_GROWTH = 0.05
"""How much the last third of the memory figures may lie above the first, after the warm-up."""

MAX_P99_GROWTH = 2.0
"""How many times the first p99 the last may be; a machine has other things to do."""

STALL_S = 60.0
IDLE_S = 65
"""After so long the service has closed its idle connections: it keeps them for 30 s, and looks for
old ones as often."""

HEARTBEAT_S = 2
TOOL = {"type": "function", "name": "ls", "parameters": {"type": "object"}}

_ID = re.compile(r"\b(resp|msg|rs|fc)_[0-9a-f]{32}\b")
_TIME = re.compile(r'"(created_at|completed_at)":\d+')
_NUMBER = re.compile(r'"sequence_number":(\d+)')
_BEAT = '{"type":"response.in_progress"'


class Wrong(Exception):
    """An answer differs from the expected one."""


# --- expected answers -----------------------------------------------------------------------------


def request(given: Answer) -> dict[str, Any]:
    body: dict[str, Any] = {"model": f"soak-{given.number}", "stream": given.kind != "whole"}
    if given.kind == "chat":
        return body | {"messages": [{"role": "user", "content": f"Number {given.number}"}]}
    return body | {"input": f"Number {given.number}", "tools": [TOOL]}


def expected(given: Answer) -> list[str]:
    """The events of an answer without a fault, or its body, as they are compared."""
    count = itertools.count()
    translation = translator.Translation(
        json.dumps(request(given)).encode(),
        response_id=f"resp_{next(count):032x}",
        created_at=0,
        new_id=lambda prefix: f"{prefix}{next(count):032x}",
        now=lambda: 0,
    )
    if given.kind == "whole":
        body = translator.encode_json(translation.complete(given.frames[0]))
        return comparable([body.decode()])
    events = [event for frame in given.frames for event in translation.receive(frame)]
    events += translation.close()
    return comparable([translator.encode_json(event).decode() for event in events])


def comparable(payloads: list[str]) -> list[str]:
    """Payloads without their ids, times and heartbeats; raises Wrong where one is missing."""
    names: dict[str, str] = {}
    found: list[str] = []
    beats = 0
    for place, payload in enumerate(payloads):
        number = _NUMBER.search(payload)
        if number and int(number[1]) != place:
            raise Wrong(f"event {place} says that it is {number[1]}")
        if payload.startswith(_BEAT):
            beats += 1
            if beats > 1:
                continue
        plain = _ID.sub(lambda one: names.setdefault(one[0], f"{one[1]}#{len(names)}"), payload)
        plain = _TIME.sub(r'"\1":0', _NUMBER.sub('"sequence_number":0', plain))
        found.append(plain)
    return found


def check(given: Answer, payloads: list[str]) -> str:
    """How an answer ended; raises Wrong."""
    found, whole = comparable(payloads), expected(given)
    if found == whole:
        return "completed"
    if given.fault not in ("cut", "garbage", "reset") or not found:
        raise Wrong(_difference(found, whole))
    cut = next((place for place, one in enumerate(found) if '"type":"error"' in one), 0)
    if found[:cut] != whole[:cut] or len(found) != cut + 2 or "response.failed" not in found[-1]:
        raise Wrong(_difference(found, whole))
    return "failed"


def _difference(found: list[str], whole: list[str]) -> str:
    pairs = itertools.zip_longest(found, whole, fillvalue="nothing")
    place, (got, wanted) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"event {place} is {got[:300]}, not {wanted[:300]}"


OUTCOMES: dict[str, set[str]] = {
    "": {"completed"},
    "later": {"completed"},
    "refused": {"HTTP 503"},
    "closed early": {"HTTP 502", "completed"},
    "cut": {"failed", "HTTP 502", "cut"},
    "garbage": {"failed", "HTTP 502", "cut"},
    "reset": {"failed", "HTTP 502", "cut"},
    "left": {"left"},
}
"""The possible outcomes of each fault. (A request on a closed idle connection is sent again.)"""


# --- the driver -----------------------------------------------------------------------------------


class Findings:
    """The results of the driver so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.wrong: list[str] = []
        self.first: list[tuple[float, float]] = []
        """When a stream began, and how long its first event took, in seconds."""
        self.bytes = 0
        self.events = 0

    @property
    def now(self) -> float:
        return time.monotonic() - self.began


class Driver:
    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._until = time.monotonic() + seconds
        self._numbers = itertools.count(1)
        self.findings = Findings()

    async def run(self, streams: int) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=STALL_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._http:
            await asyncio.gather(*(self._ask_on(place / streams) for place in range(streams)))

    async def _ask_on(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s * 2)
        while time.monotonic() < self._until:
            given = answer(next(self._numbers))
            try:
                outcome = await self._ask(given)
                if outcome not in OUTCOMES[given.fault]:
                    raise Wrong(f"it ended so: {outcome}")
            except (Wrong, aiohttp.ClientError, TimeoutError, ValueError) as error:
                outcome = "wrong"
                self.findings.wrong.append(
                    f"{given.number}, {given.kind}, {given.fault}: {error!r}"
                )
            self.findings.outcomes[given.kind, given.fault, outcome] += 1

    async def _ask(self, given: Answer) -> str:
        if given.kind == "websocket":
            return await self._talk(given)
        path = "/v1/chat/completions" if given.kind == "chat" else "/v1/responses"
        began, body = self.findings.now, bytearray()
        async with self._http.post(self._url + path, json=request(given)) as got:
            if got.status != 200:
                assert (await got.json())["error"]["message"]
                return f"HTTP {got.status}"
            try:
                async for chunk in got.content.iter_any():
                    if not body and given.kind != "whole":
                        self.findings.first.append((began, self.findings.now - began))
                    body += chunk
                    if given.fault == "left":
                        return "left"
            except aiohttp.ClientPayloadError:
                return "cut"
        self.findings.bytes += len(body)
        if given.fault == "left":
            return "left"
        if given.kind == "chat":
            if bytes(body) != b"".join(given.frames):
                raise Wrong("other bytes than the upstream's")
            return "completed"
        if given.kind == "whole":
            return check(given, [body.decode()])
        payloads = [payload.decode() for payload in Decoder().feed(bytes(body))]
        if payloads.pop() != "[DONE]":
            raise Wrong("it does not end in [DONE]")
        self.findings.events += len(payloads)
        return check(given, payloads)

    async def _talk(self, given: Answer) -> str:
        """One turn, on a connection of its own."""
        body = request(given) | {"type": "response.create"}
        del body["stream"]
        payloads: list[str] = []
        async with self._http.ws_connect(self._url + "/v1/responses") as socket:
            await socket.send_json(body)
            async for message in socket:
                text = str(message.data)
                if text.startswith('{"type":"error","status"'):
                    return f"HTTP {json.loads(text)['status']}"
                payloads.append(text)
                if given.fault == "left":
                    return "left"
                if text.startswith(('{"type":"response.completed"', '{"type":"response.failed"')):
                    break
        self.findings.events += len(payloads)
        return check(given, payloads)


# --- the process ----------------------------------------------------------------------------------


class Sample(Struct, frozen=True):
    """Memory and descriptors of the process at one moment."""

    at_s: float
    kib: int
    descriptors: int


async def sampled(pid: int, samples: list[Sample]) -> None:
    began = time.monotonic()
    while True:
        samples.append(sample(pid, time.monotonic() - began))
        await asyncio.sleep(1)


def sample(pid: int, at_s: float) -> Sample:
    pids = with_descendants([pid])
    descriptors = sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in pids)
    return Sample(at_s, unique_kib(pid), descriptors)


@contextmanager
def processes(workers: int) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """The upstream and the service; the service's base URL and process."""
    folder = SCRATCH / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    upstream = subprocess.Popen(
        [sys.executable, "-m", "bench.soak_upstream", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    settings = folder / "settings.toml"
    settings.write_text(
        f"[server]\nport = 0\nworkers = {workers}\nheartbeat_s = {HEARTBEAT_S}\n"
        f'[upstreams.soak]\nbase_url = "http://127.0.0.1:{port}/v1"\ndialect = "base"\n'
    )
    environ = {**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    with (folder / "service.log").open("w") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "translator", "serve", "--config", str(settings)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert upstream.stdout
        assert service.stdout
        upstream.stdout.readline()
        line = service.stdout.readline()
        url = line.partition(" and ")[0].removeprefix("translator listens on ")[:-3]
        urllib.request.urlopen(url + "/healthz", timeout=STALL_S).close()
        yield url, service
    finally:
        for process in (service, upstream):
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def soak(url: str, pid: int, seconds: float, streams: int) -> tuple[Findings, list[Sample]]:
    samples: list[Sample] = []
    driver = Driver(url, seconds)
    sampling = asyncio.create_task(sampled(pid, samples))
    await driver.run(streams)
    sampling.cancel()
    return driver.findings, samples


# --- the report -----------------------------------------------------------------------------------


def slope(samples: list[Sample]) -> float:
    """How fast memory grows, in KiB a minute."""
    line = statistics.linear_regression([s.at_s / 60 for s in samples], [s.kib for s in samples])
    return line.slope


def growth(figures: list[float]) -> float:
    """The median of the last third over that of the first."""
    third = max(1, len(figures) // 3)
    return statistics.median(figures[-third:]) / statistics.median(figures[:third]) - 1


def windows(findings: Findings, seconds: float) -> list[tuple[float, float, int]]:
    """p50 and p99 of the time to the first event in ms, and how many there were, by window."""
    found: list[tuple[float, float, int]] = []
    for number in range(WINDOWS):
        inside = range(WINDOWS)[number]
        times = [
            late * 1000 for at, late in findings.first if int(at / seconds * WINDOWS) == inside
        ]
        if len(times) > 1:
            cuts = statistics.quantiles(times, n=100)
            found.append((cuts[49], cuts[98], len(times)))
    return found


def report(
    findings: Findings, samples: list[Sample], after: Sample, seconds: float, faults_logged: int
) -> Iterator[str]:
    """The report; its last line says whether all is well."""
    warm = [one for one in samples if one.at_s >= WARM_UP * seconds]
    count = sum(findings.outcomes.values())
    met = sum(many for (_, fault, _), many in findings.outcomes.items() if fault)
    yield f"{count:,} requests, {findings.events:,} events compared, "
    yield f"{met:,} of them with a fault\n\n"
    rows: list[tuple[str, ...]] = []
    for fault in ("", *FAULTS):
        found: Counter[str] = Counter()
        for (_, met_fault, outcome), many in findings.outcomes.items():
            if met_fault == fault:
                found[outcome] += many
        ends = ", ".join(f"{outcome} {many:,}" for outcome, many in found.most_common())
        rows.append((fault or "none", ends))
    yield table(("fault", "how it ended"), rows) + "\n\n"
    yield from (f"WRONG: {one}\n" for one in findings.wrong[:20])
    first = windows(findings, seconds)
    yield "Time to the first event, by tenths of the time:\n\n"
    cells = [(f"{p50:.1f}", f"{p99:.1f}", f"{many:,}") for p50, p99, many in first]
    yield table(("p50 ms", "p99 ms", "streams"), cells) + "\n\n"
    memory = growth([one.kib for one in warm])
    late = growth([p99 for _, p99, _ in first[int(WARM_UP * WINDOWS) :]])
    counts = [one.descriptors for one in warm]
    yield f"memory after the warm-up: {warm[0].kib / 1024:.1f} MiB to {warm[-1].kib / 1024:.1f} MiB"
    yield f", {slope(warm):+.0f} KiB a minute, {memory:+.1%} between its first and last third\n"
    yield f"file descriptors: {min(counts)} to {max(counts)} under load, "
    yield f"{after.descriptors} after it ({samples[0].descriptors} before)\n"
    yield f"p99 of the first event: {late:+.0%} between its first and last third\n"
    yield f"faults of its own in the service's log: {faults_logged}\n\n"
    well = {
        "wrong answers": not findings.wrong,
        "memory": memory <= MAX_GROWTH,
        "file descriptors": growth([float(one) for one in counts]) <= MAX_GROWTH,
        "p99": late <= MAX_P99_GROWTH - 1,
        "log": not faults_logged,
    }
    bad = [name for name, good in well.items() if not good]
    yield f"NOT WELL: {', '.join(bad)}\n" if bad else "All is well.\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    seconds = options.minutes * 60
    print(f"{options.minutes:g} minutes, {options.streams} streams, {options.workers} workers,")
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs\n", flush=True)
    with processes(options.workers) as (url, service):
        findings, samples = uvloop.run(soak(url, service.pid, seconds, options.streams))
        time.sleep(IDLE_S)
        after = sample(service.pid, seconds)
    log = (SCRATCH / "soak" / "service.log").read_text("utf-8", "replace")
    faults_logged = log.count(": internal error") + log.count("Traceback")
    last = ""
    for last in report(findings, samples, after, seconds, faults_logged):
        print(last, end="")
    return 0 if last.startswith("All is well") else 1


if __name__ == "__main__":
    sys.exit(main())
