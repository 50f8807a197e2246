"""The matrix: what of the Responses API each client was seen to do, as a file for people.

A test says which cell it stands for: `@pytest.mark.cell(client=…, case=…)`. Where a client cannot
do a thing by itself, the test shows just that, and says why: `limit="it has no …"`. A cell works
when all tests that stand for it pass, in three dialects at least; a cell of the tables of clients
with a store or with tools needs no more than one, since neither has a part in what a dialect is.

After a run of all cells tests/clients/README.md must say what was seen. `make clients` writes it;
any other run in which clients are required compares, and fails when it says something else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

README = Path(__file__).parent / "README.md"

CLIENTS = (
    "Codex CLI",
    "OpenCode (chat)",
    "OpenCode (Responses)",
    "Copilot CLI",
    "pi",
    "openai Python",
    "openai Python, async",
    "openai Python, WebSocket",
    "openai Node",
    "openai Node, WebSocket",
    "openai-agents",
    "openai-agents, WebSocket",
    "Vercel AI SDK",
    "LangChain",
    "pydantic-ai",
)
CASES = {  # the short name, and what it means
    "text": "a question is answered, in one piece",
    "streaming": "the answer arrives in pieces",
    "reasoning": "the user is shown what the model thinks",
    "tools": "two parallel calls, their results, and the answer to them; the model sees its"
    " reasoning again where the dialect takes it",
    "structured": "an answer that fits a JSON schema, as an object of the client's language",
    "image": "an image reaches a model that sees; one that reads only is told that there was one",
    "error": "what the upstream refuses is an error that says why, and can be told from others",
    "waiting": "a model that is silent for long, before its answer and within it, loses nobody:"
    " heartbeats mean no harm",
    "incomplete": "an answer that ran into its token limit can be told from a whole one",
}
FEWEST_DIALECTS = 3

STORED_CLIENTS = (
    "Codex CLI",
    "openai Python",
    "openai Node",
    "openai-agents",
    "openai-agents JS",
    "Vercel AI SDK",
    "LangChain",
    "pydantic-ai",
)
STORED_CASES = {
    "by itself": "a question, two parallel calls, their results, an answer, and another question,"
    " each request as the client makes it by itself; the model sees all of it, and its reasoning",
    "chained": "the same, where each request goes on from the response before",
    "conversation": "the same in a conversation that the server keeps",
}

STORED_HEAD = """## With a store

The translator has a `[store]` section, and no client is told `store: false`. `stored/` has the
tests.

"""

HOSTED_CLIENTS = ("Codex CLI", "openai Node", "openai-agents", "Vercel AI SDK")
HOSTED_CASES = {
    "search": "the hosted search runs within one response: the client shows it, the answer and its"
    " source, and another question sends the model the same messages",
    "mcp": "a tool of an MCP server is called within one response: the client shows the call and its"
    " result; where the call needs approval, the client is asked, and its answer counts",
}

HOSTED_HEAD = """## With tools that the service runs

The translator has a `[tools]` section.

"""

CELLS = (
    *product(CLIENTS, CASES),
    *product(STORED_CLIENTS, STORED_CASES),
    *product(HOSTED_CLIENTS, HOSTED_CASES),
)

HEAD = """# What each client was seen to do

Written by `make clients`; every run of `.ci/run` compares it with what it sees. The clients are the
real packages, the translator is the real service, and the upstream is a script that is as strict as
the dialect it speaks (`spoken.py`).

"""


@dataclass
class Cell:
    """What is known of one cell: the tests of it, each in one dialect."""

    limit: str | None = None
    dialects: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)  # names of tests
    others: set[str] = field(default_factory=set)  # those that failed or were skipped


class Matrix:
    """The cells, filled by the reports of tests."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        self.whole = False
        self.problems: list[str] = []

    def add(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name != "cell" or not isinstance(value, list):
                continue
            client, case, limit, dialect = value
            cell = self.cells.setdefault((client, case), Cell())
            cell.limit = limit or cell.limit
            if report.outcome != "passed":
                cell.others.add(report.nodeid)
            elif report.when == "call":
                cell.passed.add(report.nodeid)
                if dialect:
                    cell.dialects.add(dialect)

    def missing(self) -> list[str]:
        """Why this run does not fill the matrix; empty when it does."""
        problems: list[str] = []
        for client, case in CELLS:
            cell = self.cells.get((client, case), Cell())
            where = f"{client}, {case}"
            if not cell.passed and not cell.others:
                problems.append(f"{where}: no test stands for it")
            elif cell.others:
                problems.append(f"{where}: did not pass: {', '.join(sorted(cell.others))}")
            elif case in CASES and len(cell.dialects) < FEWEST_DIALECTS:
                names = ", ".join(sorted(cell.dialects)) or "none"
                problems.append(f"{where}: ran in too few dialects ({names})")
        return problems


MATRIX = Matrix()


def written(cells: Mapping[tuple[str, str], Cell]) -> str:
    """The file: tables of clients and cases, their limits, and what the cases mean."""
    parts = _table(HEAD, cells, CLIENTS, CASES)
    dialects = sorted(set().union(*(cell.dialects for cell in cells.values())))
    parts.append(
        f"Each cell ran in {FEWEST_DIALECTS} dialects or more, of these: {', '.join(dialects)}."
    )
    parts += _table(STORED_HEAD, cells, STORED_CLIENTS, STORED_CASES)
    parts += _table(HOSTED_HEAD, cells, HOSTED_CLIENTS, HOSTED_CASES)
    return "\n\n".join(parts) + "\n"


def _table(
    head: str,
    cells: Mapping[tuple[str, str], Cell],
    clients: Sequence[str],
    cases: Mapping[str, str],
) -> list[str]:
    """A table of clients and cases, the limits below it, what the cases mean."""
    limits: list[str] = []
    lines = [_row(["client", *cases]), _row(["---"] * (len(cases) + 1))]
    for client in clients:
        row = [client]
        for case in cases:
            limit = cells[client, case].limit
            if limit is None:
                row.append("works")
                continue
            if limit not in limits:
                limits.append(limit)
            row.append(f"its own limit ({limits.index(limit) + 1})")
        lines.append(_row(row))
    parts = [head + "\n".join(lines)]
    if limits:
        parts.append("\n".join(f"{n}. {limit}" for n, limit in enumerate(limits, 1)))
    parts.append("\n".join(f"- **{case}**: {meaning}" for case, meaning in cases.items()))
    return parts


def _row(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"


# --- hooks of pytest, brought in by conftest ----------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each report the cell that its test stands for: reports may come from other processes."""
    asked = {Path(path).resolve() for path in config.args}
    here = Path(__file__).parent.resolve()
    narrowed = config.option.keyword or config.option.markexpr
    MATRIX.whole = bool(asked & {here, *here.parents}) and not narrowed
    for item in items:
        call = getattr(item, "callspec", None)
        parameters = call.params if call else {}
        for mark in item.iter_markers("cell"):
            client, case = mark.kwargs["client"], mark.kwargs["case"]
            if parameters.get("transport") == "websocket":
                client += ", WebSocket"
            if (client, case) not in CELLS:
                raise pytest.UsageError(f"{item.nodeid}: there is no cell {client}, {case}")
            dialect = parameters.get("dialect")
            cell = [client, case, mark.kwargs.get("limit"), dialect]
            item.user_properties.append(("cell", cell))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    MATRIX.add(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file or compare it, when all was there to fill it."""
    required = os.environ.get("TRANSLATOR_REQUIRE_CLIENTS", "") not in ("", "0")
    if not (required and MATRIX.whole) or session.exitstatus not in (0, 1):
        return
    MATRIX.problems = MATRIX.missing()
    if not MATRIX.problems:
        text = written(MATRIX.cells)
        if os.environ.get("TRANSLATOR_WRITE_MATRIX"):
            README.write_text(text, encoding="utf-8")
        elif not README.exists() or README.read_text("utf-8") != text:
            MATRIX.problems = [
                "tests/clients/README.md does not say what was seen: `make clients` writes it anew"
            ]
    if MATRIX.problems:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MATRIX.problems:
        terminalreporter.section("matrix of clients")
        for problem in MATRIX.problems:
            terminalreporter.line(problem)
