"""The command line. What it decides: which words mean what, and what a wrong one costs.

    translator serve     the service, in front of one upstream or a table of models
    translator probe     the dialect of an unknown upstream, found by asking it
    translator convert   a Responses request in, the chat request out
    translator replay    an upstream's body in, the Responses events out; or a kept exchange
    translator fixture   a test case from a captured exchange
    translator tail      what goes on in a service that keeps exchanges
    translator dialects  what is known of each kind of upstream
    translator codex     the files that Codex CLI needs to use the service, printed or written
    translator opencode  the same for OpenCode
    translator key       a key for a client of the service
    translator demo      a streamed request through all of it, without key or network

A wrong option or an unreadable file is one sentence on stderr and exit code 2. A request that the
Responses API does not allow is its error sentence and exit code 1. `convert`, `replay` and
`dialects` need no more than the core.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .commands import (
    codex,
    convert,
    demo,
    dialects,
    fixture,
    key,
    opencode,
    probe,
    replay,
    serve,
    tail,
)
from .commands.terminal import Parser, UsageError

PROGRAM = "translator"
COMMANDS = (serve, probe, convert, replay, fixture, tail, dialects, codex, opencode, key, demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] == ["demo"]:
            return demo.run(words[1:])  # its options are its own
        options = _parser().parse_args(words)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except UsageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Makes models that speak Chat Completions answer the Responses API.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
