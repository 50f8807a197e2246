"""docs/operations.md matches the code: its tables are current, and no error is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from translator.common import invalid
from translator.service.upstreams.error_kinds import KNOWN_CODES, UPSTREAM_KINDS
from translator.wire.notices import NOTICE_CODES

from .operations_page import BLOCKS, COMMAND, PAGE, ROOT, SECTIONS, block, meanings

TEXT = PAGE.read_text("utf-8")
_ROW = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", re.MULTILINE)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_tables_are_current(name: str) -> None:
    assert block(TEXT, name) == BLOCKS[name](), f"run {COMMAND}"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_means(section: str) -> None:
    """In its docstring; or in that of `[server]`, where it has the same name there."""
    struct = SECTIONS[section]
    silent = {name for name, meaning in meanings(struct).items() if not meaning}
    assert silent <= set(SECTIONS["[server]"].__struct_fields__)
    if section == "[server]":
        assert not silent
    assert {field.name for field in msgspec.structs.fields(struct)} == set(meanings(struct))


def codes() -> set[str]:
    """All codes of errors in the source."""
    found = set(KNOWN_CODES) | {code for _, code in invalid.CODES}
    for path in (ROOT / "translator").rglob("*.py"):
        if "probe" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            pairs: list[tuple[str | None, ast.expr | None]] = []
            if isinstance(node, ast.Call) and not _is_notice(node):
                pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
            elif isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in node.args.kwonlyargs]
                pairs = list(zip(names, node.args.kw_defaults, strict=True))
            for name, value in pairs:
                word = value.value if isinstance(value, ast.Constant) else None
                if name == "code" and isinstance(word, str):
                    found.add(word)
    return found


def _is_notice(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "Notice"


def rows(heading: str) -> set[str]:
    """The first column of the table below a heading."""
    part = TEXT.partition(f"\n{heading}\n")[2]
    cells = _ROW.findall(re.split(r"\n##+ ", part)[0])
    return {word.strip("`") for cell in cells for word in cell.split(", ")}


def test_every_code_of_an_error_is_explained() -> None:
    assert rows("### Codes") == codes()


def test_every_kind_of_upstream_error_is_explained() -> None:
    assert rows("### Kinds") == UPSTREAM_KINDS


def test_every_notice_is_explained() -> None:
    assert rows("### Notices") == notices() == set(NOTICE_CODES)


def notices() -> set[str]:
    """All codes of notices in the source: the second argument of `Notice`, or of its helpers."""
    found: set[str] = set()
    for path in (ROOT / "translator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            name = node.func.attr if isinstance(node.func, ast.Attribute) else name
            if name in ("Notice", "DuplicateItem", "notice", "_notice"):
                words = [word.value for word in node.args[1:2] if isinstance(word, ast.Constant)]
                found |= {word for word in words if isinstance(word, str)}
    return found


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (PAGE.parent / Path(target)).exists(), target
