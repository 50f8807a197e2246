"""`translator opencode`: what OpenCode needs to use the service, printed or written."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .client_files import add_setup, checked_default, setup_of, start_lines, text_of, write_all
from .common import Commands
from .settings import mistakes_told, service_needed


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "opencode",
        help="print or write what OpenCode needs to use the service",
        description="Prints the opencode.json that OpenCode needs to use this service: a provider "
        "with its models and their limits. --write puts it into OpenCode's configuration.",
    )
    add_setup(parser)
    parser.add_argument(
        "--api",
        choices=("responses", "chat"),
        default="responses",
        help="what OpenCode speaks: the Responses API, which is translated, or Chat Completions, "
        "which goes through to the upstream as it is (default: responses)",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="the configuration (default: $OPENCODE_CONFIG, else opencode/opencode.json in "
        "$XDG_CONFIG_HOME or ~/.config)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_needed("opencode"):
        from translator.setup.opencode import PROVIDER, File
    path: Path = options.file or _usual_file()
    path = path.expanduser()
    text = text_of(path) if options.write and path.exists() else None
    with mistakes_told():
        file = File(str(path), text)
    setup = setup_of(options, "opencode", usual_key_env=file.key_env)
    new = file.with_setup(setup, options.api, checked_default(options, setup))
    if options.write:
        write_all(path.parent, {path.name: new})
    else:
        print(new, end="")
    lines = start_lines(options, setup)
    lines += [f"run OpenCode:       opencode -m {PROVIDER}/{model.id}" for model in setup.models]
    print("\n".join(["", *lines]), file=sys.stderr)
    return 0


def _usual_file() -> Path:
    if named := os.environ.get("OPENCODE_CONFIG"):
        return Path(named)
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    return folder / "opencode" / "opencode.json"
