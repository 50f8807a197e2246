"""Where a short request goes: instructions and cache misses of its parts, counted by callgrind.

    python -m bench parts [--quick]

    relay ─► passthrough ─► core + passthrough ─► service without metrics ─► service

Each line is a process, or the core alone, that does less than the next one. What stands between two
of them is what the difference costs: `passthrough` is the least that HTTP on both sides takes here,
and with the core's own count it is what a translating proxy without bounds, keys, retries, log and
metrics would take. Requests come one after the other, so all that is done for one delays the next:
a first token is as late as a request is expensive.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from .floor import floors
from .instructions import (
    QUICK_REPEATS,
    REPEATS,
    SHORT_TOKENS,
    Counts,
    line_program,
    repeated,
    request_counts,
    valgrind,
)
from .load import FIRST, LAST, TOKEN, mock_upstream
from .rig import log_progress
from .section import Section, table
from .targets import RESPONSES_BODY, Target, translator

_SIZES = (10, 40)

_CORE = """
import itertools, sys
import translator
from translator.writer.sse import encode_all
body, chunks = sys.argv[1].encode(), sys.argv[2].encode()
count = itertools.count(1)
def answer():
    translation = translator.Translation(
        body, dialect="base", response_id="resp_1", created_at=1,
        new_id=lambda prefix: f"{prefix}{next(count)}",
    )
    return len(translation.chat_body), len(encode_all(translation.receive(chunks)))
for _ in range(100):
    answer()
print(flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        answer()
    print(flush=True)
"""
"""Translates a request and its answer as often as each line says."""


def _without_metrics() -> Target:
    """The service that measures nothing of itself."""
    target = translator()

    def command(folder: Path, port: int, upstream: int) -> list[str]:
        settings = folder / "settings.toml"
        settings.write_text(
            "[server]\nmetrics = false\n"
            f'[upstreams.up]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
        )
        words = [sys.executable, "-m", "translator", "serve", "--port", str(port)]
        return [*words, "--config", str(settings), "--log-level", "warning"]

    return msgspec.structs.replace(target, name="service without metrics", command=command)


def _core(repeats: int) -> Counts:
    chunks = (FIRST + TOKEN * (SHORT_TOKENS - 1) + LAST).decode()
    with line_program(valgrind(), _CORE, RESPONSES_BODY, chunks, caches=True) as core:
        return repeated(lambda count: core.does(str(count)), _SIZES, repeats)


def sections(*, quick: bool) -> Iterator[Section]:
    """The parts of a short request; raises Unavailable."""
    repeats = QUICK_REPEATS if quick else REPEATS
    relay, passthrough = floors()
    targets = [relay, passthrough, _without_metrics(), translator(name="service")]
    found: dict[str, Counts] = {}
    with mock_upstream(cpu=None) as mock:
        for target in targets:
            log_progress(f"counting {target.name}")
            found[target.name] = request_counts(valgrind(), mock, target, repeats=repeats)
    log_progress("counting the core alone")
    found["core alone"] = _core(repeats)
    yield _report(found)


def _report(found: dict[str, Counts]) -> Section:
    whole = found["service"]
    kinds: Sequence[str] = tuple(whole)
    rows = [
        (
            name,
            *(f"{counts[kind]:,.0f}" for kind in kinds),
            f"{counts[kinds[0]] / whole[kinds[0]]:.0%}",
        )
        for name, counts in found.items()
    ]
    return Section(
        title=f"One request of {SHORT_TOKENS} tokens, by what has a part in it",
        table=table(("", *kinds, "of the service"), rows),
    )
