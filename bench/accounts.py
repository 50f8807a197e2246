"""The accounts, beside the same statements by `sqlite3` alone, and a service without them.

    python -m bench accounts [--quick] [--only WORD ...] [--postgres URL]

    pairs     a hold and its settlement, alone and with 15 others
    hot       pairs a second of one account and of 50; with a URL, on PostgreSQL, too
    first     the time to the first token, without accounts and with them
    off       instructions of a token and of a request, without accounts and with them

The URL is that of an empty database, on a server that syncs its commits.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from translator.service.config.store import Location

from .account_pairs import ACCOUNTS, Alone, Measured, make_database, pair_works, rate
from .instructions import report, valgrind
from .load import Mock, mock_upstream
from .rig import Effort, log_progress, rig
from .section import Section, table
from .store import AT_ONCE, Cost, counted_service, cpu_us, instructions_of, scratch, shown
from .stored_turns import BARE, BARE_IN_A_THREAD
from .targets import Target, translator

SECTIONS = ("pairs", "hot", "first", "off")

MOST_PAIR = 2.0
MOST_FIRST_MS = 0.5
MANY_ACCOUNTS = 50
HOT_AT_ONCE = 32

PAUSES = {"without a pause": 0, "5 ms after each answer": 5}
"""When a client asks again, in milliseconds."""

_PAIRS = """
import sys
from pathlib import Path
from bench.account_pairs import pair_works
from bench.stored_turns import serve
with pair_works(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])) as works:
    serve(works, sys.stdin)
"""
_WORKS = (ACCOUNTS, BARE_IN_A_THREAD, BARE)
_AT_ONCE = {1: "alone", 16: "16 at once"}
_HEAD = ("", "instructions", "×", "CPU µs", "×")


def sections(
    *, quick: bool, only: Collection[str] = (), postgres: str | None = None
) -> Iterator[Section]:
    """The tables; `only` names some of SECTIONS. Raises Unavailable."""
    wanted = set(only) or set(SECTIONS)
    if "pairs" in wanted:
        yield pairs(quick=quick)
    if "hot" in wanted:
        yield hot(quick=quick, postgres=postgres)
    if "first" in wanted:
        yield first(quick=quick)
    if "off" in wanted:
        yield off(quick=quick)


def pairs(*, quick: bool) -> Section:
    """A hold and its settlement beside their statements."""
    rounds = 9 if quick else 18
    rows: list[Sequence[str]] = []
    facts: dict[tuple[str, str], float] = {}
    for count in AT_ONCE:
        log_progress(f"{count} pairs at once")
        with scratch() as folder:
            (folder / "counted").mkdir()
            words = (str(folder / "counted"), str(count), str(rounds))
            instructions = instructions_of(_PAIRS, words, _WORKS, rounds)
            (folder / "timed").mkdir()
            with pair_works(folder / "timed", count, 4 * rounds) as works:
                times = cpu_us(works, _WORKS, 4 * rounds)
        costs = {name: Cost(instructions[name] / count, times[name] / count) for name in _WORKS}
        than = costs[BARE_IN_A_THREAD]
        rows += [(f"{_AT_ONCE[count]}: {name}", *shown(costs[name], than)) for name in _WORKS]
        facts["account_pair", f"{count} at once"] = costs[ACCOUNTS].instructions / than.instructions
    return Section(
        title="A hold and its settlement, and their statements by `sqlite3`",
        table=table(_HEAD, rows),
        remarks=[
            "Per request of 1 KB: from its key until it may be sent, and from its end until its "
            "bill is on the disk. In a thread: as any service with an event loop has to; × is "
            f"relative to that (the goal is {MOST_PAIR}).",
        ],
        facts=facts,
    )


def hot(*, quick: bool, postgres: str | None) -> Section:
    """Pairs a second, where all are of one account, and where they are not."""
    seconds = 2.0 if quick else 8.0
    rows: list[Sequence[str]] = []
    facts: dict[tuple[str, str], float] = {}
    with scratch() as folder:
        places = {"SQLite": Location("sqlite", str(folder / "accounts.db"))}
        if postgres is not None:
            places["PostgreSQL"] = Location("postgresql", postgres)
        for place, location in places.items():
            keys = make_database(location, MANY_ACCOUNTS)
            cases: dict[str, tuple[Sequence[str], type[Measured]]] = {
                "one account": (keys[:1], Measured),
                f"{MANY_ACCOUNTS} accounts": (keys, Measured),
            }
            if place == "PostgreSQL":
                cases["one account, a transaction for each"] = keys[:1], Alone
            for case, (some, kind) in cases.items():
                log_progress(f"{place}, {case}")
                found = rate(location, some, at_once=HOT_AT_ONCE, seconds=seconds, kind=kind)
                waits = f"{found.hold_p50_ms:,.1f}", f"{found.hold_p99_ms:,.1f}"
                rows.append((f"{place}, {case}", f"{found.pairs_per_s:,.0f}", *waits))
                facts["account_pairs_per_s", f"{place}, {case}"] = found.pairs_per_s
    return Section(
        title=f"Holds and settlements of {HOT_AT_ONCE} clients that ask without a pause",
        table=table(("", "pairs/s", "hold p50, ms", "hold p99, ms"), rows),
        remarks=["One process. Settlements are synced to the disk, holds are not."],
        facts=facts,
    )


# --- the service ---------------------------------------------------------------------------------

WITHOUT, WITH = "without accounts", "with accounts"


def service(name: str, folder: Path, *, accounts: bool) -> Target:
    """Our service by a settings file, without accounts or with them; `folder` has their file."""
    target = translator()
    key = target.key
    file = folder / "accounts.db"
    if accounts:
        [key] = make_database(Location("sqlite", str(file)))

    def command(own: Path, port: int, upstream: int) -> list[str]:
        settings = own / "settings.toml"
        section = ""
        if accounts:  # under valgrind everything takes its time
            section = f'[accounts]\nurl = "sqlite:///{file}"\ndatabase_timeout_s = 120.0\n'
            section += "checkpoint_s = 3600.0\nlease_s = 86400.0\n"
        settings.write_text(
            f'[upstreams.up]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
            f'[models.bench]\nupstream = "up"\n{section}'
        )
        words = [sys.executable, "-m", "translator", "serve", "--port", str(port)]
        return [*words, "--config", str(settings), "--log-level", "warning"]

    return msgspec.structs.replace(target, name=name, command=command, key=key)


def _both(folder: Path) -> list[Target]:
    return [service(WITHOUT, folder, accounts=False), service(WITH, folder, accounts=True)]


def first(*, quick: bool) -> Section:
    """The time to the first token, of one client that asks at once again, or after a pause."""
    effort = Effort(seconds=2.0 if quick else 5.0, rounds=2 if quick else 5, quick=quick)
    rows: list[Sequence[str]] = []
    facts: dict[tuple[str, str], float] = {}
    with scratch() as folder, rig(_both(folder), effort) as rigged:
        rigged.mock.plan(tokens=10)
        for case, pause_ms in PAUSES.items():
            found = rigged.interleaved(
                lambda running, pause_ms=pause_ms: rigged.load(
                    running,
                    streams=1,
                    each=100_000,
                    pause_ms=pause_ms,
                    warm_up_ms=500,
                    measure_ms=int(effort.seconds * 1000),
                ),
                cost=lambda result: result.first_p50_ms,
            )
            base = found[WITHOUT].first_p50_ms
            for name in (WITHOUT, WITH):
                one = found[name]
                added = f"{one.first_p50_ms - base:+,.2f}"
                waits = f"{one.first_p50_ms:,.2f}", added, f"{one.first_p99_ms:,.2f}"
                rows.append((f"{case}: {name}", *waits, f"{one.us_per_answer:,.0f}"))
            facts["first_ms added", case] = found[WITH].first_p50_ms - base
    return Section(
        title="The first token, without accounts and with them",
        table=table(("", "p50, ms", "added", "p99, ms", "CPU µs/request"), rows),
        remarks=[
            f"The goal is {MOST_FIRST_MS} ms more at most at the median; one client, the best of "
            f"{effort.rounds} rounds, 10 tokens a request. CPU is that of the whole request. "
            "Without a pause, what a request leaves to do may be done while the next one waits; "
            "after a pause the caches are cold, and everything takes longer.",
        ],
        facts=facts,
    )


def off(*, quick: bool) -> Section:
    """Tokens and requests, without accounts and with them."""
    counts: dict[str, list[Mapping[str, float]]] = {}
    with scratch() as folder, mock_upstream(cpu=None) as mock:
        for target in _both(folder):
            counts[target.name] = [_counted(mock, target, quick=quick)]
    found = report(counts)
    return msgspec.structs.replace(
        found, title="A token and a request, without accounts and with them"
    )


def _counted(mock: Mock, target: Target, *, quick: bool) -> Mapping[str, float]:
    log_progress(f"counting {target.name}")
    return counted_service(valgrind(), mock, target, quick=quick)
