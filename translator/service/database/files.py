"""Database files: who may read them, and where they may be."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from .errors import Unavailable

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = ("nfs", "cifs", "smb", "fuse.sshfs", "ceph", "lustre", "glusterfs")
"""File systems of a network, by the beginning of their names: SQLite's locks fail on them."""


def create_file(path: str) -> None:
    """Create a file that only its owner may read, unless it is there; raises Unavailable.

    SQLite gives the files beside it the same mode. One that is there is not even opened: closing
    it would release the locks that other connections of this process have on it, and another
    process would then delete the log that they write to.
    """
    file = Path(path)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        require_file(path)
    except OSError as error:
        raise _unusable(path, error.errno) from None


def require_file(path: str) -> tuple[int, int]:
    """The identity of a file that can be read and written; raises Unavailable."""
    found = identity(path)
    if os.path.isdir(path):  # noqa: PTH112 - as cheap as it can be
        raise _unusable(path, errno.EISDIR)
    if not os.access(path, os.R_OK | os.W_OK):
        raise _unusable(path, errno.EACCES)
    return found


def identity(path: str) -> tuple[int, int]:
    """What tells the file at a path from others, also from a later one; raises Unavailable."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as cheap as it can be
    except OSError as error:
        raise _unusable(path, error.errno) from None
    return found.st_dev, found.st_ino


def try_to_create(path: str) -> None:
    """Raise Unavailable where `create_file` would, for a file that is not there; leaves nothing."""
    file = Path(path).absolute()
    try:
        folder = next(one for one in file.parents if one.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unusable(path, error.errno) from None


def _unusable(path: str, number: int | None) -> Unavailable:
    return Unavailable(f"{path} cannot be opened: {os.strerror(number or errno.EIO)}")


def file_system(path: str, mounts: str | None = None) -> str:
    """The type of the file system that a file is on; empty where that is not known.

    `mounts` is Linux's table of them, by default that of this process.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text("utf-8", "replace")
        except OSError:
            return ""
    folder = Path(path).resolve().parent
    found, depth = "", -1
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        place = Path(mount.split(" ")[4].replace("\\040", " "))
        if folder.is_relative_to(place) and len(place.parts) >= depth:
            found, depth = rest.split(" ")[0], len(place.parts)
    return found


def is_on_a_network(path: str, mounts: str | None = None) -> bool:
    """Whether a file is on a file system of a network."""
    return file_system(path, mounts).startswith(_SHARED)
