"""The mock upstream, the targets that could be started, and how they are measured in turn.

load client ──► target ──► mock upstream
   CPU 1        CPU 0         CPU 1
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from .load import Load, Mock, Seen, mock_upstream, request
from .scheduler import TARGET_CPU, cpu_seconds
from .section import DIRECT
from .targets import Running, Target, Unavailable, started

RATE = 50  # tokens a second of one stream, as a fast model writes
PROOF_TOKENS = 7
SLOW_REQUEST_S = 0.03
"""What a slow target takes for the beginning of a stream."""

SETTLE_TIMEOUT_S = 15
"""How long a target may go on with what it was asked before."""


class Effort(msgspec.Struct, frozen=True):
    """How long to measure."""

    seconds: float
    rounds: int
    quick: bool = False


THOROUGH = Effort(seconds=3.0, rounds=3)
QUICK = Effort(seconds=1.0, rounds=1, quick=True)


class Rig:
    """What a scenario works with."""

    def __init__(self, mock: Mock, effort: Effort) -> None:
        self.mock = mock
        self.effort = effort
        self.running: list[Running] = []
        self.left_out: list[str] = []

    def load(self, running: Running | None, **options: int) -> Seen:
        """One load, and what came of it."""
        with alone(running):
            return Load(self.mock, running, **options).seen()

    def steady(self, running: Running | None, streams: int, seconds: float) -> Seen:
        """Streams of a usual pace, measured once all of them run."""
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
        measure: Callable[[Running | None], Seen | None],
        *,
        cost: Callable[[Seen], float],
        rounds: int | None = None,
    ) -> dict[str, Seen]:
        """The round of each target in which `cost` was least, by name."""
        best: dict[str, Seen] = {}
        for _ in range(rounds or self.effort.rounds):
            for running in (None, *self.running):
                name = running.target.name if running else DIRECT
                seen = measure(running)
                if seen is not None and (name not in best or _better(seen, best[name], cost)):
                    best[name] = seen
        return best


def _better(seen: Seen, than: Seen, cost: Callable[[Seen], float]) -> bool:
    """One that failed less is better, whatever it cost."""
    return (seen.failures, cost(seen)) < (than.failures, cost(than))


@contextmanager
def alone(running: Running | None) -> Generator[None]:
    """Nobody but this target runs, and it has nothing left to do from before.

    All others are stopped (see `rig`): one that is overloaded goes on for seconds after its clients
    have left, on the CPU that the next one is measured on.
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
    until = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < until:
        before = cpu_seconds([running.pid])
        time.sleep(0.05)
        if cpu_seconds([running.pid]) - before < 0.005:
            return


@contextmanager
def rig(targets: Sequence[Target], effort: Effort) -> Generator[Rig]:
    """All targets that can be started and really translate, stopped; of the others, why not."""
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
    """That a target passes all tokens on, as events that end as they should; else Unavailable."""
    mock.plan(tokens=PROOF_TOKENS)
    seen = Load(mock, running, timeout_ms=30_000).seen()
    if seen.tokens != PROOF_TOKENS or seen.failures:
        raise Unavailable(f"it passed {seen.tokens} of {PROOF_TOKENS} tokens on ({seen.trouble})")
    end = b"[DONE]" if "chat" in running.target.path else b'"response.completed"'
    if end not in answer(running):
        raise Unavailable(f"its answer has no {end.decode()}")


def answer(running: Running) -> bytes:
    """The bytes of one whole answer."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
        client.sendall(request(running, running.port))
        got = bytearray()
        while not got.endswith(b"\r\n0\r\n\r\n"):
            piece = client.recv(65536)
            if not piece:
                break
            got += piece
    return bytes(got)


def log_progress(text: str) -> None:
    """Progress, which is not part of the report."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
