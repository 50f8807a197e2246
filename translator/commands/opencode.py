"""`translator opencode`: prints or writes OpenCode's configuration for the service."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from .client_files import add_setup, checked_default, setup_of, start_lines
from .common import Commands
from .settings import service_imports, settings_errors
from .written_files import WrittenFiles, text_of


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "opencode",
        help="print or write the configuration of OpenCode",
        description="Prints the opencode.json with which OpenCode uses this service: a provider "
        "with its models and their limits. --write adds it to OpenCode's configuration, --undo "
        "takes it out again.",
    )
    add_setup(parser)
    parser.add_argument(
        "--api",
        choices=("responses", "chat"),
        default="responses",
        help="the API that OpenCode uses: the Responses API, which is translated, or Chat "
        "Completions, which is passed through (default: responses)",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="OpenCode's configuration (default: $OPENCODE_CONFIG, else opencode/opencode.json in "
        "$XDG_CONFIG_HOME or ~/.config)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_imports("opencode"):
        from translator.setup.opencode import PROVIDER, File
    path: Path = options.file or _default_file()
    path = path.expanduser()
    written = WrittenFiles(path.parent, "opencode", lambda name: "json")
    if options.undo:
        return written.undo(path.name)
    text = text_of(path) if options.write and path.exists() else None
    with settings_errors():
        file = File(str(path), text)
    setup = setup_of(options, "opencode", usual_key_env=file.key_env)
    new = file.with_setup(setup, options.api, checked_default(options, setup))
    if options.write:
        written.write({path.name: new})
    else:
        print(new, end="")
    lines = start_lines(options, setup)
    lines += [f"run OpenCode:       opencode -m {PROVIDER}/{model.id}" for model in setup.models]
    if options.write:
        lines.append(written.way_back(f"--file {shlex.quote(str(path))}"))
    print("\n".join(["", *lines]), file=sys.stderr)
    return 0


def _default_file() -> Path:
    if named := os.environ.get("OPENCODE_CONFIG"):
        return Path(named)
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    return folder / "opencode" / "opencode.json"
