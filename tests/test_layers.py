"""Who may import whom, read from the source: folders on floors, and no way up.

The core (the facade and the folders that it imports) is pure: it opens no socket, reads no clock,
draws no random number. `docs/architecture.md` walks through the same floors.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "translator"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 500

FACADE = "facade"
CORE = "wire common dialects request reader writer"
MAY_IMPORT = {
    # the core, from the ground up
    "wire": "",
    "common": "wire",
    "dialects": "common wire",
    "request": "dialects common wire",
    "reader": "dialects common wire",
    "writer": "common wire",
    FACADE: CORE,  # translator/__init__.py, translation.py and what stands beside it
    "captures": f"{FACADE} wire common dialects request reader",
    # what every program says of itself
    "program": "",
    # the service, from the ground up; a folder of the service may use the core
    "service.base": "",
    "service.config": "base",
    "service.access": "base config",
    "service.models": "config access",
    "service.observe": "base access models",
    "service.upstreams": "base config observe",
    "service.turns": "base config access models observe upstreams",
    "service.telemetry": "base config models observe upstreams",
    "service.capture": "base config models observe",
    "service.live": "base observe",
    "service.database": "base config",
    "service.store.migrations": "",  # Alembic loads them by their paths
    "service.store": "base config database observe",
    "service.accounts.migrations": "",  # the same
    "service.accounts": "base config access database",
    "service.tools": "base config access observe",
    "service.mcp": "base config access observe turns tools",
    "service.page": "base config access models observe turns",
    "service.console": "base config database accounts page",
    "service.provisioning": "base config database accounts",
    "service.http": "base config access models observe upstreams turns telemetry database store"
    " accounts tools mcp page console provisioning",
    "service.server": "base config access observe telemetry capture live http",
    # programs beside the service
    "probe": "service.base service.config service.upstreams",
    "check": "probe service.base service.config service.models service.turns service.upstreams"
    " service.database service.store service.tools service.mcp",
    "setup": "service.config service.models",
    "launch": "setup service.base service.config service.models",
    "demo": "service.base service.config service.http",
    "commands": "captures probe check setup launch demo service.base service.config service.models"
    " service.upstreams service.database service.store service.accounts service.telemetry service.live"
    " service.server",
}
"""The folders, each with those that it imports, all of them further up in this table."""

# Sockets, clocks, chance, processes, files and logs. Ids and times are arguments.
IMPURE = frozenset(
    "asyncio concurrent contextvars datetime http io locale logging multiprocessing os pathlib"
    " random secrets select selectors shutil signal socket ssl subprocess sys tempfile threading"
    " time urllib uuid warnings".split()
)
CORE_COMMANDS = frozenset({"convert", "dialects", "fixture", "replay"})


def named(folder: str) -> set[str]:
    """The folders that the entry of a folder names, by their whole names."""
    prefix = "service." if folder.startswith("service.") else ""
    return {f"{prefix}{name}" for name in MAY_IMPORT[folder].split()}


def may_import(folder: str) -> set[str]:
    """The folders of the table, by their whole names, that a folder may import."""
    allowed = named(folder)
    if folder.startswith(("service.", "probe", "check", "setup", "launch", "demo", "commands")):
        allowed |= {FACADE, *CORE.split(), "program"}
    if folder.startswith("service.capture"):
        allowed.add("captures")
    return allowed


def module_of(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def folder_of(module: str) -> str:
    """The folder of the table that a module is in; empty for `translator.service` itself."""
    path = MODULES[module]
    if path.name == "__main__.py":
        return "commands"
    folder = ".".join(path.parent.relative_to(PACKAGE).parts) or FACADE
    return "" if folder == "service" else folder


def imported(path: Path, tree: ast.AST) -> Iterator[str]:
    """Absolute names of all that is imported anywhere in a file; modules where it is one."""
    package = ".".join(path.parent.relative_to(ROOT).parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{path}: from .. hides which folder is meant"
            base = node.module or ""
            if node.level:
                base = f"{package}.{base}".rstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in MODULES else base


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), path.name)


def ours(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    names = imported(path, parsed(path))
    return {name for name in names if name.partition(".")[0] == "translator"}


def test_the_table_names_every_folder() -> None:
    """A new folder says first where it belongs."""
    assert {folder_of(module) for module in MODULES} - {""} == set(MAY_IMPORT)


def test_no_folder_may_import_upward() -> None:
    """So there is no circle of folders."""
    order = list(MAY_IMPORT)
    for folder in order:
        below = set(order[: order.index(folder)])
        assert may_import(folder) <= below, folder


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_what_its_entry_names(folder: str) -> None:
    """No other folder, and each of these: an arrow that nobody uses is no part of the table."""
    used: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        if folder_of(module) == folder:
            for name in ours(path):
                used[folder_of(name)].add(module)
    used.pop(folder, None)
    assert used.keys() <= may_import(folder), {
        name: used[name] for name in used.keys() - may_import(folder)
    }
    assert named(folder) <= used.keys(), named(folder) - used.keys()


def test_no_circle_of_files() -> None:
    """Not even for types alone: who needs the other's name is on the wrong floor."""
    graph = {module: ours(path) - {module} for module, path in MODULES.items()}
    for module in graph:
        if MODULES[module].name == "__init__.py":  # it gathers what its folder offers
            graph[module] = {name for name in graph[module] if not name.startswith(f"{module}.")}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_short(module: str) -> None:
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= MAX_LINES


def in_folders(folders: str) -> list[str]:
    return [module for module in MODULES if folder_of(module) in folders.split()]


@pytest.mark.parametrize("module", in_folders(f"{FACADE} {CORE}"))
def test_the_core_is_pure(module: str) -> None:
    """Besides msgspec, only such parts of the standard library as neither wait nor choose."""
    path = MODULES[module]
    names = {name.partition(".")[0] for name in imported(path, parsed(path))}
    foreign = names - {"translator", "msgspec"}
    assert foreign <= sys.stdlib_module_names
    assert not foreign & IMPURE


@pytest.mark.parametrize("module", in_folders("captures"))
def test_captures_are_read_without_the_service(module: str) -> None:
    path = MODULES[module]
    known = sys.stdlib_module_names | {"msgspec", "translator"}
    assert {name.partition(".")[0] for name in imported(path, parsed(path))} <= known


@pytest.mark.parametrize("module", in_folders("commands"))
def test_the_command_line_imports_the_service_where_it_is_needed(module: str) -> None:
    """The commands of the core work without the service extra, and all others start without it."""
    path = MODULES[module]
    tree = parsed(path)
    if module.rpartition(".")[2] not in CORE_COMMANDS:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) or _is_for_types(node):
                node.body = [ast.Pass()]
    names = list(imported(path, tree))
    allowed = {FACADE, "captures", "commands", *CORE.split()}
    assert {folder_of(name) for name in names if name in MODULES} <= allowed
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
