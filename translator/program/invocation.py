"""How the program is called from the shell that started it, and what installs what it lacks.

A printed command must work as typed where it was printed. A program in a virtual environment is
often not on the PATH, and `pip install` fails on the Python of a system (PEP 668) and in the
environments of `uv tool` (which have no pip).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

NAME = "translator"
WINDOWS = sys.platform == "win32"


def program() -> str:
    """The words that start this program in a shell here, quoted where the shell needs it.

    `translator` where PATH finds this installation; else the path of its script, relative below
    the current folder; else `PYTHON -m translator`.
    """
    if not sys.executable:  # an interpreter within another program
        return NAME
    scripts = [Path(sys.executable).with_name(f"{NAME}.exe" if WINDOWS else NAME)]
    if Path(sys.argv[0]).stem == NAME:
        scripts.append(Path(sys.argv[0]))  # `uv tool` and pipx copy it on Windows
    scripts = [script for script in scripts if script.is_file()]
    found = shutil.which(NAME)
    if found and Path(found).resolve() in {script.resolve() for script in scripts}:
        return NAME
    return _shell_word(_near(scripts[0])) if scripts else f"{_python()} -m {NAME}"


def install_hint(extra: str) -> str:
    """The command that adds an extra to this installation, by the tool that made it."""
    what = _shell_word(_requirement(extra))
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").exists():
        return f"uv tool install --force {what}"
    if (prefix / "pipx_metadata.json").exists():
        return f"pipx install --force {what}"
    if sys.prefix != sys.base_prefix and find_spec("pip") is None:  # `uv venv` makes it so
        return f"uv pip install --python {_python()} {what}"
    if sys.prefix == sys.base_prefix and _externally_managed():
        return f"pipx install {what}"
    return f"{_python()} -m pip install {what}"


def set_variable(name: str, value: str = "...") -> str:
    """The line that sets an environment variable: PowerShell's on Windows, else that of sh."""
    return f'$env:{name} = "{value}"' if WINDOWS else f"export {name}={value}"


def _requirement(extra: str) -> str:
    """What this program was installed from, and an extra: a folder, a wheel, a URL, or its name."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        text = distribution(NAME).read_text("direct_url.json")  # PEP 610
        origin = json.loads(text or "{}")
        url, vcs = str(origin["url"]), origin.get("vcs_info")
    except (PackageNotFoundError, ValueError, LookupError):
        return f"{NAME}[{extra}]"
    if vcs:
        return f"{NAME}[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
    parts = urlsplit(url)
    if parts.scheme != "file":
        return f"{NAME}[{extra}] @ {url}"
    path = Path(url2pathname(parts.path))
    return f"{_near(path) if path.exists() else NAME}[{extra}]"


def _externally_managed() -> bool:
    """Whether pip refuses to install into this Python (PEP 668)."""
    return Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()


def _python() -> str:
    """The words that start this Python in a shell here."""
    for name in ("python3", "python"):
        found = shutil.which(name)
        # Not resolved: a virtual environment's python is a link to that of the system.
        if found and Path(found).parent.samefile(Path(sys.executable).parent):
            return name
    return _shell_word(_near(Path(sys.executable))) if sys.executable else "python3"


def _near(path: Path) -> str:
    """A path from the current folder, if it is below it."""
    try:
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
        near = absolute.relative_to(Path.cwd())
    except (OSError, ValueError):  # the folder has been removed, or the path is not below it
        return str(path)
    return str(near) if len(near.parts) > 1 else f".{os.sep}{near}" if near.parts else "."


def _shell_word(text: str) -> str:
    """A word for a shell, quoted where need be: as cmd.exe and PowerShell read it, or as sh."""
    if WINDOWS:
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)
