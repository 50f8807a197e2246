"""`translator convert`: prints the chat request for a Responses request."""

from __future__ import annotations

import argparse
import sys

import msgspec

import translator

from .common import Commands, one_line, printable, read, translation, write
from .routes import add_route, routed


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="print the chat request for a Responses request",
        description="Reads a Responses request and prints the chat request that would be sent "
        "upstream. Notices of what was dropped or weakened go to stderr, one per line. With "
        "--config it is the request that the service would send for that model.",
    )
    parser.add_argument(
        "request",
        nargs="?",
        default="-",
        metavar="FILE",
        help="the request in JSON (default: -, standard input)",
    )
    add_route(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        converted = translation(*routed(options, read(options.request)))
    except translator.InvalidRequest as error:
        print(one_line(error), file=sys.stderr)
        return 1
    write(msgspec.json.format(converted.chat_body, indent=2) + b"\n")
    for notice in converted.notices:
        line = f"notice: {notice.path}: {notice.message} [{notice.code}]"
        print(printable(line), file=sys.stderr)
    return 0
