"""Soak test: many streams for a long time, with faults, and every byte compared.

    python -m bench.soak [--minutes 20] [--streams 300] [--hostile 2] [--workers 1]

    driver ──► translator ──► bench.soak_upstream

The driver makes the expected answer with the core, from the upstream's own frames; ids and times
are masked, but not which id stands where. So no event can be lost, doubled or crossed between
streams undetected. Memory, descriptors and the time to the first event are sampled; the exit code
is 0 when no answer was wrong and none of them grew.

Two in a hundred requests meet a fault (`soak_upstream`). Besides, two in a hundred of the streams
belong to hostile peers (`hostile`), one after the other and each kind in its turn: they must be
answered or closed in time, without the operator's key, and no other stream may be touched.

`--minutes 0.5` is a trial: it says whether all parts work, and judges no growth.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

import translator
from translator.reader.sse import Decoder

from .hostile import PATIENCE_S, PEERS, SECRET, Violation, meet
from .hostile import settings as hostile_settings
from .scheduler import unique_kib, with_descendants
from .soak_report import Findings, Sample, report
from .soak_upstream import Answer, answer
from .targets import ROOT, SCRATCH, free_port

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


class Driver:
    def __init__(self, url: str, seconds: float, patience_s: float) -> None:
        self._url = url
        self._patience_s = patience_s
        self._peers = itertools.cycle(PEERS)
        self._until = time.monotonic() + seconds
        self._numbers = itertools.count(1)
        self.findings = Findings()

    async def run(self, streams: int, hostile: int) -> None:
        """Ask on so many streams at once, the hostile ones among them, until the time is over."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=STALL_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._http:
            await asyncio.gather(
                *(self._ask_on(place / streams) for place in range(streams - hostile)),
                *(self._meet_on() for _ in range(hostile)),
            )

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

    async def _meet_on(self) -> None:
        host, _, port = self._url.removeprefix("http://").partition(":")
        while time.monotonic() < self._until:
            try:
                result = await meet(next(self._peers), host, int(port), self._patience_s)
            except (Violation, OSError) as error:
                self.findings.violations.append(str(error) or repr(error))
            else:
                self.findings.hostile[result.name].append(result)

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
        + "".join(f"{name} = {value}\n" for name, value in hostile_settings().items())
        + f'[upstreams.soak]\nbase_url = "http://127.0.0.1:{port}/v1"\ndialect = "base"\n'
        'api_key_env = "SOAK_KEY"\n'
    )
    environ = {
        **os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT), "SOAK_KEY": SECRET,
    }  # fmt: skip
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


async def soak(url: str, pid: int, options: argparse.Namespace) -> tuple[Findings, list[Sample]]:
    samples: list[Sample] = []
    driver = Driver(url, options.minutes * 60, options.patience)
    sampling = asyncio.create_task(sampled(pid, samples))
    hostile = math.ceil(options.streams * options.hostile / 100)
    await driver.run(options.streams, hostile)
    sampling.cancel()
    return driver.findings, samples


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--hostile", type=float, default=2, help="percent of the streams")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="s for a hostile peer")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.minutes:g} minutes, {options.streams} streams, {options.workers} workers,")
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs\n", flush=True)
    with processes(options.workers) as (url, service):
        findings, samples = uvloop.run(soak(url, service.pid, options))
        time.sleep(IDLE_S)
        after = sample(service.pid, options.minutes * 60)
    log = (SCRATCH / "soak" / "service.log").read_text("utf-8", "replace")
    last = ""
    for last in report(findings, samples, after, options.minutes, log):
        print(last, end="")
    return 0 if last.startswith("All is well") else 1


if __name__ == "__main__":
    sys.exit(main())
