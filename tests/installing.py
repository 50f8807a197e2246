"""Installed copies of the program: built, installed and started as users do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TIMEOUT_S = 300

_NO_NETWORK = re.compile(
    "dns error|error sending request|failed to fetch|failed to download|name resolution"
    "|connection (refused|reset|timed out)|network is unreachable|NewConnectionError"
    "|No matching distribution found for",
    re.IGNORECASE,
)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these variables beside those of the tests."""
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def install(
    command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run what needs a package index; without one, the test is skipped."""
    done = run(command, cwd=cwd, env=env)
    if done.returncode and _NO_NETWORK.search(done.stderr + done.stdout):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def built(target: str, source: Path, folder: Path) -> Path:
    """The `wheel` or `sdist` of a source folder, built by its own backend."""
    done = run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], cwd=source)
    assert done.returncode == 0, done.stderr
    [file] = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return file


@contextmanager
def serving(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> Iterator[str]:
    """The base URL of a service that a command starts, with these variables alone."""
    with subprocess.Popen(
        [*map(str, command)],
        cwd=cwd,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"listens on (http://\S+)", line)
            assert found, line + process.stderr.read()
            yield found[1]
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)
