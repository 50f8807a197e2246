"""A report names the test that left a socket open, which is not the one that is blamed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import gc, socket

def test_leaves_one():
    cycle = []
    listener = socket.create_server(("127.0.0.1", 0))
    cycle += [cycle, socket.create_connection(listener.getsockname())]
    listener.close()

def test_is_blamed():
    gc.collect()
"""


def test_who_opened_it_is_told(tmp_path: Path) -> None:
    file = tmp_path / "test_both.py"
    file.write_text(TESTS)
    words = ["-p", "tests.open_sockets", "-p", "no:cacheprovider", "-W", "error", str(file)]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), *words],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "test_both.py::test_is_blamed" in found.stdout, found.stdout
    assert "1 failed, 1 passed" in found.stdout
    assert "was opened in test_both.py::test_leaves_one (call)" in found.stdout
    assert "socket.create_connection(listener.getsockname())" in found.stdout
