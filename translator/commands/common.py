"""Command-line plumbing of all commands: parser, usage errors, argument types, input, output."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

import translator

SERVICE_PACKAGES = frozenset(
    "aiohttp httptools httpx prometheus_client shtab starlette tomlkit uvicorn websockets".split()
)

REPLAY_TIME = 1_700_000_000
"""`created_at` of a replayed response, in seconds: output must not change from run to run."""


PORT = ("a port number, 0 to 65535", 0, 65535)
"""The description and the bounds of a TCP port."""


class Commands(Protocol):
    """The subparsers of argparse, to which a command adds its own."""

    def add_parser(self, name: str, *, help: str, description: str) -> Parser: ...


class UsageError(Exception):
    """The command line is invalid; the text is the sentence to print."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        from translator.program.invocation import program

        command = self.prog.partition(" ")[2]
        raise UsageError(f"{message} (see {' '.join(filter(None, (program(), command)))} --help)")


class Version(argparse.Action):
    """The option `--version`: prints one line, and ends the program."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str = argparse.SUPPRESS,
        default: str = argparse.SUPPRESS,
        help: str | None = None,
    ) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=default, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        import platform  # not at the top: no other command needs it

        print(
            f"translator {translator.__version__} ({platform.python_implementation()} "
            f"{platform.python_version()}, {platform.platform(terse=True)}, {platform.machine()})"
        )
        parser.exit()


def add_dialect(parser: Parser) -> None:
    parser.add_argument(
        "--dialect",
        metavar="NAME",
        type=dialect,
        help="dialect of the upstream (default: base): " + ", ".join(translator.DIALECTS),
    )


def dialect(name: str) -> str:
    """An argparse type: the name of a dialect."""
    if name not in translator.DIALECTS:
        known = ", ".join(translator.DIALECTS)
        raise argparse.ArgumentTypeError(f'there is no dialect "{name}"; known: {known}')
    return name


def whole_number(what: str, lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """An argparse type: a number within bounds; `what` describes it in the error."""

    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else None
        if value is None or value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return number


def missing_package(command: str, error: ModuleNotFoundError) -> Exception:
    """The error to raise when an import of the service fails."""
    package = (error.name or "").partition(".")[0]
    if package not in SERVICE_PACKAGES:
        return error
    from translator.program.invocation import install_hint

    return UsageError(f"{command} needs {package}: install it with {install_hint('service')}")


def translation(
    request: bytes | translator.ParsedRequest,
    dialect: str | translator.Dialect,
    target: translator.Target,
    options: translator.Options,
) -> translator.Translation:
    """A translation with counted ids and a fixed time."""
    count = itertools.count(1)
    return translator.Translation(
        request,
        dialect=dialect,
        response_id="resp_1",
        created_at=REPLAY_TIME,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        now=lambda: REPLAY_TIME,
        target=target,
        options=options,
    )


def one_line(error: translator.InvalidRequest) -> str:
    """The error of an invalid request: its field and its message."""
    where = f"{error.param}: " if error.param else ""
    return printable(f"{where}{error.message}")


def printable(text: str) -> str:
    """Text for a line on a terminal: characters that would end it or control it are escaped."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def read(path: str) -> bytes:
    """The bytes of a file, or of standard input for `-`; raises UsageError."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def write(output: bytes) -> None:
    """Write bytes to standard output: a terminal's encoding must not change JSON."""
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    out.write(output)
    out.flush()
