"""The store, beside the same statements by `sqlite3` alone, and its streams beside those without.

    python -m bench store [--quick] [--only WORD ...]

    turns     a stored turn, alone and with 15 others
    events    of responses in the background, which are logged
    chain     1,000 turns: the file, the reading, and the admission of the next one
    streams   200 streams while others are stored, or read a chain of nearly 10,000 responses
    off       instructions of a token and of a request that says `store: false`

Instructions are what has no noise, and CPU time what there is beside them: of the process, the work
of the kernel included. Times of streams are those of a machine that does nothing else.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec

from .instructions import (
    INSTRUCTIONS,
    LineProgram,
    Valgrind,
    line_program,
    of_service,
    report,
    valgrind,
)
from .load import Load, LoadResult, Mock, mock_upstream
from .pace import LATE_MS, PACED_TOKENS
from .rig import RATE, Effort, Rig, alone, log_progress, rig
from .section import Section, table
from .stored_events import EVENTS, RUNS, logging_works
from .stored_turns import (
    ADMIT,
    ADMIT_IN_FULL,
    BARE,
    BARE_IN_A_THREAD,
    READ,
    STORE,
    Works,
    asked,
    lengthen,
    make_chain,
    make_database,
    question,
    reading_works,
    writing_works,
)
from .targets import ROOT, SCRATCH, Running, Target, translator

SECTIONS = ("turns", "events", "chain", "streams", "off")

AT_ONCE = (1, 16)
CHAIN = 1_000
LONG_CHAIN = 9_999
"""One less than `max_chain_responses`."""

MOST_WRITING = 1.5
MOST_LOGGING = 2.0
MOST_READING = 1.5
MOST_ADMISSION = 1.3

STREAMS = 200
TURNS_PER_S = 40
WRITERS, WRITER_HOLD_MS = 8, 180
"""So many clients whose answers take so long ask about TURNS_PER_S times a second."""

READ_HOLD_MS = 300

_WRITING = """
import sys
from pathlib import Path
from bench.stored_turns import serve, writing_works
with writing_works(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])) as works:
    serve(works, sys.stdin)
"""
_LOGGING = """
import sys
from pathlib import Path
from bench.stored_events import logging_works
from bench.stored_turns import serve
with logging_works(Path(sys.argv[1]), int(sys.argv[2])) as works:
    serve(works, sys.stdin)
"""
_READING = """
import sys
from pathlib import Path
from bench.stored_turns import reading_works, serve
with reading_works(Path(sys.argv[1]), sys.argv[2]) as works:
    serve(works, sys.stdin)
"""


class Cost(msgspec.Struct, frozen=True):
    """What something takes."""

    instructions: float
    cpu_us: float


def sections(*, quick: bool, only: Collection[str] = ()) -> Iterator[Section]:
    """The tables; `only` names some of SECTIONS. Raises Unavailable."""
    wanted = set(only) or set(SECTIONS)
    if "turns" in wanted:
        yield turns(quick=quick)
    if "events" in wanted:
        yield events(quick=quick)
    if "chain" in wanted:
        yield chain(quick=quick)
    if "streams" in wanted:
        yield streams(quick=quick)
    if "off" in wanted:
        yield off(quick=quick)


# --- in one process ------------------------------------------------------------------------------


def turns(*, quick: bool) -> Section:
    """A stored turn beside its statements."""
    rounds = 6 if quick else 12
    rows: list[Sequence[str]] = []
    facts: dict[tuple[str, str], float] = {}
    for count in AT_ONCE:
        log_progress(f"{count} turns at once")
        with scratch() as folder:
            make_database(folder / "empty.db")
            words = (str(folder), str(count), str(rounds))
            instructions = instructions_of(_WRITING, words, _WRITES, rounds)
            with writing_works(folder, count, 4 * rounds) as works:
                times = cpu_us(works, _WRITES, 4 * rounds)
        for name in _WRITES:
            cost = Cost(instructions[name] / count, times[name] / count)
            than = Cost(instructions[BARE_IN_A_THREAD] / count, times[BARE_IN_A_THREAD] / count)
            rows.append((f"{_AT_ONCE[count]}: {name}", *shown(cost, than)))
            if name == STORE:
                facts["stored_turn", f"{count} at once"] = cost.instructions / than.instructions
    return Section(
        title="A stored turn, and its statements by `sqlite3`",
        table=table(_HEAD, rows),
        remarks=[
            "Per turn of 1 KB that goes on from another: from its last event until it is on the "
            "disk. In a thread: as any service with an event loop has to, with one task that waits "
            f"for each turn; × is relative to that (the goal is {MOST_WRITING}).",
        ],
        facts=facts,
    )


_WRITES = (STORE, BARE_IN_A_THREAD, BARE)
_AT_ONCE = {1: "alone", 16: "16 at once"}
_HEAD = ("", "instructions", "×", "CPU µs", "×")


def shown(cost: Cost, than: Cost) -> Sequence[str]:
    """The cells of a cost, relative to another one."""
    return (
        f"{cost.instructions:,.0f}",
        f"{cost.instructions / than.instructions:.2f}",
        f"{cost.cpu_us:,.0f}",
        f"{cost.cpu_us / than.cpu_us:.2f}",
    )


def events(*, quick: bool) -> Section:
    """The events of responses in the background beside the insert of their rows."""
    rounds = 6 if quick else 18
    log_progress("events")
    with scratch() as folder:
        make_database(folder / "empty.db")
        instructions = instructions_of(_LOGGING, (str(folder), str(rounds)), _WRITES, rounds)
        with logging_works(folder, 2 * rounds) as works:
            times = cpu_us(works, _WRITES, 2 * rounds)
    number = RUNS * EVENTS
    costs = {name: Cost(instructions[name] / number, times[name] / number) for name in _WRITES}
    than = costs[BARE_IN_A_THREAD]
    return Section(
        title="Events of responses in the background",
        table=table(_HEAD, [(name, *shown(costs[name], than)) for name in _WRITES]),
        remarks=[
            f"Per event of {RUNS} responses, {EVENTS} of each, which are written together: from "
            "its frame until it is on the disk. Beside it the insert of the same rows, and nothing "
            f"else; × is relative to that in a thread (the goal is {MOST_LOGGING}).",
        ],
        facts={("logged_event", STORE): costs[STORE].instructions / than.instructions},
    )


def chain(*, quick: bool) -> Section:
    """A chain of many turns: how the file grows, and what going on from it takes."""
    length = CHAIN // 10 if quick else CHAIN
    rounds = 4 if quick else 8
    log_progress(f"a chain of {length} turns")
    with scratch() as folder:
        file = folder / "chain.db"
        make_database(file)
        last, sizes = make_chain(file, length, size=lambda: _file_bytes(file))
        log_progress("reading it")
        instructions = instructions_of(_READING, (str(file), last), _READS, rounds)
        with reading_works(file, last) as works:
            times = cpu_us(works, _READS, rounds)
    costs = {name: Cost(instructions[name], times[name]) for name in _READS}
    rows = [
        (f"the items, by {what}", *shown(costs[name], costs[BARE]))
        for what, name in (("one query alone", BARE), ("the store", READ))
    ]
    rows += [
        (f"admission, {what}", *shown(costs[name], costs[ADMIT_IN_FULL]))
        for what, name in (("in full and `store: false`", ADMIT_IN_FULL), ("chained", ADMIT))
    ]
    first, second = (later - earlier for earlier, later in pairwise(sizes))
    return Section(
        title=f"A chain of {length:,} turns of 1 KB, three items each",
        table=table(_HEAD, rows),
        remarks=[
            f"The file grows by {first / length * 2:,.0f} bytes a turn in its first half, and by "
            f"{second / length * 2:,.0f} in its second ({second / first:.2f} ×). Goals: reading "
            f"{MOST_READING} ×, admission {MOST_ADMISSION} ×.",
        ],
        facts={
            ("file_growth", STORE): second / first,
            ("chain_reading", STORE): costs[READ].instructions / costs[BARE].instructions,
            ("chain_admission", STORE): (
                costs[ADMIT].instructions / costs[ADMIT_IN_FULL].instructions
            ),
        },
    )


_READS = (BARE, READ, ADMIT_IN_FULL, ADMIT)


def _file_bytes(file: Path) -> int:
    """The size of a database, when all is in its file."""
    with closing(sqlite3.connect(file)) as driver:
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return file.stat().st_size


@contextmanager
def scratch() -> Generator[Path]:
    """A folder for as long as the context lasts."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        yield Path(folder)


def instructions_of(
    code: str, words: Sequence[str], names: Sequence[str], rounds: int
) -> Mapping[str, float]:
    """The median of each work; the first third is not counted: Python adapts its code."""
    with line_program(valgrind(), code, *words, environ={"PYTHONPATH": str(ROOT)}) as program:
        nothing = min(program.does()[INSTRUCTIONS] for _ in range(3))
        return {
            name: found - nothing
            for name, found in _medians(
                names, rounds, lambda name: _counted(program, name), rounds // 3
            ).items()
        }


def _counted(program: LineProgram, name: str) -> float:
    program.does(f"prepare {name}")
    return program.does(f"do {name}")[INSTRUCTIONS]


def cpu_us(works: Works, names: Sequence[str], rounds: int) -> Mapping[str, float]:
    """The median CPU time of each work, in microseconds."""

    def measure(name: str) -> float:
        works.prepare.get(name, lambda: None)()
        began = time.process_time()
        works.do[name]()
        return (time.process_time() - began) * 1e6

    return _medians(names, rounds, measure, rounds // 3)


def _medians(
    names: Sequence[str], rounds: int, measure: Callable[[str], float], left_out: int
) -> Mapping[str, float]:
    """Of rounds that are interleaved; the first ones do not count."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(measure(name))
    return {name: statistics.median(values[left_out:]) for name, values in found.items()}


# --- the service ---------------------------------------------------------------------------------


def service(name: str, *, store: bool, file: Path | None = None) -> Target:
    """Our service by a settings file, without a store or with one: an empty one, or `file`."""
    target = translator()

    def command(folder: Path, port: int, upstream: int) -> list[str]:
        settings = folder / "settings.toml"
        section = '[store]\nurl = "sqlite:///store.db"\n' if store else ""
        settings.write_text(
            f'[upstreams.up]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n{section}'
        )
        if file is not None:
            shutil.copy(file, folder / "store.db")
        words = [sys.executable, "-m", "translator", "serve", "--port", str(port)]
        return [*words, "--config", str(settings), "--log-level", "warning"]

    return msgspec.structs.replace(target, name=name, command=command)


WITHOUT, WITH = "without a store", "with a store"


def streams(*, quick: bool) -> Section:
    """200 paced streams with `store: false`, and what others do meanwhile."""
    length = LONG_CHAIN // 20 if quick else LONG_CHAIN
    effort = Effort(seconds=2.0 if quick else 4.0, rounds=1 if quick else 3, quick=quick)
    log_progress(f"a chain of {length:,} turns")
    found: dict[str, list[tuple[LoadResult, LoadResult | None]]] = {}
    with scratch() as folder:
        file = folder / "chain.db"
        make_database(file)
        last = lengthen(file, make_chain(file, 2)[0], length - 2)
        stored = asked([question(0)], store=True)
        chained = asked([question(0)], store=False, parent=last)
        targets = [service(WITHOUT, store=False), service(WITH, store=True, file=file)]
        with rig(targets, effort) as rigged:
            without, store = rigged.running
            cases: dict[str, tuple[Running, bytes | None, int, int]] = {
                "no store": (without, None, 0, 0),
                "a store that has nothing to do": (store, None, 0, 0),
                f"{TURNS_PER_S} stored turns a second": (store, stored, WRITERS, WRITER_HOLD_MS),
                f"a chain of {length:,} read again and again": (store, chained, 1, READ_HOLD_MS),
            }
            for _ in range(effort.rounds):
                for name, (running, body, clients, hold_ms) in cases.items():
                    log_progress(name)
                    result = _beside(rigged, running, body, clients, hold_ms)
                    found.setdefault(name, []).append(result)
    rows: list[Sequence[str]] = []
    facts: dict[tuple[str, str], float] = {}
    for name, results in found.items():
        result, others = min(results, key=lambda pair: pair[0].age_p99_ms)
        rows.append(
            (
                name,
                f"{result.us_per_token:,.1f}",
                *(f"{age:,.1f}" for age in (result.age_p50_ms, result.age_p99_ms)),
                f"{result.age_most_ms:,.1f}",
                "–" if others is None else f"{others.answers / others.elapsed_s:,.1f}",
                "–" if others is None else f"{others.failures}",
            )
        )
        facts["age_p99_ms beside", name] = result.age_p99_ms
    head = ("meanwhile", "CPU µs/token", "age p50, ms", "age p99, ms", "oldest, ms")
    return Section(
        title=f"{STREAMS} streams of {RATE} tokens a second, while others are stored",
        table=table((*head, "answers/s of the others", "failures"), rows),
        remarks=[
            f"The goal is a p99 below {LATE_MS:.0f} ms; the best of {effort.rounds} rounds. CPU is "
            "that of the process, the others' included.",
        ],
        facts=facts,
    )


def _beside(
    rigged: Rig, running: Running, body: bytes | None, clients: int, hold_ms: int
) -> tuple[LoadResult, LoadResult | None]:
    """The figures of the streams, and of what others ask for meanwhile."""
    rigged.mock.plan(tokens=PACED_TOKENS, rate=RATE)
    milliseconds = int(rigged.effort.seconds * 1000)
    others: list[Load] = []

    def ask() -> None:
        rigged.mock.plan(tokens=10, hold_ms=hold_ms)
        if body is not None:
            options = {"streams": clients, "each": 100_000, "measure_ms": milliseconds}
            others.append(Load(rigged.mock, running, body, **options))

    with alone(running):
        load = Load(
            rigged.mock,
            running,
            streams=STREAMS,
            ramp_ms=1000,
            warm_up_ms=1000,
            measure_ms=milliseconds,
        )
        result = load.result(meanwhile=ask)
        return result, others[0].result() if others else None


def off(*, quick: bool) -> Section:
    """Requests with `store: false`, without a store and with one."""
    counts: dict[str, list[Mapping[str, float]]] = {}
    targets = [service(WITHOUT, store=False), service(WITH, store=True)]
    with mock_upstream(cpu=None) as mock:
        for _ in range(1 if quick else 2):
            for target in targets:
                counted = counted_service(valgrind(), mock, target, quick=quick)
                counts.setdefault(target.name, []).append(counted)
    found = report(counts)
    return msgspec.structs.replace(
        found, title="A token and a request with `store: false`, without a store and with one"
    )


def counted_service(
    tool: Valgrind, mock: Mock, target: Target, *, quick: bool
) -> Mapping[str, float]:
    """The instructions of a service."""
    log_progress(f"counting {target.name}")
    return of_service(tool, mock, target, repeats=2 if quick else 3)
