"""`translator completion`: prints a script that completes commands in a shell.

The script is made by shtab from the parsers themselves. It is static: a completion starts no
Python.
"""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from typing import Any

import translator

from .common import Commands, write
from .settings import service_imports

SHELLS = ("bash", "zsh", "fish")

_DETAILS = re.compile(r" \(|; | \[env: ")
"""Where the details of an option's help begin, for which a line of completions has no room."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands in bash, zsh or fish",
        description="Prints a script with which a shell completes translator's commands, options "
        "and values. Write it to a file that the shell reads: bash, "
        "~/.local/share/bash-completion/completions/translator; zsh, _translator in a folder of "
        "$fpath; fish, ~/.config/fish/completions/translator.fish. Or try it at once: "
        "source <(translator completion bash).",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_imports("completion"):
        shtab: Any = import_module("shtab")
    _describe(options.parser, shtab)
    write(f"{shtab.complete(options.parser, shell=options.shell).rstrip()}\n".encode())
    return 0


def _describe(parser: argparse.ArgumentParser, shtab: Any) -> None:  # noqa: ANN401 - untyped
    """Shorten the help of options to a phrase, and say which values are files or folders."""
    actions: list[Any] = vars(parser)["_actions"]  # argparse has no public way to them
    for action in actions:
        entries: list[argparse.Action] = getattr(action, "_choices_actions", [])  # the commands
        for entry in entries:
            command: argparse.ArgumentParser = action.choices[entry.dest]
            command.description = entry.help
            _describe(command, shtab)
        if isinstance(action.help, str) and action.help != argparse.SUPPRESS:
            action.help = _DETAILS.split(action.help)[0]
        if action.dest == "dialect":
            action.choices = list(translator.DIALECTS)
        elif action.metavar in ("FILE", "FILE|FOLDER"):
            action.complete = shtab.FILE
        elif action.metavar in ("DIR", "FOLDER"):
            action.complete = shtab.DIRECTORY
