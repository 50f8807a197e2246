"""The benchmark measures what it says: every token is counted, and its bodies are real ones.

Nothing here looks at a speed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

import translator
from bench import bodies, core, rig
from bench.__main__ import QUOTE, README, RESULTS, quoting
from bench.environments import names
from bench.load import FIRST, LAST, TOKEN, Load, Mock, mock_upstream
from bench.pace import Search
from bench.section import DIRECT, LITELLM, NGINX, OURS, Section, table
from bench.targets import started
from bench.targets import translator as translator_target
from bench.verdict import PROMISES, verdict

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
        paced = Load(mock, running, cpu=None, streams=3, each=2, timeout_ms=20_000).seen()
        mock.plan(tokens=1000)
        flat_out = Load(mock, running, cpu=None, streams=2, timeout_ms=20_000).seen()
    assert (paced.tokens, paced.answers, paced.failures) == (180, 6, 0)
    assert (flat_out.tokens, flat_out.answers, flat_out.failures) == (2000, 2, 0)
    assert paced.cpu_s > 0
    assert 0 < paced.first_p50_ms <= paced.first_p99_ms
    assert 0 < paced.age_p50_ms <= paced.age_p99_ms <= paced.age_most_ms


@needs_compiler
def test_a_failure_is_counted_and_told(mock: Mock) -> None:
    """A refused request is no token, no answer, and its first words are kept."""
    with started(translator_target(), mock.port, None) as running:
        refused = Load(mock, running, b"{}", cpu=None, timeout_ms=20_000).seen()
    assert (refused.tokens, refused.answers, refused.failures) == (0, 0, 1)
    assert refused.trouble.startswith("HTTP/1.1 400")


@needs_compiler
def test_open_streams_are_counted_while_they_are_held(mock: Mock) -> None:
    """`hold_ms` keeps a stream open after its tokens, and the mock upstream says how many are."""
    mock.plan(tokens=2, hold_ms=300)
    seen = Load(mock, None, cpu=None, streams=5, timeout_ms=20_000).seen()
    assert (seen.tokens, seen.answers) == (10, 5)
    assert seen.elapsed_s >= 0.3
    assert mock.plan(tokens=1)["open"] == 0


def test_frames_are_what_an_upstream_sends() -> None:
    """The frames of the mock upstream make one whole answer."""
    translation = translator.Translation(
        bodies.request(2_000), response_id="resp_1", created_at=1, new_id=lambda prefix: prefix
    )
    events = [*translation.receive(FIRST + TOKEN * 3 + LAST), *translation.close()]
    told = [json.loads(translator.encode_sse(event).split(b"data: ")[1]) for event in events]
    assert [event["type"] for event in told].count("response.output_text.delta") == 3
    assert told[-1]["type"] == "response.completed"


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


def test_targets_are_judged_by_the_facts() -> None:
    """A target is met, missed, or not measured: never met by silence."""
    silent = verdict({}).table.splitlines()[2:]
    assert len(silent) == len(PROMISES)
    assert all(row.endswith("| – | not measured |") for row in silent)
    measured = ("us_per_token 200", "capacity", "first_added_ms")
    facts = {(name, whose): 1.0 for name in measured for whose in (OURS, NGINX, LITELLM, DIRECT)}
    judged = verdict(facts).table
    assert "| ≤ 2 × | 1.00 × | yes |" in judged
    assert "| ≤ 0.05 × | 1.000 × | no |" in judged
    assert "| ≥ 400 | 1 | no |" in judged


def test_the_readme_quotes_the_last_report() -> None:
    """The targets in the README are those of bench/results.md."""
    readme, results = README.read_text("utf-8"), RESULTS.read_text("utf-8")
    _, _, quoted = readme.partition(QUOTE[0])
    quoted, _, _ = quoted.partition(QUOTE[1])
    assert len(quoted.splitlines()) == len(PROMISES) + 2
    assert f"### Targets\n\n{quoted}\n" in results


def test_a_report_goes_between_the_marks_of_the_readme() -> None:
    """Everything else in the README stays."""
    text = f"before\n{QUOTE[0]}of last time\n{QUOTE[1]}after\n"
    judged = Section(title="Targets", table="| of now |\n")
    assert quoting(text, judged) == f"before\n{QUOTE[0]}| of now |\n{QUOTE[1]}after\n"


def test_a_bound_is_only_taken_from_its_own_requirement() -> None:
    """`foo` is not `foo-bar`: another package's bound stays."""
    assert names("certifi>=2026.10.19", "certifi")
    assert names("Certifi[x]>=1", "certifi")
    assert not names("certifi-win32>=1", "certifi")
