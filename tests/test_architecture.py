"""`docs/architecture.md` is true: every folder, file, function and module that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.test_layers import FACADE, MAY_IMPORT, MODULES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PLACES = re.findall(r"\| `([\w/]+\.py)` \| `([\w.]+)` \|$", TEXT, re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def defined(path: Path) -> set[str]:
    """The functions and methods that a file defines, as `name` and `Class.name`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            functions = ast.FunctionDef | ast.AsyncFunctionDef
            names |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, functions)}
    return names


def test_the_floors_are_those_of_the_table() -> None:
    """In the same order, and each names a file to open first."""
    floors = rows("Floors")
    named = [re.findall(r"`([^`]+)`", cells[0]) for cells in floors]
    folders = [
        FACADE if "translation.py" in names else names[0].rstrip("/").replace("/", ".")
        for names in named
    ]
    assert folders == list(MAY_IMPORT)
    for folder, cells in zip(folders, floors, strict=True):
        parts = () if folder == FACADE else folder.split(".")
        assert ROOT.joinpath("translator", *parts, cells[2].strip("`")).is_file(), folder


def test_there_are_walks() -> None:
    assert len(PLACES) > 30


@pytest.mark.parametrize(("file", "function"), sorted(set(PLACES)))
def test_a_function_is_where_the_page_says(file: str, function: str) -> None:
    assert function in defined(ROOT / "translator" / file)


def test_every_new_place_of_a_module_exists() -> None:
    table = TEXT.partition("<!-- modules -->")[2].partition("<!-- /modules -->")[0]
    moved = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(moved) > 90
    for line in moved:
        _, new = line.strip("| ").split(" | ")
        places = re.findall(r"`([\w.]+)`", new)
        assert {f"translator.{place}" for place in places} <= MODULES.keys(), line
