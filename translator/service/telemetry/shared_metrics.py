"""The folder of prometheus_client's multiprocess mode, shared by the workers.

The parent process creates the folder before it starts the first worker, and removes the gauges of
a worker that has exited. It must not import `metrics`: prometheus_client reads the environment
variable on import.

The parent holds a lock on a file in the folder as long as it lives. So the folder of one that was
killed is known, and the next parent removes it.

Each worker reserves the space of its files before it uses them. prometheus_client maps files with
holes into memory, and on a full disk the first write into a hole kills the process (SIGBUS).
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from translator.service.config.settings import SettingsError

if sys.platform != "win32":
    import fcntl

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of the folder. If an operator sets it, the folder must exist."""

STALE_S = 600.0
"""An empty folder of this age is nobody's."""

RESERVED_BYTES = 1024 * 1024
RESERVED_BYTES_PER_MODEL = 64 * 1024
"""Some 150 time series for each model, of 200 bytes, and all others."""

SMALL_BYTES = 64 * 1024
"""The gauges have few labels; prometheus_client itself begins with as much."""

_PREFIX = "translator-metrics-"
_LOCK = "parent.lock"

log = logging.getLogger(__name__)


@contextmanager
def shared_metrics() -> Generator[Path]:
    """An empty folder for all processes that start within the context."""
    given = os.environ.get(FOLDER)
    if given:
        for pattern in ("*.db", "answers-*.sock"):  # the sockets are `WorkerChannel.open_peers`'
            for old in Path(given).glob(pattern):
                old.unlink(missing_ok=True)
        yield Path(given)
        return
    _remove_stale()
    with ExitStack() as stack:
        try:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
            stack.enter_context(_locked(Path(made) / _LOCK))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SettingsError(
                [f"metrics: no folder for those of several workers can be made: {reason}"]
            ) from None
        os.environ[FOLDER] = made
        try:
            yield Path(made)
        finally:
            del os.environ[FOLDER]


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """A file that this process has locked; a worker does not inherit it."""
    with path.open("xb") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_stale() -> None:
    """Remove the folders of parents that were killed."""
    if sys.platform == "win32":  # which has no such lock, and no workers either
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or removed meanwhile
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            if not (folder / _LOCK).exists():
                if time.time() - folder.stat().st_mtime > STALE_S:
                    folder.rmdir()  # killed before it made the file; else it is not ours
                continue
            with (folder / _LOCK).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its parent lives
                shutil.rmtree(folder)
                log.info("removed %s, which a killed process left", folder)


def reserve_files(models: int, *, store: bool = False) -> None:
    """Reserve the space of this worker's files, for so many models in the settings.

    `store`: the settings have one. Without the space this worker counts alone, in memory. To be
    called before `metrics` is imported.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    large = RESERVED_BYTES + models * RESERVED_BYTES_PER_MODEL
    sizes = {"counter": large, "histogram": large, "gauge_livesum": SMALL_BYTES}
    sizes["gauge_max"] = SMALL_BYTES
    if store:
        sizes["gauge_livemax"] = SMALL_BYTES
    files = {Path(folder) / f"{kind}_{os.getpid()}.db": size for kind, size in sizes.items()}
    try:
        for file, size in files.items():
            file.write_bytes(bytes(size))
    except OSError as error:
        for file in files:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        del os.environ[FOLDER]
        log.warning(
            "metrics: this worker's are not shared with the others: %s: %s", folder, error.strerror
        )


def worker_gone(pid: int) -> None:
    """Remove the gauges of a worker from the sums, and its socket; its counters stay."""
    folder = Path(os.environ[FOLDER])
    for pattern in (f"gauge_live*_{pid}.db", f"answers-*-{pid}.sock"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)
