"""Command line: `translator COMMAND`, with one module per command in `translator.commands`.

    translator serve     run the service in front of one upstream or a table of models
    translator up        run the service and, in front of it, one client: up -- codex
    translator check     check the settings, the upstreams and the models
    translator probe     find out which dialect an upstream speaks
    translator convert   print the chat request for a Responses request
    translator replay    print the Responses events for an upstream's body, or replay a capture
    translator fixture   turn a captured exchange into a test fixture
    translator tail      show the exchanges of a running service
    translator dialects  print the known dialects and their facts
    translator codex     print or write the configuration of Codex CLI
    translator opencode  print or write the configuration of OpenCode
    translator key       create a key for a client of the service
    translator account   look after the accounts of the service
    translator channel   say which models the keys of accounts may use
    translator price     say what models cost the accounts
    translator store     look after the database of stored responses
    translator completion   print a script that completes commands in a shell
    translator demo      show a streamed request on both sides, without key or network

A usage error or an unreadable file prints one sentence on stderr; exit code 2. A request that the
Responses API does not allow prints its error; exit code 1, also of a check in which something
failed. Options of `serve` may come from the environment (`commands.environment`). `convert`,
`replay`, `fixture` and `dialects` need only the core.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

from .commands.common import Commands, Parser, UsageError, Version
from .commands.environment import read_variables

PROGRAM = "translator"
COMMANDS = (
    *("serve", "up", "check", "probe", "convert", "replay", "fixture", "tail", "dialects"),
    *("codex", "opencode", "key", "account", "channel", "price", "store", "completion", "demo"),
)
"""The modules of `commands`, in the order of the help."""


class Command(Protocol):
    """A module of `commands`."""

    def add(self, commands: Commands) -> None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    _open_standard_streams()
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] == ["demo"]:
            from .commands import demo

            return demo.run(words[1:])  # it parses its own options
        parser = _parser(words[:1])
        options = parser.parse_args(words)
        read_variables(options)
        run: Callable[[argparse.Namespace], int] | None = getattr(options, "run", None)
        if run is None:  # without a command
            parser.print_help()
            return 0
        return run(options)
    except UsageError as error:
        if not _logged(words, error):
            print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (`| head`) has closed the pipe. Python flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if sys.excepthook is not sys.__excepthook__ or not _logged(words, error):
            raise  # which the log has, once it has begun
        return 1


def _logged(words: Sequence[str], error: Exception) -> bool:
    """Whether an error was written as a line of the JSON log that the service is to have."""
    if words[:1] != ["serve"]:
        return False
    from .commands.start_errors import log_start_error, logs_json

    if not logs_json(words[1:]):
        return False
    log_start_error(error)
    return True


def _open_standard_streams() -> None:
    """Open the null device in place of a standard stream that the caller has closed.

    Else the next socket gets its number, and whatever a library writes to stderr goes to a client.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _parser(first: Sequence[str]) -> Parser:
    """The parser of all commands, or of one alone where the `first` word is its name."""
    parser = Parser(
        prog=PROGRAM,
        description="Serves the Responses API with models that speak only Chat Completions.",
        epilog=f"{PROGRAM} COMMAND --help shows the options of a command.",
    )
    parser.add_argument(
        "-V", "--version", action=Version, help="show the versions of translator and Python"
    )
    if "completion" in first:  # which completes all commands
        parser.set_defaults(parser=parser)
        first = ()
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in [name for name in COMMANDS if name in first] or COMMANDS:
        command = cast("Command", import_module(f"translator.commands.{name}"))
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
