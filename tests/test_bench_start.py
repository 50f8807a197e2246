"""The benchmark of the start counts what is imported; no test looks at a speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import footprint, start
from bench.targets import ROOT, translator

LOG = """\
import time: self [us] | cumulative | imported package
import time:       112 |        112 |   encodings.aliases
import time:       425 |       2660 | translator.wire
translator listens on http://127.0.0.1:1/v1
"""


def test_modules_are_read_from_the_log_of_imports() -> None:
    assert start.imported(LOG) == ["encodings.aliases", "translator.wire"]


def test_the_modules_are_those_of_the_service_at_its_first_answer() -> None:
    names = start.modules(translator())
    assert {"uvicorn", "aiohttp.client", "translator.service.http.app"} <= set(names)
    assert "translator.service.server.websocket_protocol" not in names


def test_a_table_has_a_row_for_each_revision(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main(["--rounds", "1"]) == 0
    title, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert title == "### The start of the service, until its first answer"
    assert head == "|  | s | of CPU | modules | of these ours | instructions |"
    [name, seconds, cpu_s, modules, ours, count] = [*rows[0].strip("| ").split(" | "), ""]
    assert (name, count) == ("working tree", "")
    assert float(seconds) > 0
    assert float(cpu_s) > 0
    assert 100 < int(ours.strip(" |")) < int(modules)
    assert rows[1:] == ["", "The least of 1 starts.", ""]


def test_the_dependencies_alone_are_none_of_ours() -> None:
    statement = footprint._dependencies()
    names = statement.removeprefix("import ").strip().split(", ")
    assert {"aiohttp", "httpx", "prometheus_client", "starlette", "uvicorn", "uvloop"} <= set(names)
    assert not any(name.startswith(("translator", "websockets")) for name in names)


def test_bytecode_is_made_also_where_python_writes_none(tmp_path: Path) -> None:
    """So that a start is measured as that of an installed package."""
    (tmp_path / "translator").mkdir()
    (tmp_path / "translator" / "some.py").write_text("")
    program = (
        "import sys; from pathlib import Path; from bench.footprint import compile_ours;"
        "compile_ours(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-B", "-c", program, str(tmp_path)], cwd=ROOT, check=True)
    assert list((tmp_path / "translator" / "__pycache__").glob("some.*.pyc"))
