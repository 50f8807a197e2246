"""`translator dialects`: prints the known dialects and their facts."""

from __future__ import annotations

import argparse
import shutil
import sys

import msgspec

import translator
from translator.dialects import table as dialect_table

from .common import Commands, UsageError, dialect, write

PLAIN_WIDTH = 100
"""Width of the table in a file or a pipe, in columns."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "dialects",
        help="print the known dialects and their facts",
        description="Prints the known dialects and the facts in which each differs from base. The "
        "facts are in TOML, for [upstreams.NAME.facts] of a settings file.",
    )
    parser.add_argument(
        "dialect",
        nargs="?",
        metavar="NAME",
        type=dialect,
        help="print all facts of this dialect (default: the differences of all dialects)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print all facts as JSON (default: as text)"
    )
    form.add_argument(
        "--markdown", action="store_true", help="print the table of docs/dialects.md (default: no)"
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
            raise UsageError("dialects --markdown prints all dialects, and takes no NAME")
        write(dialect_table.markdown().encode())
    elif one is not None:
        write(dialect_table.details(one, width).encode())
    else:
        write(dialect_table.listing(width).encode())
    return 0
