"""A lazy pattern is what `re.compile` makes of the same source, and costs nothing until it is used."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from translator.common import lazy_pattern as module
from translator.common.lazy_pattern import compile_lazy_patterns, lazy_pattern

ROOT = Path(__file__).parents[1]
SOURCE = r"(?P<word>b\w*)|(\d)"
TEXT = "a Bit, 2 bits"
CALLS: tuple[tuple[Any, ...], ...] = (
    ("search", TEXT),
    ("search", TEXT, 3),
    ("match", "bits"),
    ("match", TEXT),
    ("fullmatch", "bits"),
    ("findall", TEXT),
    ("finditer", TEXT),
    ("split", TEXT),
    ("sub", "-", TEXT),
    ("subn", lambda found: found[0].upper(), TEXT),
)


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    patterns: list[Any] = []
    monkeypatch.setattr(module, "_pending", patterns)
    return patterns


def shown(value: object) -> object:
    if isinstance(value, re.Match):
        return value.span(), value.groups(), value.groupdict()
    return [*map(shown, value)] if hasattr(value, "__next__") else value  # type: ignore[call-overload]


@pytest.mark.parametrize("flags", [0, re.IGNORECASE])
def test_it_does_what_a_compiled_one_does(flags: int, pending: list[Any]) -> None:
    """By the first use, and by later ones; with methods that are kept, too."""
    plain = re.compile(SOURCE, flags)
    for name, *arguments in CALLS:
        lazy = lazy_pattern(SOURCE, flags)
        kept = lazy.search
        for _ in range(2):
            found, expected = getattr(lazy, name)(*arguments), getattr(plain, name)(*arguments)
            assert shown(found) == shown(expected), name
        assert shown(kept(TEXT)) == shown(plain.search(TEXT))
        for attribute in ("pattern", "flags", "groups", "groupindex"):
            assert getattr(lazy, attribute) == getattr(plain, attribute)


def test_bytes_are_searched_by_a_pattern_of_bytes(pending: list[Any]) -> None:
    assert lazy_pattern(rb"\d+").findall(b"1 22") == [b"1", b"22"]


def test_it_is_compiled_once_and_when_it_is_used(
    pending: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile_now = re.compile
    monkeypatch.setattr(
        re, "compile", lambda *words: compiled.append(words[0]) or compile_now(*words)
    )
    used, waiting = lazy_pattern("used"), lazy_pattern("waiting")
    assert compiled == []
    assert used.search("used")
    assert used.match("used")
    assert compiled == ["used"]
    compile_lazy_patterns()
    assert sorted(compiled) == ["used", "waiting"]
    compile_lazy_patterns()
    assert waiting.search("waiting")
    assert sorted(compiled) == ["used", "waiting"]


def test_a_mistake_in_a_source_is_found_where_it_is_compiled(pending: list[Any]) -> None:
    lazy_pattern("(")
    with pytest.raises(re.error):
        compile_lazy_patterns()


def test_it_has_nothing_that_a_pattern_has_not(pending: list[Any]) -> None:
    lazy = lazy_pattern("a")
    for name in ("serch", "_private"):
        with pytest.raises(AttributeError, match=name):
            getattr(lazy, name)
    assert copy.copy(lazy).search("a")


def test_importing_the_core_compiles_none_of_them() -> None:
    """Of the grammars of errors and refusals, which take longer than all else of the core."""
    program = (
        "import translator; from translator.common.lazy_pattern import _pending as patterns;"
        "print(len(patterns), sum('compiled' in vars(one) for one in patterns))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lazy, compiled = map(int, done.stdout.split())
    assert lazy > 50
    assert compiled == 0


def test_all_of_the_package_can_be_compiled() -> None:
    compile_lazy_patterns()
    assert module._pending == []
