"""The folder in which processes that serve together keep their figures.

The process that starts the others makes the folder before the first of them starts, and says when
one of them is gone. It must not import `metrics` itself: prometheus_client looks for the folder
only once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder. An operator may set it: then the folder must be there."""


@contextmanager
def shared_metrics() -> Generator[Path]:
    """The folder, empty at first, for all processes that start while the context lasts."""
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
    """Leave what a process had open out of the sums; what it has counted stays."""
    for mine in Path(os.environ[FOLDER]).glob(f"gauge_live*_{pid}.db"):
        mine.unlink(missing_ok=True)
