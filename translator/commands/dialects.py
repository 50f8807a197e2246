"""`translator dialects`: what is known of each kind of upstream."""

from __future__ import annotations

import argparse
import shutil
import sys

import msgspec

import translator
from translator.dialects import table as dialect_table

from .common import Commands, UsageError, dialect, write

PLAIN_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "dialects",
        help="print what is known of each kind of upstream",
        description="Prints the known dialects and the facts in which each differs from base, in "
        "TOML: a line can be copied into [upstreams.NAME.facts] of a settings file.",
    )
    parser.add_argument(
        "dialect",
        nargs="?",
        metavar="NAME",
        type=dialect,
        help="print all facts of this one (default: the differences of all)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="all facts as JSON (default: for people to read)"
    )
    form.add_argument(
        "--markdown", action="store_true", help="the table of the README (default: no)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    known = translator.DIALECTS
    one = known[options.dialect] if options.dialect is not None else None
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    if options.json:
        values = [dialect_table.as_value(dialect) for dialect in ([one] if one else known.values())]
        encoded = msgspec.json.encode(values[0] if one else values)
        write(msgspec.json.format(encoded, indent=2) + b"\n")
    elif options.markdown:
        if one is not None:
            raise UsageError("dialects --markdown is a table of all, and takes no NAME")
        write(dialect_table.markdown().encode())
    elif one is not None:
        write(dialect_table.details(one, width).encode())
    else:
        write(dialect_table.listing(width).encode())
    return 0
