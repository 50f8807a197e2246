"""Who may import whom, read from the source: the core stays pure, and its two halves apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[1]
CORE = {path.stem: path for path in sorted((ROOT / "translator").glob("*.py"))}
SERVICE = {path.stem: path for path in sorted((ROOT / "translator" / "service").rglob("*.py"))}
COMMAND_LINE = {
    path.stem: path for path in sorted((ROOT / "translator" / "commands").glob("*.py"))
} | {"__main__": CORE.pop("__main__")}
KEPT = {path.stem: path for path in sorted((ROOT / "translator" / "kept").glob("*.py"))}
CORE_COMMANDS = frozenset({"convert", "dialects", "fixture", "replay"})

EVERY = "every core module"
MAY_IMPORT = {
    # words: what there is
    "json_values": "",
    "errors": "",
    "notices": "",
    "chat": "json_values",
    "deltas": "errors",
    "items": "deltas",
    "responses": "items",
    "events": "deltas items responses",
    # rules about one thing
    "json_text": "json_values",
    "think_tags": "",
    "sealed": "json_values",
    "invalid": "errors json_values",
    "compaction": "deltas errors items json_values notices responses sealed",
    "upstream_errors": "errors json_values",
    "schemas": "json_values",
    "dialect": "schemas think_tags",
    "dialects": "dialect schemas think_tags",
    "echo": "responses",
    "dialect_table": "dialect dialects json_values",
    "refusals": "notices",
    "sse": "errors events",
    "tools": "chat errors invalid items json_values notices schemas",
    # the way out: Responses request -> chat request, and no event
    "content": "chat dialect errors items notices json_values",
    "input_items": "compaction errors invalid items json_values notices responses sealed tools",
    "conversation": "chat content dialect errors input_items json_values notices sealed tools",
    "to_chat": "chat compaction conversation dialect errors input_items invalid json_values notices"
    " responses schemas tools",
    # the way back, first half: chat chunk -> deltas, and no event
    "tool_call_pieces": "chat deltas json_text json_values",
    "native_calls": "json_values",
    "usage": "deltas json_values",
    "usual_chunks": "deltas",
    "from_chat": "chat deltas dialect errors json_values native_calls think_tags tool_call_pieces"
    " upstream_errors usage usual_chunks",
    # the way back, second half: deltas -> events, and no chunk
    "open_items": "deltas events items json_text json_values sealed tools",
    "stream": "deltas errors events items json_text open_items responses tools",
    # the only ones that know both sides
    "translation": EVERY,
    "compacted": "compaction errors items json_values notices responses to_chat",
    "__init__": EVERY,
}

# Sockets, clocks, chance, processes, files and logs. Ids and times are arguments.
IMPURE = frozenset(
    "asyncio concurrent contextvars datetime http io locale logging multiprocessing os pathlib"
    " random secrets select selectors shutil signal socket ssl subprocess sys tempfile threading"
    " time urllib uuid warnings".split()
)
MAX_LINES = 600


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute names of what is imported anywhere in a core module or the command line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield f"translator.{node.module}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"translator.{alias.name}" for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), path.name)


def test_the_table_names_every_module() -> None:
    """A new module says first where it belongs."""
    assert MAY_IMPORT.keys() == CORE.keys()


@pytest.mark.parametrize("module", CORE)
def test_a_module_imports_only_what_it_may(module: str) -> None:
    allowed = MAY_IMPORT[module]
    names = {name for name in imports(parsed(CORE[module])) if name.startswith("translator")}
    known = set(CORE) if allowed == EVERY else set(allowed.split())
    assert names <= {f"translator.{name}" for name in known}


@pytest.mark.parametrize("module", CORE)
def test_the_core_is_pure(module: str) -> None:
    """Besides msgspec, only such parts of the standard library as neither wait nor choose."""
    names = {name.partition(".")[0] for name in imports(parsed(CORE[module]))}
    foreign = names - {"translator", "msgspec"}
    assert foreign <= sys.stdlib_module_names
    assert not foreign & IMPURE


@pytest.mark.parametrize("module", CORE)
def test_a_module_is_short(module: str) -> None:
    assert len(CORE[module].read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", SERVICE)
def test_the_service_does_not_know_the_command_line(module: str) -> None:
    names = imports(parsed(SERVICE[module]))
    assert not any("__main__" in name or "translator.commands" in name for name in names)


@pytest.mark.parametrize("module", KEPT)
def test_what_was_kept_is_read_without_the_service(module: str) -> None:
    names = list(imports(parsed(KEPT[module])))
    above = ("translator.service", "translator.commands", "translator.__main__")
    assert not [name for name in names if name.startswith(above)]
    known = sys.stdlib_module_names | {"msgspec", "translator"}
    assert {name.partition(".")[0] for name in names} <= known


@pytest.mark.parametrize("module", COMMAND_LINE)
def test_the_command_line_imports_the_service_where_it_is_needed(module: str) -> None:
    """The commands of the core work without the service extra, and all others start without it."""
    tree = parsed(COMMAND_LINE[module])
    if module not in CORE_COMMANDS:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) or _is_for_types(node):
                node.body = [ast.Pass()]
    names = list(imports(tree))
    assert not [name for name in names if name.startswith("translator.service")]
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names <= {
        "msgspec",
        "translator",
    }


def _is_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_importing_the_core_loads_no_means_of_waiting() -> None:
    """A fresh interpreter that has msgspec loads nothing impure for translator."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import msgspec; before = set(sys.modules);"
        "import translator; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "translator" in loaded
    assert not loaded & {"starlette", "httpx", "uvicorn", "asyncio", "time", "uuid", "random"}
