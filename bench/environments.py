"""Virtual environments of the peers, one each, made when they are first needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .targets import SCRATCH, Unavailable

ENVIRONMENTS = SCRATCH / "venvs"
INSTALL_TIMEOUT_S = 900

_UNMET = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)")

_REQUIREMENTS = """
import sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
asked = Requirement(sys.argv[1])
for line in requires(asked.name):
    one = Requirement(line)
    if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in asked.extras or {""}):
        one.marker = None
        print(one)
"""
"""Prints the requirements of a distribution on this platform, with the extras asked for."""


def installed(requirement: str) -> Path:
    """The `bin` folder of an environment that has `name[extra]==version`; raises Unavailable."""
    name = re.split(r"[\[=]", requirement)[0]
    folder = ENVIRONMENTS / name
    stamp = folder / "requirement.txt"
    if stamp.exists() and stamp.read_text() == requirement:
        return folder / "bin"
    print(f"installing {requirement} into {folder.relative_to(SCRATCH.parent)}", file=sys.stderr)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    python = folder / "bin" / "python"
    try:
        _pip(python, requirement)
    except Unavailable:
        _install_relaxed(python, requirement)
    stamp.write_text(requirement)
    return folder / "bin"


def _install_relaxed(python: Path, requirement: str) -> None:
    """Install without the bounds that the package index cannot meet.

    An index that lags behind may lack the newest release of a dependency, which is no reason to
    measure nothing.
    """
    _pip(python, "--no-deps", requirement)
    wanted = _run([str(python), "-c", _REQUIREMENTS, requirement]).split("\n")
    wanted = [one for one in wanted if one]
    for _ in wanted:
        try:
            _pip(python, *wanted)
        except Unavailable as reason:
            unmet = _UNMET.search(str(reason))
            bounded = [one for one in wanted if unmet and names(one, unmet[1]) and one != unmet[1]]
            if unmet is None or not bounded:
                raise
            wanted = [unmet[1] if one in bounded else one for one in wanted]
        else:
            return


def names(requirement: str, name: str) -> bool:
    """Whether a requirement is one of this distribution."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() == name.lower()


def _pip(python: Path, *words: str) -> None:
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words])


def _run(command: list[str]) -> str:
    """What the command prints; raises Unavailable with the end of its errors."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"it cannot be installed: {error}") from None
    if done.returncode != 0:
        raise Unavailable(f"it cannot be installed: {done.stderr.strip()[-300:]}")
    return done.stdout
