"""The page `docs/facts.md`: each fact of each dialect, with the source that its comment gives.

A comment in `translator/dialects` speaks for the facts below it, up to the next one; the values are
those of the running code. `python -m tests.dialects_readme` writes the page.
"""

from __future__ import annotations

import ast
import functools
import io
import itertools
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from translator.common.toml import toml_lines
from translator.dialects import BASE, DIALECTS, clouds, servers, templates, vendors
from translator.dialects import dialect as facts_module
from translator.dialects.dialect import IDENTITY_FIELDS, Dialect
from translator.dialects.table import all_facts, plain

PAGE = Path(__file__).resolve().parents[1] / "docs" / "facts.md"

FAMILIES = (
    (vendors, "APIs of model makers"),
    (clouds, "Clouds and routers"),
    (servers, "Servers that operators run themselves"),
)
OF_TEMPLATES = "template_facts"
ONE_MODEL = {"ModelFacts", "_qwen38"}
"""Calls that give the facts of one pattern."""


class Sourced(Struct, frozen=True):
    """Facts with one source; `pattern` is that of the models that they apply to."""

    facts: dict[str, Any]
    source: str
    pattern: str = ""


def page() -> str:
    """The whole page."""
    lines = [
        "# Facts of the dialects",
        "",
        "What each kind of upstream does differently, with the source of each fact and the time at",
        "which it was read. An entry like `project#12` is an issue of that project. Where an upstream",
        "has moved on, `translator probe` finds out, and `[upstreams.NAME.facts]` replaces single",
        "facts. This page is generated: `python -m tests.dialects_readme`.",
        "",
        "## The facts",
        "",
        "Their meaning, and their values for an unknown upstream (`base`).",
        "",
        *_table(("fact", "in `base`", "meaning"), map(_meaning, _documented())),
    ]
    for module, heading in FAMILIES:
        lines += ["", f"## {heading}"]
        tree = ast.parse(_source(module))
        for call in (node for node in ast.walk(tree) if _name(node) == "derived"):
            assert isinstance(call, ast.Call)
            lines += _section(DIALECTS[ast.literal_eval(call.args[0])], call, module)
    lines += ["", "## Chat templates", ""]
    lines += [
        "Servers that run a model's own template have these facts, too, by the model's name.",
        "",
        *_table(("models", "facts", "source"), map(_row_of_model, _of_templates())),
    ]
    return "\n".join(lines) + "\n"


# --- the meaning of facts -------------------------------------------------------------------------


def _documented() -> Iterator[tuple[str, str]]:
    """The fields of Dialect with their docstrings."""
    [defined] = [
        node
        for node in ast.parse(_source(facts_module)).body
        if isinstance(node, ast.ClassDef) and node.name == "Dialect"
    ]
    documents = [*defined.body[1:], None]
    for node, following in itertools.pairwise(documents):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            document = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                document = " ".join(str(following.value.value).split())
            if node.target.id not in IDENTITY_FIELDS:
                yield node.target.id, document


def _meaning(documented: tuple[str, str]) -> tuple[str, ...]:
    name, document = documented
    [line] = toml_lines({name: all_facts(BASE)[name]})
    in_settings = document.replace("None:", "`false`:")
    return f"`{name}`", f"`{line.partition(' = ')[2]}`", in_settings


# --- the facts of a dialect -----------------------------------------------------------------------


def _section(dialect: Dialect, call: ast.Call, module: Any) -> Iterator[str]:
    hosts = ", ".join(f"`{host}`" for host in dialect.hosts)
    yield from ("", f"### {dialect.name}", "")
    if hosts:
        yield from (f"Hosts: {hosts}.", "")
    known = list(_sourced(dialect, call, _comments(module)))
    own = [entry for entry in known if not entry.pattern]
    of_models = [entry for entry in known if entry.pattern]
    yield from _table(("facts", "source"), ((_toml(one.facts), one.source) for one in own))
    if of_models:
        yield ""
        yield from _table(("models", "facts", "source"), map(_row_of_model, of_models))
    if OF_TEMPLATES in ast.dump(call):
        yield from ("", "And those of [chat templates](#chat-templates).")


def _sourced(dialect: Dialect, call: ast.Call, comments: dict[int, str]) -> Iterator[Sourced]:
    """The facts of a dialect, grouped by their source."""
    groups: dict[str, dict[str, Any]] = {}
    for keyword in call.keywords:
        assert keyword.arg is not None
        if keyword.arg != "models":
            source = _above(comments, keyword.value.lineno, call.lineno)
            groups.setdefault(source, {})[keyword.arg] = getattr(dialect, keyword.arg)
    yield from (Sourced(facts, source) for source, facts in groups.items())
    models = iter(dialect.models)
    for keyword in call.keywords:
        if keyword.arg == "models":
            for line, count in _elements(keyword.value):
                for known in (next(models) for _ in range(count)):
                    if line is not None:
                        source = _above(comments, line, call.lineno)
                        yield Sourced(known.facts, source, known.pattern)
    assert next(models, None) is None, f"{dialect.name}: facts of models without a source"


def _elements(node: ast.expr) -> Iterator[tuple[int | None, int]]:
    """The line of each element of `models`, and how many patterns it gives.

    The line is None for the facts of templates, which have their own section.
    """
    match node:
        case ast.Tuple():
            for element in node.elts:
                yield from _elements(element)
        case ast.Starred():
            yield from _elements(node.value)
        case ast.GeneratorExp():
            patterns = node.generators[0].iter
            assert isinstance(patterns, ast.Tuple)
            yield node.lineno, len(patterns.elts)
        case ast.Call() if _name(node) == OF_TEMPLATES:
            yield None, len(templates.template_facts())
        case ast.Call() if _name(node) == "tuple":
            yield from _elements(node.args[0])
        case ast.Call() if _name(node) in ONE_MODEL:
            yield node.lineno, 1
        case _:
            raise AssertionError(f"line {node.lineno}: unknown form of facts of models")


def _of_templates() -> Iterator[Sourced]:
    comments = _comments(templates)
    [assigned] = [
        node
        for node in ast.parse(_source(templates)).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_TEMPLATES"
    ]
    models = iter(templates.template_facts())
    for line, count in _elements(assigned.value):
        assert line is not None
        for known in (next(models) for _ in range(count)):
            yield Sourced(known.facts, _above(comments, line, assigned.lineno), known.pattern)


def _row_of_model(known: Sourced) -> tuple[str, ...]:
    return f"`{known.pattern}`", _toml(known.facts) or "as all others", known.source


def _toml(facts: dict[str, Any]) -> str:
    return "<br>".join(f"`{line}`" for line in toml_lines(plain(facts)))


# --- source text ----------------------------------------------------------------------------------


def _source(module: Any) -> str:
    return Path(module.__file__).read_text("utf-8")


@functools.cache
def _comments(module: Any) -> dict[int, str]:
    """The comments that stand alone, by the line below their last one."""
    found: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(_source(module)).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            line = token.start[0]
            before = found.pop(line, "")
            found[line + 1] = f"{before} {token.string.removeprefix('#').strip()}".strip()
    return found


def _above(comments: dict[int, str], line: int, first: int) -> str:
    """The nearest comment above a line, from the line `first` on."""
    return comments[max(below for below in comments if first < below <= line)]


def _name(node: ast.AST) -> str:
    return getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
