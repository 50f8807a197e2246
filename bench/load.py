"""Mock upstream and load client: the two ends of every measurement.

Both are small C programs (mock_upstream.c, load_client.c), far cheaper than the targets; they are
compiled when they are first needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from .bodies import frame
from .scheduler import LOAD_CPU, cpu_seconds, pinned
from .targets import CHAT_BODY, KEY, SCRATCH, Running, free_port

STAMP = "0" * 19
"""The placeholder that the mock upstream replaces by the time, in nanoseconds."""

FIRST = frame({"role": "assistant", "content": ""})
TOKEN = frame({"content": f"{STAMP} "})
LAST = frame({}, "stop") + b"data: [DONE]\n\n"


PLAN_TIMEOUT_S = 60  # it shares its CPU with whatever else the machine does


class CompilerMissing(Exception):
    """No C compiler is installed."""


def compiled(name: str) -> Path:
    """The program compiled from `NAME.c`, again when that has changed."""
    source = Path(__file__).with_name(f"{name}.c")
    program = SCRATCH / "bin" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise CompilerMissing("the benchmark needs a C compiler (Debian: install gcc)")
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(program), str(source)], check=True)
    return program


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the load client; `age` is of tokens, `first` of first tokens."""

    tokens: int
    answers: int
    failures: int
    elapsed_s: float
    client_cpu_s: float
    age_p50_ms: float
    age_p99_ms: float
    age_p999_ms: float
    age_most_ms: float
    first_p50_ms: float
    first_p99_ms: float
    cpu_s: float = 0
    """CPU time of the target meanwhile."""

    mock_cpu_s: float = 0
    first_failure: str = ""
    """The beginning of the first failed answer, or the system's error."""

    @property
    def us_per_token(self) -> float:
        return self.cpu_s / self.tokens * 1e6 if self.tokens else float("inf")

    @property
    def us_per_answer(self) -> float:
        return self.cpu_s / self.answers * 1e6 if self.answers else float("inf")


class Mock(msgspec.Struct, frozen=True):
    """The mock upstream, running."""

    port: int
    pid: int

    def plan(
        self, *, tokens: int, rate: int = 0, hold_ms: int = 0, wait: bool = False
    ) -> dict[str, float]:
        """Set the answer to later requests; the counters of mock_upstream.c since the last plan.

        With `wait`, paced answers send their first token once `release` has been called.
        """
        plan = f"tokens={tokens}&rate={rate}&hold_ms={hold_ms}&wait={wait:d}"
        return cast("dict[str, float]", json.loads(self._put(f"/plan?{plan}")))

    def release(self) -> None:
        """Have all answers that wait send their tokens."""
        self._put("/go")

    def _put(self, path: str) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method="PUT")
        with urllib.request.urlopen(request, timeout=PLAN_TIMEOUT_S) as answer:
            return cast("bytes", answer.read())


@contextmanager
def mock_upstream(cpu: int | None = LOAD_CPU) -> Generator[Mock]:
    port = free_port()
    frames = [text.decode() for text in (FIRST, TOKEN, LAST)]
    command = [*pinned(cpu), str(compiled("mock_upstream")), str(port), *frames]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Mock(port, process.pid)
        finally:
            process.terminate()


class Load:
    """One load client at work; `options` are those of load_client.c.

    With `running` None, the load goes to the mock upstream itself; `body` replaces the usual one.
    """

    def __init__(
        self,
        mock: Mock,
        running: Running | None,
        body: bytes | None = None,
        /,
        *,
        cpu: int | None = LOAD_CPU,
        **options: int,
    ) -> None:
        self._mock = mock
        self._pids = [] if running is None else [running.pid]
        words = [f"{name}={value}" for name, value in options.items()]
        port = mock.port if running is None else running.port
        self.process = subprocess.Popen(
            [*pinned(cpu), str(compiled("load_client")), f"port={port}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(request(running, port, body))
        self.process.stdin.close()

    def begun(self) -> tuple[float, float]:
        """Wait until it measures (or has ended); the CPU time of target and mock until then."""
        assert self.process.stdout is not None
        self.process.stdout.readline()
        return self._cpu_seconds()

    def result(self, *, meanwhile: Callable[[], object] = lambda: None) -> LoadResult:
        """Wait for the end; `meanwhile` is called when measuring begins."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        cpu, mock_cpu = self.begun()
        meanwhile()
        self.process.stdout.readline()
        cpu_after, mock_cpu_after = self._cpu_seconds()
        printed = json.loads(self.process.stdout.read())
        first_failure = self.process.stderr.read().decode("utf-8", "replace").strip()
        self.stop()
        spent = {"cpu_s": cpu_after - cpu, "mock_cpu_s": mock_cpu_after - mock_cpu}
        return msgspec.convert({**printed, **spent, "first_failure": first_failure}, LoadResult)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _cpu_seconds(self) -> tuple[float, float]:
        return cpu_seconds(self._pids), cpu_seconds([self._mock.pid])


def request(running: Running | None, port: int, body: bytes | None = None) -> bytes:
    """The bytes of a target's request."""
    path = running.target.path if running else "/v1/chat/completions"
    usual = running.target.body if running else CHAT_BODY
    content = usual.encode() if body is None else body
    key = running.target.key if running else KEY
    headers: Mapping[str, Any] = {
        "host": f"127.0.0.1:{port}",
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "content-length": len(content),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content
