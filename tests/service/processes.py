"""`translator serve` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def served(
    *words: str, env: dict[str, str] | None = None
) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Start-up line and process of `translator serve` on a free port; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "translator", "serve", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline(), process
    finally:
        process.kill()
        process.communicate()
