"""Goals are judged by every run, on every machine, and never met by silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench import floor, goals, machines, revisions, rig, verdict
from bench.load import Mock, mock_upstream
from bench.machines import Session
from bench.section import CODEX_RELAY, DIRECT, LITELLM, NGINX, OURS, SWITCHYARD, Section
from bench.targets import Running, Target, Unavailable, nginx, started

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")),
    reason="the mock upstream and the load client are compiled: there is no C compiler here",
)

GOAL = verdict.Goal("speed", "≤", 2.0, " ms", verdict.fact("speed"))


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with mock_upstream(cpu=None) as running:
        yield running


def session(*speeds: float | None, **options: object) -> Session:
    """One run for each figure of nginx, to which ours is 30 µs per token."""
    runs = [
        {} if speed is None else {"us_per_token 200": {OURS: 30.0, NGINX: speed}}
        for speed in speeds
    ]
    made = Session(machine={"machine": "Abacus(TM) Processor 7 @ 1GHz, 2 cores, 3 GiB"}, runs=runs)
    return msgspec.structs.replace(made, **options)


def test_goals_are_judged_by_the_facts() -> None:
    """A goal is met, missed, or not measured: never met by silence."""
    goals_of_make_bench = (*verdict.GOALS, *verdict.BESIDE_LITELLM)
    silent = verdict.verdict({}).table.splitlines()[2:]
    assert len(silent) == len(goals_of_make_bench)
    assert all(row.endswith("| – | not measured |") for row in silent)
    owners = (OURS, NGINX, LITELLM, DIRECT, CODEX_RELAY, SWITCHYARD)
    measured = ("us_per_token 200", "capacity", "first_added_ms", "us_per_request")
    facts = {(name, owner): 1.0 for name in measured for owner in owners}
    judged = verdict.verdict(facts).table
    assert "relative to nginx forwarding bytes | ≤ 1.6 × | 1.00 × | yes |" in judged
    assert "relative to LiteLLM | ≤ 0.05 × | 1.000 × | no |" in judged
    assert "relative to nemo-switchyard (Rust) | ≤ 1 × | 1.00 × | yes |" in judged


def test_a_goal_is_met_where_every_run_meets_it() -> None:
    """One bad run is told; a run without the figure is no run."""
    assert machines.met(GOAL, [1.0, 2.0]) == "yes"
    assert machines.met(GOAL, [1.0, 2.1, None]) == "in 1 of 2 runs"
    assert machines.met(GOAL, [3.0, 2.1]) == "no"
    assert machines.met(GOAL, [None, None]) == "not measured"
    assert machines.spread([1.0, None, 1.5]) == "50%"
    assert machines.spread([1.0, None]) == machines.spread([]) == machines.spread([0, 1]) == "–"


def test_each_run_has_its_column() -> None:
    """A row of the report: goal, runs, spread, verdict; what is missing is said below."""
    judged = machines.judged(session(20.0, None, 15.0, left_out=["codex-relay is left out."]))
    first, second, *_ = judged.table.splitlines()[2:]
    assert first.endswith("| ≤ 1.6 × | 1.50 | – | 2.00 | 33% | in 1 of 2 runs |")
    assert second.endswith("| ≤ 1 × | – | – | – | – | not measured |")
    assert judged.remarks == ["codex-relay is left out."]


def test_an_earlier_commit_is_judged_in_the_same_runs() -> None:
    """Its rows are ratios of ours to it, and stand behind the others."""
    runs = [{"us_per_request": {OURS: 1.0, "abc": 2.5}, "first_added_ms": {OURS: 1.0, "abc": 1.5}}]
    rows = machines.judged(session(beside=["abc"], runs=runs)).table.splitlines()
    assert "| CPU per short request, relative to abc | ≤ 0.5 × | 0.40 | – | yes |" in rows
    [first_token] = [row for row in rows if "first token, p50, relative to abc" in row]
    assert first_token.endswith("| ≤ 0.5 × | 0.67 | – | no |")


def test_machines_stand_side_by_side() -> None:
    """Each has a column with the range of its runs, and a goal is met where it is met on all."""
    table = machines.side_by_side({"here": session(20.0, 25.0), "there": session(15.0)})
    head, _, first, second, *_ = table.splitlines()
    assert head == "| measure | goal | here | there | met |"
    assert first.endswith("| ≤ 1.6 × | 1.20–1.50 × | 2.00 × | in 2 of 3 runs |")
    assert second.endswith("| ≤ 1 × | – | – | not measured |")


def test_sessions_of_a_machine_are_kept(tmp_path: Path) -> None:
    """The newest stand last, and the file does not grow for ever."""
    path = tmp_path / "folder" / "machine.json"
    for number in range(machines.KEPT + 2):
        machines.keep(session(number + 1.0), path)
    kept = machines.sessions(path)
    assert [one.runs[0]["us_per_token 200"][NGINX] for one in kept] == [3, 4, 5, 6, 7]
    assert machines.last_sessions(path.parent) == {"machine": kept[-1]}
    assert machines.sessions(tmp_path / "none.json") == []


def test_a_machine_is_named_by_its_processor() -> None:
    """As few words as tell machines apart, fit for a file."""
    assert machines.machine_name(session().machine) == "abacus-7-2-cores"
    described = {"machine": "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz, 16 cores, 64 GiB"}
    assert machines.machine_name(described) == "intel-xeon-e5-2680-v4-16-cores"


def test_the_pages_quote_the_kept_runs() -> None:
    """All three are written from bench/machines, and by nobody else."""
    last = machines.last_sessions()
    assert last
    assert machines.PAGE.read_text("utf-8") == machines.page(last)
    quoted = {machines.PERFORMANCE: machines.side_by_side, machines.README: machines.in_brief}
    for path, written in quoted.items():
        text = path.read_text("utf-8")
        assert text == machines.quoting(text, written(last))
    assert machines.in_brief(last).count("\n") == 3


def test_a_table_goes_between_the_marks_of_a_page() -> None:
    """Everything else on it stays."""
    begin, end = machines.QUOTE
    text = f"before\n{begin}of last time\n{end}after\n"
    assert machines.quoting(text, "| of now |\n") == f"before\n{begin}| of now |\n{end}after\n"


def test_what_fails_leaves_a_sentence_and_the_rest_is_measured() -> None:
    """A target that dies in one scenario costs that scenario alone."""

    def dies() -> Section:
        raise ProcessLookupError("no such process")

    good = Section(title="", table="", facts={("capacity", OURS): 5.0}, remarks=["A remark."])
    failed = Section(title="", table="", remarks=["x: 3 failures, such as 'y'"])
    left_out: list[str] = []
    scenarios = iter([dies, lambda: None, lambda: good, lambda: failed])
    assert goals.one_run(scenarios, left_out, 2) == good.facts
    died, failing = left_out
    assert died.startswith("run 2: a scenario failed (ProcessLookupError")
    assert failing == "run 2: x: 3 failures, such as 'y'"


@pytest.mark.parametrize(("age_ms", "said"), [(4.9, 0), (5.1, 1)])
def test_a_run_beside_other_work_is_told(age_ms: float, said: int) -> None:
    """Where the load alone is late, the times of the run say little."""
    late = Section(title="", table="", facts={("age_p99_ms 800", DIRECT): age_ms})
    left_out: list[str] = []
    goals.one_run(iter([lambda: late]), left_out, 3)
    assert left_out == ["run 3: the load alone was late, so its times say little."] * said


@needs_compiler
def test_a_peer_that_cannot_be_had_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured, and the report says why the row is empty."""

    def unavailable(*_: object) -> list[str]:
        raise Unavailable("it cannot be installed")

    def gone() -> Target:
        return Target(name=CODEX_RELAY, command=unavailable, version=str)

    def none(*_: object) -> Iterator[object]:
        return iter(())

    for name in ("translator", "nginx", "switchyard"):
        monkeypatch.setattr(goals, name, gone)
    monkeypatch.setattr(goals, "codex_relay", gone)
    monkeypatch.setattr(goals, "floors", list)
    monkeypatch.setattr(goals, "measures", none)
    monkeypatch.setattr(
        goals,
        "revision_target",
        lambda one: Target(name=one.name, command=unavailable, version=str),
    )
    monkeypatch.setattr(rig, "mock_upstream", lambda: mock_upstream(cpu=None))
    measured = goals.session(effort=goals.QUICK, runs=2, commits=[])
    assert measured.runs == [{}, {}]
    assert measured.left_out[0] == "codex-relay is left out: it cannot be installed"
    assert "codex-relay is left out" in machines.judged(measured).markdown()
    monkeypatch.setattr(goals, "commit", lambda name: revisions.Revision(name, Path(name)))
    measured = goals.session(effort=goals.QUICK, runs=1, commits=["abc"], only=["no such word"])
    assert [text.split(" is ")[0] for text in measured.left_out] == [CODEX_RELAY, "abc"]


@needs_compiler
def test_a_rig_with_some_targets_is_the_same_rig(mock: Mock) -> None:
    """It has the mock upstream, the chosen targets, and the effort unless another is given."""
    whole = rig.Rig(mock, rig.THOROUGH)
    whole.running = [Running(target, 1, 2, 0.5) for target in (floor.floor("relay"), nginx())]
    some = whole.only([NGINX])
    assert [running.target.name for running in some.running] == [NGINX]
    assert (some.mock, some.effort) == (mock, rig.THOROUGH)
    assert whole.only([], rig.QUICK).effort is rig.QUICK
    assert len(whole.running) == 2


@needs_compiler
@pytest.mark.parametrize("name", floor.NAMES)
def test_floors_pass_every_byte_on(mock: Mock, name: str) -> None:
    """A floor forwards what the upstream sends, of many streams at once."""
    with started(floor.floor(name), mock.port, None) as running:
        rig.prove(mock, running)
        result = rig.Load(mock, running, cpu=None, streams=3, each=2, timeout_ms=20_000).result()
    assert (result.tokens, result.answers, result.failures) == (6 * rig.PROOF_TOKENS, 6, 0)
