"""The benchmark counts every token, and its bodies are valid; no test looks at a speed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import translator
from bench import bodies, core, instructions, revisions, rig, ways
from bench.__main__ import main
from bench.environments import names
from bench.load import FIRST, LAST, TOKEN, Load, Mock, mock_upstream
from bench.pace import Search
from bench.section import Section, table
from bench.targets import ROOT, Unavailable, started, version_of_ours
from bench.targets import translator as translator_target
from bench.variant import ALL_ON, VARIANTS, Gone, replaced, rewritten, variant
from translator.writer import sse

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")),
    reason="the mock upstream and the load client are compiled: there is no C compiler here",
)


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with mock_upstream(cpu=None) as running:
        yield running


@needs_compiler
def test_every_token_passes_through_the_service(mock: Mock) -> None:
    """What the load client counts behind `translator serve` is what the mock upstream sent."""
    with started(translator_target(), mock.port, None) as running:
        rig.prove(mock, running)
        mock.plan(tokens=30, rate=1000)
        paced = Load(mock, running, cpu=None, streams=3, each=2, timeout_ms=20_000).result()
        mock.plan(tokens=1000)
        flat_out = Load(mock, running, cpu=None, streams=2, timeout_ms=20_000).result()
    assert (paced.tokens, paced.answers, paced.failures) == (180, 6, 0)
    assert (flat_out.tokens, flat_out.answers, flat_out.failures) == (2000, 2, 0)
    assert paced.cpu_s > 0
    assert 0 < paced.first_p50_ms <= paced.first_p99_ms
    assert 0 < paced.age_p50_ms <= paced.age_p99_ms <= paced.age_most_ms


@needs_compiler
def test_a_failure_is_counted_and_kept(mock: Mock) -> None:
    """A refused request is no token, no answer, and its first words are kept."""
    with started(translator_target(), mock.port, None) as running:
        refused = Load(mock, running, b"{}", cpu=None, timeout_ms=20_000).result()
    assert (refused.tokens, refused.answers, refused.failures) == (0, 0, 1)
    assert refused.first_failure.startswith("HTTP/1.1 400")


@needs_compiler
def test_open_streams_are_counted_while_they_are_held(mock: Mock) -> None:
    """`hold_ms` keeps a stream open after its tokens, and the mock upstream says how many are."""
    mock.plan(tokens=2, hold_ms=300)
    result = Load(mock, None, cpu=None, streams=5, timeout_ms=20_000).result()
    assert (result.tokens, result.answers) == (10, 5)
    assert result.elapsed_s >= 0.3
    assert mock.plan(tokens=1)["open"] == 0


def test_frames_are_what_an_upstream_sends() -> None:
    """The frames of the mock upstream make one whole answer."""
    translation = translator.Translation(
        bodies.request(2_000), response_id="resp_1", created_at=1, new_id=lambda prefix: prefix
    )
    events = [*translation.receive(FIRST + TOKEN * 3 + LAST), *translation.close()]
    sent = [json.loads(translator.encode_sse(event).split(b"data: ")[1]) for event in events]
    assert [event["type"] for event in sent].count("response.output_text.delta") == 3
    assert sent[-1]["type"] == "response.completed"


@pytest.mark.parametrize("name", ["40 KB", "200 KB", "4 MB, 3 of it a screenshot"])
def test_requests_are_valid_and_of_their_size(name: str) -> None:
    """Each body is translated without complaint, whole, and is about as large as it is called."""
    size, _ = bodies.SIZES[name]
    body = bodies.requests()[name]
    chat = json.loads(
        translator.Translation(
            body, response_id="resp_1", created_at=1, new_id=lambda prefix: prefix
        ).chat_body
    )
    asked = json.loads(body)
    calls = [item for item in asked["input"] if item["type"] == "function_call"]
    assert 0.9 * size < len(body) < 1.25 * size
    assert sum(message["role"] == "tool" for message in chat["messages"]) == len(calls)
    assert len(chat["tools"]) == len(asked["tools"]) == 21


@pytest.mark.parametrize("kind", bodies.KINDS)
def test_streams_of_every_kind_are_translated_whole(kind: str) -> None:
    """A longer stream gives more bytes: nothing of what is measured is skipped."""
    short, long = (core.translate(list(bodies.stream(kind, count))) for count in (10, 110))
    assert long - short > 100 * len('"delta":"the "')
    chunks = list(bodies.stream(kind, 110))
    reads = core.in_reads(chunks, 1000)
    assert max(map(len, reads)) == 1000
    assert b"".join(reads) == b"".join(chunks)
    assert core.translate(reads) == long


@pytest.mark.parametrize("last_good", range(-1, 9))
def test_the_search_for_the_capacity_ends_at_the_last_good_step(last_good: int) -> None:
    """However many steps are good, they are found, and none is asked twice."""
    search = Search(9)
    asked: list[int] = []
    while (step := search.next) is not None:
        asked.append(step)
        search.answer(yes=step <= last_good)
    assert search.good == last_good
    assert len(set(asked)) == len(asked)


def test_tables_are_markdown() -> None:
    """A head, a rule that sets numbers to the right, and a row each; remarks stand below."""
    section = Section(
        title="Speed", table=table(("", "ms"), [("here", "1.0"), ("there", "2.0")]), remarks=["So."]
    )
    assert section.markdown() == (
        "### Speed\n\n|  | ms |\n| --- | ---: |\n| here | 1.0 |\n| there | 2.0 |\n\nSo.\n\n"
    )


def test_a_bound_is_only_taken_from_its_own_requirement() -> None:
    """`foo` is not `foo-bar`: another package's bound stays."""
    assert names("certifi>=2026.10.19", "certifi")
    assert names("Certifi[x]>=1", "certifi")
    assert not names("certifi-win32>=1", "certifi")


# ---- python -m bench ways ------------------------------------------------------------------------

_SWITCHED = """
import gc, importlib, inspect, json, pkgutil
import translator
from bench.variant import VARIANTS

def state():
    yield "gc.freeze", gc.freeze
    for info in pkgutil.walk_packages(translator.__path__, "translator."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in list(vars(module).items()):
            if inspect.ismodule(value) or getattr(value, "__module__", info.name) != info.name:
                continue
            yield f"{info.name}:{name}", getattr(value, "__code__", value)
            for key, inner in list(vars(value).items()) if isinstance(value, type) else ():
                yield f"{info.name}:{name}.{key}", getattr(inner, "__code__", inner)

dict(state())  # everything is imported
before = dict(state())
changed = {}
for one in VARIANTS:
    one.switch_off()
    after = dict(state())
    changed[one.name] = [
        key for key in before | after if before.get(key) is not after.get(key)
    ]
    before = after
print(json.dumps(changed))
"""
"""Prints the attributes of the service that each variant changes, one after the other."""


def test_a_variant_changes_the_code_that_it_names() -> None:
    """Each variant is found in the service, changes one place of it, and cites a module."""
    done = subprocess.run(
        [sys.executable, "-c", _SWITCHED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-600:]
    changed = json.loads(done.stdout)
    for one in VARIANTS:
        assert 1 <= len(changed[one.name]) <= 2, (one.name, changed)
        assert (ROOT / one.claim).is_file()
        assert one.beside == ALL_ON or variant(one.beside).beside == ALL_ON


@needs_compiler
def test_the_service_translates_without_any_of_its_optimisations(mock: Mock) -> None:
    """With all variants switched off at once, every token passes through."""
    names = ",".join(one.name for one in VARIANTS)
    target = translator_target(name="none", program=("bench.variant", names))
    with started(target, mock.port, None) as running:
        rig.prove(mock, running)


def test_a_function_is_rewritten_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every import of a function sees its new code; without the text or the name, Gone says so."""
    held = sse.encode_all
    monkeypatch.setattr(held, "__code__", held.__code__)  # restored at the end
    usual = held([])
    with pytest.raises(Gone, match="looks for 'no such line'"):
        rewritten("writer.sse:encode_all", ("no such line", ""))()
    for gone in ("writer.sse:no_such_name", "writer.no_such_module:x"):
        with pytest.raises(Gone, match="which is gone"):
            replaced(gone, None)()
    with pytest.raises(Gone, match="no variant is called 'x'"):
        variant("x")
    with pytest.raises(Gone, match="no variant is called 'x'"):
        next(ways.sections(quick=True, only=["x"]))
    assert held([]) == usual == b""
    rewritten("writer.sse:encode_all", ("return bytes(frames)", 'return b"!" + bytes(frames)'))()
    assert held([]) == b"!"


def test_rows_of_variants_are_ratios_to_the_variant_beside() -> None:
    """A ratio compares two measurements of one round, and the best of each."""
    figures = {"all on": [10.0, 20.0, 10.0], "a": [11.0, 24.0, 15.0], "b,a": [22.0, 24.0, 30.0]}
    rows = [
        ways.Comparison("a", "all on", "no a"),
        ways.Comparison("b,a", "a", "no b"),
        ways.Comparison("c", "all on", "not started"),
    ]
    assert ways.report("CPU", figures, "all on", rows, ["So."]).markdown() == (
        "### CPU\n\n"
        "|  | best, µs | × of best | × median | × range |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| all on | 10.0 | 1.00 | 1.00 | – |\n"
        "| no a | 11.0 | 1.10 | 1.20 | 1.10–1.50 |\n"
        "| no b | 22.0 | 2.00 | 2.00 | 1.00–2.00 |\n"
        "\nSo.\n\n"
    )


def test_each_variant_has_a_process_and_the_one_beside_it_too() -> None:
    """Names of processes are distinct, and the service with all on is the first."""
    rows = ways.compared(VARIANTS)
    names = [target.name for target in ways.targets_of(rows)]
    assert names[0] == ALL_ON
    assert len(names) == len(set(names))
    assert {one.target for one in rows} | {one.beside for one in rows} == set(names)


# ---- python -m bench instructions ----------------------------------------------------------------


def test_start_up_cancels_out_of_the_slope() -> None:
    """Instructions per token, whatever the run costs that has no token."""
    runs = (
        {"instructions": 1_000_100, "L1 misses": 70},
        {"instructions": 1_000_500, "L1 misses": 90},
    )
    assert instructions.slope(runs, (10, 50)) == {"instructions": 10, "L1 misses": 0.5}
    assert instructions.spread([100.0, 101.0, 100.5]) == pytest.approx(0.01)
    assert instructions.spread([0.0, 0.0]) == 0
    with pytest.raises(Unavailable, match="without a sum"):
        instructions.counted("events: Ir\n")


def test_misses_are_those_of_instructions_and_data() -> None:
    """Reads of instructions, reads and writes of data; the last level by itself."""
    assert instructions.counted("events: Ir\nsummary: 4711\n\ntotals: 4711\n") == {
        "instructions": 4711
    }
    profile = (
        "events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\n\nsummary: 900 200 100 1 2 4 8 16 32\n"
    )
    assert instructions.counted(profile) == {
        "instructions": 900,
        "L1 misses": 7,
        "L2 misses": 56,
    }
    runs = [{"instructions": count, "L1 misses": 10 - count} for count in (1, 3, 9)]
    assert instructions.median(runs) == {"instructions": 3, "L1 misses": 7}


@needs_compiler
def test_answers_that_wait_send_nothing_until_they_are_released(mock: Mock) -> None:
    """So many streams are open before the first token of any is counted."""
    mock.plan(tokens=4, rate=200, wait=True)
    load = Load(mock, None, cpu=None, streams=3, timeout_ms=20_000)
    until = time.monotonic() + 20
    while (opened := mock.plan(tokens=4, rate=200, wait=True)["open"]) < 3:
        assert time.monotonic() < until, opened
        time.sleep(0.01)
    mock.release()
    result = load.result()
    assert (result.tokens, result.answers, result.failures) == (12, 3, 0)


def test_instructions_of_sides_stand_beside_each_other() -> None:
    """The least run of each side, its ratio to that of the first, and the largest spread."""
    runs = {"old": [{"token": 100.0}, {"token": 102.0}], "new": [{"token": 90.0}, {"token": 90.0}]}
    assert instructions.report(runs).table == (
        "| per | old | new | × | spread |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| token | 100 | 90 | 0.900 | 2.0% |\n"
    )


@pytest.mark.skipif(
    not (shutil.which("valgrind") and shutil.which("vgdb")),
    reason="instructions are counted by valgrind, which is not installed",
)
def test_valgrind_counts_the_core() -> None:
    """A chunk takes thousands of instructions, not the millions of the start."""
    tool, tree = instructions.valgrind(), revisions.working_tree()
    counts = instructions.core_instructions(tool, tree, kinds=["text"], sizes=(100, 300))
    assert 1_000 < counts["text"] < 1_000_000


def test_without_valgrind_a_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither installed nor to be had: exit code 1, and the reason."""

    def unpacked(package: str) -> Path:
        raise Unavailable(f"{package} is not here")

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(instructions, "unpacked", unpacked)
    assert main(["instructions"]) == 1
    assert "valgrind is not here" in capsys.readouterr().err


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a commit needs the repository")
def test_a_commit_is_measured_by_its_own_package(tmp_path: Path) -> None:
    """The package comes from the commit, the benchmark from the working tree."""
    head = revisions.commit("HEAD")
    assert [one.name for one in revisions.beside(["HEAD"])] == [revisions.WORKING_TREE, "HEAD"]
    assert [one.name for one in revisions.beside(["HEAD", "HEAD~0"])] == ["HEAD", "HEAD~0"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import bench, translator; print(translator.__file__, bench.__file__)",
        ],
        cwd=tmp_path,
        env=head.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        str(head.folder / "translator" / "__init__.py"),
        str(ROOT / "bench" / "__init__.py"),
    ]
    with pytest.raises(Unavailable, match="git does not give the commit"):
        revisions.commit("no-such-commit")


def test_the_version_that_is_measured_is_ours() -> None:
    assert version_of_ours().startswith(translator.__version__)
