"""The matrix says what was seen, and nothing that was not."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from . import matrix as module
from .matrix import (
    CASES,
    CLIENTS,
    HOSTED_CASES,
    HOSTED_CLIENTS,
    STORED_CASES,
    STORED_CLIENTS,
    Matrix,
    pytest_sessionfinish,
    written,
)

DIALECTS = ("deepseek", "fireworks", "vllm")


def report(
    client: str,
    case: str,
    dialect: str | None = "vllm",
    *,
    outcome: Literal["passed", "failed", "skipped"] = "passed",
    limit: str | None = None,
    when: Literal["setup", "call", "teardown"] = "call",
) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"test_{client}_{case}[{dialect}]",
        location=("", 0, ""),
        keywords={},
        outcome=outcome,
        longrepr=None,
        when=when,
        user_properties=[("cell", [client, case, limit, dialect])],
    )


def filled() -> Matrix:
    matrix = Matrix()
    for client, case, dialect in product(CLIENTS, CASES, DIALECTS):
        matrix.add(report(client, case, dialect))
    one_dialect = (*product(STORED_CLIENTS, STORED_CASES), *product(HOSTED_CLIENTS, HOSTED_CASES))
    for client, case in one_dialect:
        matrix.add(report(client, case, None))
    return matrix


def test_a_whole_run_has_a_table() -> None:
    matrix = filled()
    assert matrix.missing() == []
    lines = written(matrix.cells).splitlines()
    assert f"| LangChain | {' | '.join(['works'] * len(CASES))} |" in lines
    assert f"| LangChain | {' | '.join(['works'] * len(STORED_CASES))} |" in lines
    assert [line for line in lines if line.endswith("of these: deepseek, fireworks, vllm.")]


def test_the_table_with_a_store_needs_one_dialect_and_has_limits_of_its_own() -> None:
    matrix = filled()
    del matrix.cells["LangChain", "chained"]
    assert matrix.missing() == ["LangChain, chained: no test stands for it"]
    matrix.add(report("openai Node", "image", limit="It is blind."))
    matrix.add(report("LangChain", "chained", None, limit="It forgets."))
    assert matrix.missing() == []
    first, _, second = written(matrix.cells).partition("## With a store")
    assert "\n1. It is blind.\n" in first
    assert "\n1. It forgets.\n" in second


def test_a_limit_stands_below_the_table_with_its_reason() -> None:
    matrix = filled()
    matrix.add(report("LangChain", "image", limit="It is blind."))
    matrix.add(report("openai Node", "image", limit="It is blind."))
    text = written(matrix.cells)
    assert text.count("its own limit (1)") == 2
    assert "\n1. It is blind.\n" in text
    assert "(2)" not in text


@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_a_cell_with_a_test_that_did_not_pass_does_not_work(
    when: Literal["setup", "call", "teardown"],
) -> None:
    matrix = filled()
    matrix.add(report("LangChain", "image", outcome="failed", when=when))
    assert matrix.missing() == ["LangChain, image: did not pass: test_LangChain_image[vllm]"]


def test_a_cell_without_a_test_is_missing() -> None:
    matrix = filled()
    del matrix.cells["LangChain", "image"]
    assert matrix.missing() == ["LangChain, image: no test stands for it"]


def test_three_dialects_are_asked_for() -> None:
    matrix = filled()
    del matrix.cells["LangChain", "image"]
    matrix.add(report("LangChain", "image", "vllm"))
    matrix.add(report("LangChain", "image", None))
    assert matrix.missing() == ["LangChain, image: ran in too few dialects (vllm)"]


def finished(
    monkeypatch: pytest.MonkeyPatch,
    matrix: Matrix,
    file: Path,
    *,
    write: bool = False,
    required: bool = True,
) -> int:
    """How a run ends that saw what is in a matrix; `file` stands for the README."""
    monkeypatch.setattr(module, "MATRIX", matrix)
    monkeypatch.setattr(module, "README", file)
    monkeypatch.setenv("TRANSLATOR_REQUIRE_CLIENTS", "1" if required else "")
    monkeypatch.setenv("TRANSLATOR_WRITE_MATRIX", "1" if write else "")
    matrix.whole = True
    session: Any = SimpleNamespace(exitstatus=0)
    pytest_sessionfinish(session)
    return int(session.exitstatus)


def test_a_whole_run_writes_the_file_or_holds_it_to_its_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "README.md"
    assert finished(monkeypatch, filled(), file) == 1
    assert finished(monkeypatch, filled(), file, write=True) == 0
    assert file.read_text() == written(filled().cells)
    assert finished(monkeypatch, filled(), file) == 0
    other = filled()
    other.add(report("LangChain", "image", limit="It is blind."))
    assert finished(monkeypatch, other, file) == 1
    assert "`make clients` writes it anew" in other.problems[0]
    assert finished(monkeypatch, other, file, required=False) == 0


def test_a_run_with_gaps_fails_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    matrix = filled()
    del matrix.cells["LangChain", "image"]
    assert finished(monkeypatch, matrix, tmp_path / "README.md", write=True) == 1
    assert not (tmp_path / "README.md").exists()
