"""What every command needs: sentences for mistakes, bytes in, bytes out, and a dialect by name."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

import translator

SERVICE_PACKAGES = frozenset(
    "aiohttp httptools httpx httpx_aiohttp prometheus_client starlette tenacity tomlkit uvicorn"
    " websockets".split()
)

REPLAY_TIME = 1_700_000_000
"""When a replayed response says that it was made: its output must not change from run to run."""


class Commands(Protocol):
    """Where a command adds its parser; what argparse calls subparsers."""

    def add_parser(self, name: str, *, help: str, description: str) -> Parser: ...


class UsageError(Exception):
    """The command line cannot be followed; the text is the sentence to print."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose mistakes are sentences, without the usage in front of them."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def add_dialect(parser: Parser) -> None:
    parser.add_argument(
        "--dialect",
        metavar="NAME",
        default="base",
        type=dialect,
        help="what the upstream speaks (default: base): " + ", ".join(translator.DIALECTS),
    )


def dialect(name: str) -> str:
    """A dialect's name, as an argparse type."""
    if name not in translator.DIALECTS:
        known = ", ".join(translator.DIALECTS)
        raise argparse.ArgumentTypeError(f'there is no dialect "{name}"; known: {known}')
    return name


def missing_package(command: str, error: ModuleNotFoundError) -> Exception:
    """The error to raise when the service cannot be imported."""
    package = (error.name or "").partition(".")[0]
    if package not in SERVICE_PACKAGES:
        return error
    return UsageError(
        f"{command} needs {package}: install it with pip install 'translator[service]'"
    )


def translation(request: bytes, dialect: str) -> translator.Translation:
    """A translation whose ids are counted and whose time stands still."""
    count = itertools.count(1)
    return translator.Translation(
        request,
        dialect=dialect,
        response_id="resp_1",
        created_at=REPLAY_TIME,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        now=lambda: REPLAY_TIME,
    )


def sentence(error: translator.InvalidRequest) -> str:
    """A refused request in one line: the field, and what is wrong with it."""
    where = f"{error.param}: " if error.param else ""
    return f"{where}{error.message}"


def read(path: str) -> bytes:
    """A file, or standard input for `-`; raises UsageError."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def write(output: bytes) -> None:
    """Bytes as they are: a terminal's encoding must not touch JSON."""
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    out.write(output)
    out.flush()
