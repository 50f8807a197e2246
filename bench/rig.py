"""The test rig: a mock upstream, and targets that are measured in turn.

load client ──► target ──► mock upstream
   CPU 1        CPU 0         CPU 1
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from .load import Load, LoadResult, Mock, mock_upstream, request
from .scheduler import TARGET_CPU, cpu_seconds
from .section import DIRECT
from .targets import Running, Target, Unavailable, started

RATE = 50  # tokens a second of one stream, as a fast model writes
PROOF_TOKENS = 7
SLOW_REQUEST_S = 0.03
"""Time that a slow target needs to begin a stream."""

SETTLE_TIMEOUT_S = 15
"""How long a target may still work on earlier requests."""


class Effort(msgspec.Struct, frozen=True):
    """How long to measure."""

    seconds: float
    rounds: int
    quick: bool = False


THOROUGH = Effort(seconds=3.0, rounds=3)
QUICK = Effort(seconds=1.0, rounds=1, quick=True)


class Rig:
    """A mock upstream and the running targets; scenarios measure them."""

    def __init__(self, mock: Mock, effort: Effort) -> None:
        self.mock = mock
        self.effort = effort
        self.running: list[Running] = []
        self.direct = True
        """Whether scenarios in rounds measure the mock upstream without a target, too."""
        self.left_out: list[str] = []

    def only(
        self, names: Collection[str], effort: Effort | None = None, *, direct: bool = True
    ) -> Rig:
        """The same rig with some of its targets, and with another effort where one is given."""
        some = Rig(self.mock, effort or self.effort)
        some.direct = direct
        some.running = [one for one in self.running if one.target.name in names]
        return some

    def load(self, running: Running | None, **options: int) -> LoadResult:
        """Put one load on a target."""
        with alone(running):
            return Load(self.mock, running, **options).result()

    def steady(self, running: Running | None, streams: int, seconds: float) -> LoadResult:
        """Paced streams, measured once all of them run."""
        warm_up_s = 0.3 if self.effort.quick else 1.0
        if running and running.target.slow:
            warm_up_s += streams * SLOW_REQUEST_S
        return self.load(
            running,
            streams=streams,
            ramp_ms=1000,
            warm_up_ms=int(warm_up_s * 1000),
            measure_ms=int(seconds * 1000),
        )

    def interleaved(
        self,
        measure: Callable[[Running | None], LoadResult | None],
        *,
        cost: Callable[[LoadResult], float],
        rounds: int | None = None,
    ) -> dict[str, LoadResult]:
        """The cheapest round of each target, by name."""
        best: dict[str, LoadResult] = {}
        for _ in range(rounds or self.effort.rounds):
            for running in (*((None,) if self.direct else ()), *self.running):
                name = running.target.name if running else DIRECT
                result = measure(running)
                if result is not None and (name not in best or _better(result, best[name], cost)):
                    best[name] = result
        return best


def _better(result: LoadResult, than: LoadResult, cost: Callable[[LoadResult], float]) -> bool:
    """Fewer failures are better, whatever the cost."""
    return (result.failures, cost(result)) < (than.failures, cost(than))


@contextmanager
def alone(running: Running | None) -> Generator[None]:
    """Only the given target runs, and it is idle when the context begins.

    All others are stopped (see `rig`): an overloaded one works for seconds after its clients have
    left, on the CPU that the next one is measured on.
    """
    if running is None:
        yield
        return
    os.killpg(running.pid, signal.SIGCONT)
    try:
        settle(running)
        yield
    finally:
        os.killpg(running.pid, signal.SIGSTOP)


def settle(running: Running) -> None:
    """Wait until a target uses no CPU, or SETTLE_TIMEOUT_S have passed."""
    until = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < until:
        before = cpu_seconds([running.pid])
        time.sleep(0.05)
        if cpu_seconds([running.pid]) - before < 0.005:
            return


@contextmanager
def rig(targets: Sequence[Target], effort: Effort) -> Generator[Rig]:
    """A rig with all targets that start and translate, stopped; `left_out` explains the others."""
    with ExitStack() as stack:
        rigged = Rig(stack.enter_context(mock_upstream()), effort)
        for target in targets:
            log_progress(f"starting {target.name}")
            with ExitStack() as attempt:
                try:
                    running = attempt.enter_context(started(target, rigged.mock.port, TARGET_CPU))
                    prove(rigged.mock, running)
                    os.killpg(running.pid, signal.SIGSTOP)
                except Unavailable as reason:
                    rigged.left_out.append(f"{target.name} is left out: {reason}")
                    continue
                rigged.running.append(running)
                stack.enter_context(attempt.pop_all())
        yield rigged


def prove(mock: Mock, running: Running) -> None:
    """Check that a target delivers all tokens and a proper end; raises Unavailable."""
    mock.plan(tokens=PROOF_TOKENS)
    result = Load(mock, running, timeout_ms=30_000).result()
    if result.tokens != PROOF_TOKENS or result.failures:
        raise Unavailable(
            f"it passed {result.tokens} of {PROOF_TOKENS} tokens on ({result.first_failure})"
        )
    end = b"[DONE]" if "chat" in running.target.path else b'"response.completed"'
    if end not in answer(running):
        raise Unavailable(f"its answer has no {end.decode()}")


def answer(running: Running) -> bytes:
    """The bytes of one whole answer."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
        client.sendall(request(running, running.port))
        got = bytearray()
        while not got.endswith(b"\r\n0\r\n\r\n"):
            chunk = client.recv(65536)
            if not chunk:
                break
            got += chunk
    return bytes(got)


def log_progress(text: str) -> None:
    """Write a line of progress to stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
