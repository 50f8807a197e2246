"""The Chromium that these tests start: one on the PATH, or Debian's packages, unpacked here.

    python -m tests.browser.chromium      unpacks them, where none is there  (make install-browser)

Nothing is installed into the system, and no rights are needed: what Chromium depends on and the
machine lacks is fetched and unpacked into `.browser`, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".browser"
UNPACKED = FOLDER / "unpacked"

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium-headless-shell"
"""The smallest package with a whole Chromium: it draws without a display."""

APT_S = 150
"""Upper bound of one run of apt-get, in seconds."""


class Unavailable(Exception):
    """There is no Chromium, and no way to it; the text says why."""


def found() -> tuple[str, dict[str, str]] | None:
    """The program, and its environment; None where there is none."""
    for name in PROGRAMS:
        if program := shutil.which(name):
            return program, dict(os.environ)
    program = UNPACKED / "usr" / "lib" / "chromium" / PACKAGE
    if not program.exists():
        return None
    libraries = sorted({str(one.parent) for one in UNPACKED.glob("usr/lib/**/*.so*")})
    environ = {"LD_LIBRARY_PATH": ":".join(libraries), "XDG_DATA_HOME": str(UNPACKED / "usr/share")}
    if (fonts := UNPACKED / "etc" / "fonts").exists() and not Path("/etc/fonts").exists():
        environ["FONTCONFIG_PATH"] = str(fonts)
    return str(program), {**os.environ, **environ}


def install() -> None:
    """Unpack Debian's Chromium; raises Unavailable."""
    if shutil.which("apt-get") is None:
        raise Unavailable(
            "no chromium is on the PATH, and this machine has no apt-get to fetch one"
        )
    shutil.rmtree(FOLDER, ignore_errors=True)
    archives, unfinished = FOLDER / "archives", FOLDER / "unfinished"
    archives.mkdir(parents=True)
    try:
        _download(archives, {})
    except Unavailable:  # perhaps for want of lists, or because they are old
        _download(archives, _own_lists())
    unfinished.mkdir()
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(unfinished)], cwd=FOLDER)
    unfinished.rename(UNPACKED)
    shutil.rmtree(archives)


def _download(folder: Path, environ: Mapping[str, str]) -> None:
    """Fetch the package and what it needs that this machine has not."""
    planned = _run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", PACKAGE],
        environ,
        cwd=folder,
    )
    packages = re.findall(r"^Inst (\S+)", planned, re.MULTILINE)
    _run(["apt-get", "download", *packages], environ, cwd=folder)


def _own_lists() -> dict[str, str]:
    """The environment for apt-get with lists of packages of our own, which need no rights."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (FOLDER / "apt" / name).mkdir(parents=True, exist_ok=True)
    configuration = FOLDER / "apt" / "apt.conf"
    configuration.write_text(
        f'Dir::State::Lists "{FOLDER}/apt/state/lists";\nDir::Cache "{FOLDER}/apt/cache";\n'
    )
    environ = {"APT_CONFIG": str(configuration)}
    _run(["apt-get", "update"], environ, cwd=FOLDER)
    return environ


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None, *, cwd: Path) -> str:
    """What a command prints; raises Unavailable with its last words."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environ or {}), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=APT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines() or ["no reason"]
        raise Unavailable(f"{' '.join(command[:2])}: {words[-1]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command[:2])}: {error}") from None
    return done.stdout


def main() -> int:
    try:
        if found() is None:
            install()
        here = found()
        if here is None:
            raise Unavailable(f"the package {PACKAGE} has no program")
        print(_run([here[0], "--version", "--no-sandbox"], here[1], cwd=ROOT).strip())
    except Unavailable as error:
        print(f"no browser for the tests: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
