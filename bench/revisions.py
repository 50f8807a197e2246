"""The working tree, or a commit of the project, as what is measured."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .targets import ROOT, SCRATCH, Unavailable

WORKING_TREE = "working tree"


class Revision(msgspec.Struct, frozen=True):
    """A version of the package, found before any other on the path of a process."""

    name: str
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """The package is the revision's, the benchmark always that of the working tree."""
        return {"PYTHONPATH": os.pathsep.join(dict.fromkeys((str(self.folder), str(ROOT))))}


def working_tree() -> Revision:
    return Revision(WORKING_TREE, ROOT)


def commit(name: str) -> Revision:
    """The package as it is in a commit, written to the folder of scratch; raises Unavailable."""
    full = _git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").decode().strip()
    folder = SCRATCH / "commits" / full
    if not folder.exists():
        archive = _git("archive", full, "translator", "pyproject.toml")
        unfinished = folder.with_name(f"{full}.unfinished")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(unfinished, filter="data")
        unfinished.rename(folder)
    return Revision(name, folder)


def beside(commits: Sequence[str]) -> list[Revision]:
    """What is compared: one commit beside the working tree, more of them beside each other."""
    revisions = [commit(name) for name in commits]
    return revisions if len(revisions) > 1 else [working_tree(), *revisions]


def _git(*words: str) -> bytes:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    except OSError as error:
        raise Unavailable(f"a commit needs git: {error}") from None
    if done.returncode:
        raise Unavailable(f"git does not give the commit: {done.stderr.decode().strip()}")
    return done.stdout
