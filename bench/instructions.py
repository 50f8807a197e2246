"""Instructions and cache misses, counted by valgrind: what has no noise.

    python -m bench instructions [--commit REV ...] [--variant NAME ...] [--quick]

    count after a long run - count after a short run
    ------------------------------------------------   = instructions per token, or per request
             tokens (requests) between them

so that start-up, and what a stream costs whatever its length, cancels out. The core is run alone,
the service as its own process in front of the mock upstream, with one stream and with MANY: the one
finds all in the caches, and of many each token has a turn of the event loop to itself and others in
between, as in a service with load. Misses are those of simulated caches (CACHES), the same on every
machine; L2 is that of one core. Waiting and the kernel are not counted: a count says whether work
was added or removed, CPU time what it costs.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path

import msgspec

from translator.service.server.warm_up import WARM_UP_AFTER_S

from .load import Load, LoadResult, Mock, mock_upstream
from .revisions import Revision, beside, working_tree
from .rig import log_progress, settle
from .section import Section, table
from .targets import SCRATCH, Running, Target, Unavailable, started, translator, unpacked
from .variant import ALL_ON

FULL_READS = "in full reads"
CORE_KINDS = ("text", "reasoning", "arguments", f"text {FULL_READS}")
"""In full reads: cut anywhere, each of 64 KiB."""

CORE_CHUNKS = (500, 2_500)
TOKENS = (30, 180)
REQUESTS = (10, 30)
RATE = 50
"""Tokens a second: under valgrind each still gets a read of its own."""

MANY = 50
MANY_TOKENS = (5, 20)
"""Of each stream."""

OPEN_TIMEOUT_S = 60

MANY_RATE = 2
"""Tokens a second of each stream: under valgrind the service is half idle, as 200 streams leave it
without."""

CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64")

REPEATS, QUICK_REPEATS = 3, 2
"""The median counts: on a busy machine two tokens may come in one read, which is cheaper."""

SHORT_TOKENS = 10
ORDER_TIMEOUT_S = 30

_CORE = """
import sys
from bench.bodies import stream
from bench.core import in_reads, translate
from bench.variant import switch_off
switch_off(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    kind, count, *full = line.split()
    chunks = list(stream(kind, int(count)))
    chunks = in_reads(chunks) if full else chunks
    print(flush=True)
    next(sys.stdin)
    translate(chunks)
    print(flush=True)
"""
"""Translates a stream for each two lines: the first describes it, the second starts it."""

_SUMMARY = re.compile(r"^events: (.+)$.*^(?:summary|totals): (.+)$", re.MULTILINE | re.DOTALL)

INSTRUCTIONS, L1_MISSES, L2_MISSES = "instructions", "L1 misses", "L2 misses"
_EVENTS = {
    INSTRUCTIONS: ("Ir",),
    L1_MISSES: ("I1mr", "D1mr", "D1mw"),
    L2_MISSES: ("ILmr", "DLmr", "DLmw"),
}
"""callgrind's names of what is counted: of instructions, of data read and of data written."""

Counts = Mapping[str, float]
"""By `instructions`, and by the kinds of misses where caches are simulated."""


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


def command(tool: Valgrind, output: Path, *, caches: bool = False) -> list[str]:
    """The prefix of a command whose instructions, and cache misses, a Counter counts."""
    return [
        tool.program,
        *("--tool=callgrind", "--quiet", f"--callgrind-out-file={output}"),
        "--instr-atstart=no",  # start-up would take a minute
        *(CACHES if caches else ()),
    ]


def slope(counts: Sequence[Counts], sizes: Sequence[int]) -> Counts:
    """The counts of one more, from those of a short and of a long run."""
    (short, long), (few, many) = counts, sizes
    return {kind: (long[kind] - short[kind]) / (many - few) for kind in short}


def median(runs: Sequence[Counts]) -> Counts:
    """Of each kind of count by itself."""
    return {kind: statistics.median(run[kind] for run in runs) for kind in runs[0]}


def counted(profile: str) -> Counts:
    """The sums in a profile that callgrind has written."""
    found = _SUMMARY.search(profile)
    if found is None:
        raise Unavailable("valgrind wrote a profile without a sum")
    values = map(int, found[2].split())  # without zeros at the end
    sums = dict(zip_longest(found[1].split(), values, fillvalue=0))
    return {
        kind: sum(sums[event] for event in events)
        for kind, events in _EVENTS.items()
        if events[0] in sums
    }


class Counter:
    """Counts what a process under valgrind does, from one call of `since` to the next."""

    def __init__(self, tool: Valgrind, pid: int, output: Path) -> None:
        self._tool = tool
        self._pid = pid
        self._output = output
        self._dumps = 0
        self.run(counted=True)

    def run(self, *, counted: bool) -> None:
        """Let the process run counted, or ten times faster and uncounted."""
        self._order(f"instrumentation {'on' if counted else 'off'}")

    def since(self) -> Counts:
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


class LineProgram:
    """A program under valgrind that does something for each line that it reads, and says so."""

    def __init__(self, tool: Valgrind, process: subprocess.Popen[str], output: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._answers = process.stdin, process.stdout
        if not self._answers.readline():
            raise Unavailable("the core does not run under valgrind")
        self._counter = Counter(tool, process.pid, output)

    def does(self, line: str = "") -> Counts:
        """What it does for a line."""
        self._counter.since()
        print(line, file=self._orders, flush=True)
        self._answers.readline()
        return self._counter.since()


@contextmanager
def line_program(
    tool: Valgrind,
    code: str,
    *words: str,
    environ: Mapping[str, str] | None = None,
    caches: bool = False,
) -> Generator[LineProgram]:
    """Python code, run with some arguments as long as the context lasts."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        output = Path(folder, "profile")
        with subprocess.Popen(
            [*command(tool, output, caches=caches), sys.executable, "-c", code, *words],
            cwd=folder,  # where no package is: Python looks here first
            env={**os.environ, **tool.environ, **(environ or {}), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield LineProgram(tool, process, output)


def core_instructions(
    tool: Valgrind,
    revision: Revision,
    variants: str = ALL_ON,
    *,
    kinds: Sequence[str] = CORE_KINDS,
    sizes: Sequence[int] = CORE_CHUNKS,
) -> dict[str, float]:
    """Per chunk of each kind, in the core alone."""
    with line_program(tool, _CORE, variants, environ=revision.environ) as core:

        def measured(kind: str, size: int) -> Counts:
            name, _, full = kind.partition(" ")
            core.does(f"{name} {size} {full}")
            return core.does()

        counts: dict[str, float] = {}
        for kind in kinds:
            measured(kind, sizes[0])  # Python adapts its code to what it runs
            of_sizes = [measured(kind, size) for size in sizes]
            counts[kind] = slope(of_sizes, sizes)[INSTRUCTIONS]
    return counts


class ServiceCounts(msgspec.Struct, frozen=True):
    """Counts of the service."""

    token: Counts
    token_of_many: Counts
    request: Counts
    late: int = 0
    """Paced runs in which one token of a hundred was read when the next one was due."""


class _Service:
    """A target that runs under valgrind; counts of it are differences of a long and a short run."""

    def __init__(self, mock: Mock, running: Running, counter: Counter) -> None:
        self._mock = mock
        self._running = running
        self._counter = counter
        self.late = 0
        """Paced runs in which one token of a hundred was read when the next one was due."""

    def measured(self, tokens: int, rate: int, *, each: int = 1) -> Counts:
        """Answers of so many tokens, one after the other."""
        self._mock.plan(tokens=tokens, rate=rate)
        self._counter.since()
        load = Load(self._mock, self._running, cpu=None, each=each)
        self._complete(load.result(), tokens * each, rate)
        return self._counter.since()

    def of_many(self, tokens: int) -> Counts:
        """Answers of so many tokens to each of MANY at once; per answer."""
        self._counter.run(counted=False)  # opening so many would take a minute
        plan = partial(self._mock.plan, tokens=tokens, rate=MANY_RATE, wait=True)
        plan()
        load = Load(self._mock, self._running, cpu=None, streams=MANY)
        until = time.monotonic() + OPEN_TIMEOUT_S
        while plan()["open"] < MANY and time.monotonic() < until:
            time.sleep(0.1)
        self._counter.run(counted=True)
        self._counter.since()
        self._mock.release()
        self._complete(load.result(), tokens * MANY, MANY_RATE)
        return {kind: count / MANY for kind, count in self._counter.since().items()}

    def request(self, *, repeats: int) -> Counts:
        """Per request of SHORT_TOKENS tokens."""
        self.measured(SHORT_TOKENS, 0, each=REQUESTS[0])  # Python adapts its code to what it runs

        def of_requests(count: int) -> Counts:
            return self.measured(SHORT_TOKENS, 0, each=count)

        return repeated(of_requests, REQUESTS, repeats)

    def _complete(self, result: LoadResult, tokens: int, rate: int) -> None:
        self.late += bool(rate) and result.age_p99_ms > 1000 / rate
        if result.failures or result.tokens != tokens:
            raise Unavailable(
                f"{self._running.target.name} passed {result.tokens} of {tokens} tokens on under "
                f"valgrind ({result.first_failure[:200]})"
            )


def repeated(measure: Callable[[int], Counts], sizes: Sequence[int], repeats: int) -> Counts:
    """The counts of one more, as the median of some slopes."""
    return median([slope([*map(measure, sizes)], sizes) for _ in range(repeats)])


@contextmanager
def _counted(tool: Valgrind, mock: Mock, target: Target) -> Generator[_Service]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        output = Path(folder, "profile")
        with started(_under(tool, target, output), mock.port, None) as running:
            time.sleep(WARM_UP_AFTER_S + 0.5)
            settle(running)  # what a thread loads after the start is not counted
            yield _Service(mock, running, Counter(tool, running.pid, output))


def request_counts(tool: Valgrind, mock: Mock, target: Target, *, repeats: int = REPEATS) -> Counts:
    """Per request of SHORT_TOKENS tokens, of any program that answers it."""
    with _counted(tool, mock, target) as service:
        return service.request(repeats=repeats)


def service_counts(
    tool: Valgrind, mock: Mock, target: Target, *, repeats: int = REPEATS
) -> ServiceCounts:
    """Per token of one paced stream, and of MANY; per request of SHORT_TOKENS tokens."""
    with _counted(tool, mock, target) as service:
        service.measured(SHORT_TOKENS, 0, each=REQUESTS[0])
        service.measured(TOKENS[0], RATE)
        service.late = 0
        token = repeated(lambda tokens: service.measured(tokens, RATE), TOKENS, repeats)
        of_many = repeated(service.of_many, MANY_TOKENS, repeats)
        return ServiceCounts(token, of_many, service.request(repeats=repeats), service.late)


def _under(tool: Valgrind, target: Target, output: Path) -> Target:
    def words(folder: Path, port: int, upstream: int) -> list[str]:
        prefix = command(tool, output, caches=True)
        return [*prefix, *target.command(folder, port, upstream)]

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


def counts(tool: Valgrind, mock: Mock, one: Side, *, repeats: int) -> dict[str, float]:
    """All that is counted of one side, by what it is and what it is per."""
    log_progress(f"counting {one.name}")
    core = core_instructions(tool, one.revision, one.variants)
    found = {f"core, chunk of {kind}": count for kind, count in core.items()}
    return found | of_service(tool, mock, one.target, repeats=repeats)


def of_service(tool: Valgrind, mock: Mock, target: Target, *, repeats: int) -> dict[str, float]:
    """All that is counted of the service, by what it is and what it is per."""
    service = service_counts(tool, mock, target, repeats=repeats)
    if service.late:
        log_progress(
            f"{target.name}: in {service.late} runs tokens were read late, two in one read; the "
            "machine is too busy, and the counts of tokens are too low"
        )
    found: dict[str, float] = {}
    for what, counted in (
        ("service, token", service.token),
        (f"service, token of {MANY} streams", service.token_of_many),
        (f"service, request of {SHORT_TOKENS} tokens", service.request),
    ):
        for kind, count in counted.items():
            found[what if kind == INSTRUCTIONS else f"{what}: {kind}"] = count
    return found


def spread(runs: Sequence[float]) -> float:
    """How far runs of the same lie apart, as a share of the least."""
    return max(runs) / min(runs) - 1 if min(runs) else 0.0


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
        title="Instructions in user space and simulated cache misses, counted by callgrind",
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
                repeats = QUICK_REPEATS if quick else REPEATS
                runs[one.name].append(counts(tool, mock, one, repeats=repeats))
    yield report(runs)
