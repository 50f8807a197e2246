"""The folder of prometheus_client's multiprocess mode, shared by the workers.

The parent process creates the folder before it starts the first worker, and removes the gauges of
a worker that has exited. It must not import `metrics`: prometheus_client reads the environment
variable on import.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of the folder. If an operator sets it, the folder must exist."""


@contextmanager
def shared_metrics() -> Generator[Path]:
    """An empty folder for all processes that start within the context."""
    given = os.environ.get(FOLDER)
    if given:
        for old in Path(given).glob("*.db"):
            old.unlink(missing_ok=True)
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="translator-metrics-") as made:
        os.environ[FOLDER] = made
        try:
            yield Path(made)
        finally:
            del os.environ[FOLDER]


def worker_gone(pid: int) -> None:
    """Remove the gauges of a worker from the sums; its counters stay."""
    for file in Path(os.environ[FOLDER]).glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)
