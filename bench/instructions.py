"""Instructions of the processor, counted by valgrind: what has no noise.

    python -m bench instructions [--commit REV ...] [--variant NAME ...] [--quick]

    count after a long run - count after a short run
    ------------------------------------------------   = instructions per token, or per request
             tokens (requests) between them

so that start-up, and what a stream costs whatever its length, cancels out. The core is run alone,
the service as its own process in front of the mock upstream. The processor's caches, waiting and
the kernel are not counted: a count says whether work was added or removed, CPU time what it costs.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from .load import Load, Mock, mock_upstream
from .revisions import Revision, beside, working_tree
from .rig import log_progress
from .section import Section, table
from .targets import SCRATCH, Target, Unavailable, started, translator, unpacked
from .variant import ALL_ON

CORE_KINDS = ("text", "reasoning", "arguments")
CORE_CHUNKS = (500, 2_500)
TOKENS = (50, 300)
REQUESTS = (10, 30)
RATE = 100
"""Tokens a second: under valgrind each still gets a read of its own."""

REPEATS = 3
"""The median counts: on a busy machine two tokens may come in one read."""

SHORT_TOKENS = 10
ORDER_TIMEOUT_S = 30

_CORE = """
import sys
from bench.bodies import stream
from bench.core import translate
from bench.variant import switch_off
switch_off(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    kind, count = line.split()
    chunks = list(stream(kind, int(count)))
    print(flush=True)
    next(sys.stdin)
    translate(chunks)
    print(flush=True)
"""
"""Translates a stream for each two lines: the first describes it, the second starts it."""

_SUMMARY = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class Valgrind(msgspec.Struct, frozen=True):
    """Where valgrind is."""

    program: str
    vgdb: str
    environ: Mapping[str, str] = {}
    """What it needs when it is not installed."""


def valgrind() -> Valgrind:
    """The valgrind of this machine, else the Debian package unpacked beside the benchmark.

    Raises Unavailable.
    """
    installed, vgdb = shutil.which("valgrind"), shutil.which("vgdb")
    if installed and vgdb:
        return Valgrind(installed, vgdb)
    usr = unpacked("valgrind") / "usr"
    [library] = {path.parent for path in usr.rglob("callgrind-*-linux")} or {usr}
    return Valgrind(
        str(usr / "bin" / "valgrind.bin"),
        str(usr / "bin" / "vgdb"),
        {"VALGRIND_LIB": str(library)},
    )


def command(tool: Valgrind, output: Path) -> list[str]:
    """The prefix of a command whose instructions a Counter counts."""
    return [
        tool.program,
        *("--tool=callgrind", "--quiet", f"--callgrind-out-file={output}"),
        "--instr-atstart=no",  # start-up would take a minute
    ]


def slope(counts: Sequence[int], sizes: Sequence[int]) -> float:
    """Instructions of one more, from the counts of a short and of a long run."""
    (short, long), (few, many) = counts, sizes
    return (long - short) / (many - few)


def counted(profile: str) -> int:
    """The sum of instructions in a profile that callgrind has written."""
    found = _SUMMARY.search(profile)
    if found is None:
        raise Unavailable("valgrind wrote a profile without a sum")
    return int(found[1])


class Counter:
    """Counts the instructions of a process under valgrind, from one call of `since` to the next."""

    def __init__(self, tool: Valgrind, pid: int, output: Path) -> None:
        self._tool = tool
        self._pid = pid
        self._output = output
        self._dumps = 0
        self._order("instrumentation on")

    def since(self) -> int:
        self._dumps += 1
        profile = self._output.with_name(f"{self._output.name}.{self._dumps}")
        self._order("dump")
        count = counted(profile.read_text())
        profile.unlink()
        return count

    def _order(self, order: str) -> None:
        try:
            subprocess.run(
                [self._tool.vgdb, f"--pid={self._pid}", *order.split()],
                env={**os.environ, **self._tool.environ},
                check=True,
                capture_output=True,
                timeout=ORDER_TIMEOUT_S,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise Unavailable(f"valgrind cannot be asked for its counts: {error}") from None


def core_instructions(
    tool: Valgrind,
    revision: Revision,
    variants: str = ALL_ON,
    *,
    kinds: Sequence[str] = CORE_KINDS,
    sizes: Sequence[int] = CORE_CHUNKS,
) -> dict[str, float]:
    """Per chunk of each kind, in the core alone."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        output = Path(folder, "profile")
        with subprocess.Popen(
            [*command(tool, output), sys.executable, "-c", _CORE, variants],
            cwd=folder,  # where no package is: Python looks here first
            env={**os.environ, **tool.environ, **revision.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            orders, answers = process.stdin, process.stdout
            assert orders is not None
            assert answers is not None
            if not answers.readline():
                raise Unavailable("the core does not run under valgrind")
            counter = Counter(tool, process.pid, output)

            def measured(kind: str, size: int) -> int:
                print(kind, size, file=orders, flush=True)
                answers.readline()
                counter.since()
                print(file=orders, flush=True)
                answers.readline()
                return counter.since()

            counts: dict[str, float] = {}
            for kind in kinds:
                measured(kind, sizes[0])  # Python adapts its code to what it runs
                counts[kind] = slope([measured(kind, size) for size in sizes], sizes)
    return counts


class ServiceCounts(msgspec.Struct, frozen=True):
    """Instructions of the service."""

    per_token: float
    per_request: float


def service_instructions(tool: Valgrind, mock: Mock, target: Target) -> ServiceCounts:
    """Per token of a paced stream, and per request of SHORT_TOKENS tokens."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        output = Path(folder, "profile")
        with started(_under(tool, target, output), mock.port, None) as running:
            counter = Counter(tool, running.pid, output)

            def measured(tokens: int, rate: int, each: int) -> int:
                mock.plan(tokens=tokens, rate=rate)
                counter.since()
                result = Load(mock, running, cpu=None, each=each).result()
                if result.failures or result.tokens != tokens * each:
                    raise Unavailable(
                        f"{target.name} fails under valgrind: {result.first_failure[:200]}"
                    )
                return counter.since()

            measured(SHORT_TOKENS, 0, REQUESTS[0])  # Python adapts its code to what it runs
            measured(TOKENS[0], RATE, 1)
            tokens = [
                slope([measured(count, RATE, 1) for count in TOKENS], TOKENS)
                for _ in range(REPEATS)
            ]
            requests = [
                slope([measured(SHORT_TOKENS, 0, count) for count in REQUESTS], REQUESTS)
                for _ in range(REPEATS)
            ]
    return ServiceCounts(statistics.median(tokens), statistics.median(requests))


def _under(tool: Valgrind, target: Target, output: Path) -> Target:
    def words(folder: Path, port: int, upstream: int) -> list[str]:
        return [*command(tool, output), *target.command(folder, port, upstream)]

    environ = {**target.environ, **tool.environ, "PYTHONHASHSEED": "0"}
    return msgspec.structs.replace(target, command=words, environ=environ)


# ---- the report ----------------------------------------------------------------------------------


class Side(msgspec.Struct, frozen=True):
    """A revision, or the working tree without some optimisations."""

    name: str
    revision: Revision
    variants: str
    target: Target


def side(revision: Revision, variants: str = ALL_ON) -> Side:
    name = revision.name if variants == ALL_ON else f"no {variants}"
    if variants == ALL_ON:
        target = msgspec.structs.replace(translator(name=name), environ=revision.environ)
    else:
        target = translator(name=name, program=("bench.variant", variants))
    return Side(name, revision, variants, target)


def counts(tool: Valgrind, mock: Mock, one: Side) -> dict[str, float]:
    """All that is counted of one side, by what it is per."""
    log_progress(f"counting {one.name}")
    core = core_instructions(tool, one.revision, one.variants)
    found = {f"core, chunk of {kind}": count for kind, count in core.items()}
    service = service_instructions(tool, mock, one.target)
    found["service, token"] = service.per_token
    found[f"service, request of {SHORT_TOKENS} tokens"] = service.per_request
    return found


def spread(runs: Sequence[float]) -> float:
    """How far runs of the same lie apart, as a share of the least."""
    return max(runs) / min(runs) - 1


def report(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Section:
    """A row for each measure: the count of each side, and its ratio to that of the first.

    `runs` are the counts of each side, one for each run; the least counts.
    """
    first, *others = runs
    rows: list[tuple[str, ...]] = []
    for measure in runs[first][0]:
        of_sides = {name: [run[measure] for run in runs[name]] for name in runs}
        base = min(of_sides[first])
        row = [measure, f"{base:,.0f}"]
        for name in others:
            row += [f"{min(of_sides[name]):,.0f}", f"{min(of_sides[name]) / base:.3f}"]
        row.append(f"{max(map(spread, of_sides.values())):.1%}")
        rows.append(tuple(row))
    columns = [column for name in others for column in (name, "×")]
    number = len(runs[first])
    return Section(
        title="Instructions in user space, counted by callgrind",
        table=table(("per", first, *columns, "spread"), rows),
        remarks=[f"The spread is the largest of any side over {number} runs of the same."],
    )


def sections(
    *, quick: bool, commits: Sequence[str] = (), variants: Sequence[str] = ()
) -> Iterator[Section]:
    """The working tree alone, beside its variants, or beside commits; raises Unavailable.

    Two or more commits stand beside each other, without the working tree.
    """
    tool = valgrind()
    sides = [side(one) for one in beside(commits)]
    sides += [side(working_tree(), name) for name in variants]
    runs: dict[str, list[dict[str, float]]] = {one.name: [] for one in sides}
    with mock_upstream(cpu=None) as mock:
        for _ in range(1 if quick else 2):
            for one in sides:
                runs[one.name].append(counts(tool, mock, one))
    yield report(runs)
