"""`translator codex`: prints or writes Codex CLI's configuration for the service."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from .client_files import add_setup, checked_default, setup_of, start_lines
from .common import Commands
from .settings import service_imports, settings_errors
from .written_files import WrittenFiles, texts_in


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "codex",
        help="print or write the configuration of Codex CLI",
        description="Prints the files with which Codex CLI uses this service: the provider in "
        "config.toml, a profile for each model, and the catalog of the models' capabilities. "
        "--write writes them to Codex's folder, --undo takes that back.",
    )
    add_setup(parser)
    parser.add_argument(
        "--codex-home",
        metavar="DIR",
        type=Path,
        help="Codex's folder (default: $CODEX_HOME, else ~/.codex)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_imports("codex"):
        from translator.setup.codex import CATALOG, NEEDED, Folder, catalog_of, kind_of
    home: Path = options.codex_home or Path(os.environ.get("CODEX_HOME") or "~/.codex")
    home = home.expanduser()
    written = WrittenFiles(home, "codex", kind_of)
    if options.undo:
        return written.undo(
            needed=NEEDED, referred=lambda: catalog_of(texts_in(home, "*config.toml").values())
        )
    texts = texts_in(home, "*config.toml", CATALOG) if options.write else {}
    with settings_errors():
        folder = Folder(texts)
    setup = setup_of(options, "codex", usual_key_env=folder.key_env)
    default = folder.default(setup.models, checked_default(options, setup))
    with settings_errors():
        files = folder.files(setup, default)
    if options.write:
        written.write(dict(reversed(files.items())))  # referenced files first
    else:
        for name, text in files.items():
            print(f"# {home / name}\n{text}")
    lines = start_lines(options, setup)
    for name, model in folder.profiles(setup.models).items():
        note = ", and without a profile" if model is default else ""
        lines.append(f"run Codex:          codex --profile {name}   ({model.id}{note})")
    if options.write:
        lines.append(written.way_back(f"--codex-home {shlex.quote(str(home))}"))
    print("\n".join(["", *lines]), file=sys.stderr)
    return 0
