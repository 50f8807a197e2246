"""The mutation tester of the fast paths: it mutates, and tells a killed mutant from a survivor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.mutate import mutants
from tests.mutants.targets import EQUIVALENT, TARGETS, Equivalent, Target

ROOT = Path(__file__).parents[1]

SOURCE = """\
class Reader:
    limit: int = 3

    def read(self, é: str, more: bool) -> int:
        text = "é"
        if more and not é or text:
            self.count = 7
        return len(é) if self.limit < 2 else sum(one for one in (1,) if one)
"""


def lines(name: str) -> set[str]:
    return {mutant.now(SOURCE) for mutant in mutants(SOURCE, name)}


def test_each_operator_mutates() -> None:
    assert lines("Reader") == {
        "limit: object = 3",
        "limit: int",
        "limit: int = 4",
        "limit: int = 2",
    }
    assert lines("Reader.read") == {
        "pass  # text = 'é'",
        "if (not (more and (not é) or text)):",
        "if text:",
        "if (more and (not é)):",
        "if (not é) or text:",
        "if more or text:",
        "if more and (é) or text:",
        "pass  # self.count = 7",
        "self.count = 8",
        "self.count = 6",
        "return len(é) if (self.limit <= 2) else sum(one for one in (1,) if one)",
        "return len(é) if (self.limit >= 2) else sum(one for one in (1,) if one)",
        "return len(é) if self.limit < 3 else sum(one for one in (1,) if one)",
        "return len(é) if self.limit < 1 else sum(one for one in (1,) if one)",
        "return len(é) if self.limit < 2 else sum(one for one in (2,) if one)",
        "return len(é) if self.limit < 2 else sum(one for one in (0,) if one)",
        "return len(é) if self.limit < 2 else sum(one for one in (1,) if (not (one)))",
    }
    with pytest.raises(LookupError):
        lines("Reader.write")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_each_target_is_there(target: Target) -> None:
    """A rename in the code is a rename in the table; so is that of a test."""
    assert any(mutants((ROOT / target.file).read_text("utf-8"), target.name))
    for test in target.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text("utf-8"), test


@pytest.mark.parametrize("explained", EQUIVALENT, ids=lambda explained: explained.name)
def test_each_explanation_is_of_a_mutant(explained: Equivalent) -> None:
    [file] = {target.file for target in TARGETS if target.name == explained.name}
    source = (ROOT / file).read_text("utf-8")
    assert explained.now in {mutant.now(source) for mutant in mutants(source, explained.name)}


@pytest.mark.parametrize(
    ("tests", "code", "shown"),
    [
        ("tests/test_fast_chunks.py", 0, "_Arguments: 3 mutants, 0 survive"),
        ("tests/test_lazy_pattern.py", 1, "+ arguments: object"),
    ],
    ids=["killed", "survive"],
)
def test_a_mutant_is_killed_or_printed(tests: str, code: int, shown: str) -> None:
    """In a copy of the tree: the real file stays as it is."""
    real = ROOT / "translator/reader/fast_chunks.py"
    source = real.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", "-j", "1", "--tests", tests, "_Arguments"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shown in done.stdout, done.stderr
    assert done.returncode == code
    assert real.read_bytes() == source
