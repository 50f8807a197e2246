"""`translator fixture`: turns a captured exchange into a test fixture."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from translator.captures.fixture import default_name, fixture_of
from translator.captures.folder import Capture, CaptureError

from .common import Commands, UsageError

_NAME = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "fixture",
        help="turn a captured exchange into a test fixture",
        description="Turns an exchange captured by serve --trace into a test fixture: the request, "
        "the chat request, the upstream's response, and the current output. Review the files "
        "before you commit them: they contain all message content.",
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the captured exchange")
    add(
        "--name",
        metavar="UPSTREAM/CASE",
        help="name of the fixture (default: the dialect; the time and the model)",
    )
    add(
        "--to", metavar="DIR", default="fixtures", help="folder of the fixtures (default: fixtures)"
    )
    add(
        "--title",
        metavar="TEXT",
        default="As it was seen",
        help="what the case shows (default: As it was seen)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        capture = Capture(Path(options.folder))
        files = fixture_of(capture, options.title)
    except CaptureError as error:
        raise UsageError(f"{options.folder} cannot become a fixture: {error}") from None
    name = options.name or default_name(capture)
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name: {name!r} is not of the form UPSTREAM/CASE")
    place = Path(options.to) / name
    try:
        place.mkdir(parents=True)
        for file, content in files.items():
            (place / file).write_bytes(content)
    except FileExistsError:
        raise UsageError(f"{place} exists already; choose another --name") from None
    except OSError as error:
        raise UsageError(f"{place} cannot be written: {error.strerror}") from None
    for file in files:
        print(place / file)
    return 0
