"""`translator replay`: an upstream's body in, the Responses events out."""

from __future__ import annotations

import argparse
import sys

import translator

from .terminal import Commands, add_dialect, read, sentence, translation, write


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "replay",
        help="print the Responses events that an upstream's body becomes",
        description="Reads the body of an upstream's answer, a stream or one JSON object, and "
        "prints the Responses events that a client would get. Ids and times are the same in "
        "every run.",
    )
    parser.add_argument(
        "body",
        nargs="?",
        default="-",
        metavar="FILE",
        help="the upstream's body (default: -, standard input)",
    )
    add_dialect(parser)
    parser.add_argument(
        "--request",
        metavar="FILE",
        help="the Responses request that was asked, JSON: its tools decide what calls become "
        "(default: a request without tools)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one event per line as JSON (default: frames of server-sent events)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    request = b'{"model":"replay","input":"replay","stream":true}'
    if options.request is not None:
        request = read(options.request)
    body = read(options.body)
    try:
        replayed = translation(request, options.dialect)
    except translator.InvalidRequest as error:
        print(f"{options.request}: {sentence(error)}", file=sys.stderr)
        return 1
    events = [*replayed.receive(body), *replayed.close()]
    if options.json:
        write(b"".join(translator.encode_json(event) + b"\n" for event in events))
    else:
        write(b"".join(map(translator.encode_sse, events)) + translator.DONE)
    return 0
