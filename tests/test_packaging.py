"""Dependencies: the core needs msgspec and nothing else."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "accounts": "accounts",
    "console": "accounts",
    "database": "store",
    "mcp": "tools",
    "store": "store",
}
"""The folders of the service that need more than its extra, each with the extra that it needs."""

MODULE_OF = {"argon2-cffi": "argon2"}
"""The modules of distributions that are not called like them."""

SERVICE_MODULES = {
    "aiohttp",
    "httptools",
    "httpx",
    "shtab",
    "starlette",
    "tomlkit",
    "uvicorn",
    "uvloop",
}

# An interpreter as after `pip install translator`, without the service extra.
WITHOUT_SERVICE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(SERVICE_MODULES)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(ROOT)!r})
from translator.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def without_service(*argv: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_SERVICE, *argv],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_convert_works_without_the_service() -> None:
    request = {"model": "m", "instructions": "Be brief.", "input": "Hello", "stream": True}
    done = without_service("convert", given=json.dumps(request).encode())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]


def test_replay_works_without_the_service() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    done = without_service("replay", given=body.encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"event: response.completed\n") == 1
    assert done.stdout.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("command", [("serve", "--upstream", "http://127.0.0.1:1/v1"), ("demo",)])
def test_what_needs_the_service_says_how_to_get_it(command: tuple[str, ...]) -> None:
    done = without_service(*command)
    assert done.returncode == 2
    assert b"install it with " in done.stderr
    assert b"[service]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_core_depends_on_msgspec_alone() -> None:
    assert names(project()["dependencies"]) == {"msgspec"}


def imports(path: Path) -> set[str]:
    """The packages that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found


def test_the_service_imports_only_what_its_extra_installs() -> None:
    installed = names(project()["optional-dependencies"]["service"])
    imported: set[str] = set()
    service = ROOT / "translator" / "service"
    for path in service.rglob("*.py"):
        room = path.relative_to(service).parts[0]
        if path.name != "otel.py" and room not in ROOMS:  # they have extras of their own
            imported |= imports(path)
    known = {name.replace("-", "_") for name in installed} | {"msgspec", "translator"}
    assert imported - sys.stdlib_module_names <= known


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_extra_installs(room: str) -> None:
    extras = project()["optional-dependencies"]
    installed = names(extras["service"]) | names(extras["store"]) | names(extras[ROOMS[room]])
    imported: set[str] = set()
    for path in (ROOT / "translator" / "service" / room).rglob("*.py"):
        imported |= imports(path)
    known = {MODULE_OF.get(name, name.replace("-", "_")) for name in installed}
    assert imported - sys.stdlib_module_names <= known | {"msgspec", "translator"}
