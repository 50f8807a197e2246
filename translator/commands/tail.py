"""`translator tail`: shows the exchanges of a running service."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from .common import Commands, UsageError
from .settings import service_imports

if TYPE_CHECKING:
    from translator.service.live.feed import Reader
    from translator.service.live.progress import Sight
    from translator.service.live.terminal import Show

POLL_S = 0.2


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "tail",
        help="show the exchanges of a running service",
        description="Shows the exchanges of a service started with serve --trace DIR, live: model, "
        "phase, time to first output, speed, notices. In a pipe, prints a line for each change. "
        "Shows no message content.",
    )
    parser.add_argument("folder", metavar="DIR", help="the folder given to serve --trace")
    parser.add_argument(
        "--once",
        action="store_true",
        help="show the current state and exit (default: follow until Ctrl-C)",
    )
    parser.add_argument(
        "--lines",
        metavar="NUMBER",
        type=int,
        default=10,
        help="number of finished exchanges to show first (default: 10)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_imports("tail"):
        from translator.service.live.feed import Reader
        from translator.service.live.terminal import show_on
    with closing(Reader(Path(options.folder))) as reader:
        begun = reader.read()
        if begun is None:
            raise UsageError(f"no service is running with --trace {options.folder}")
        with closing(show_on(sys.stdout)) as show:
            for sight in _latest(begun.sights, options.lines):
                show.tell(sight)
            if not options.once:
                _follow(reader, show)
    return 0


def _follow(reader: Reader, show: Show) -> None:
    """Show updates until Ctrl-C."""
    runs = True
    try:
        while True:
            time.sleep(POLL_S)
            news = reader.read()
            if runs != (news is not None):
                runs = not runs
                show.say("the service is running again" if runs else "the service has stopped")
            if news is None:
                continue
            for sight in news.sights:
                show.tell(sight)
            for lost in news.lost:
                show.drop(lost)
    except KeyboardInterrupt:
        return


def _latest(sights: list[Sight], count: int) -> list[Sight]:
    """The latest state of each exchange: all open ones, and the last `count` finished ones."""
    latest = {sight.id: sight for sight in sights}
    over = [sight for sight in latest.values() if sight.over]
    gone = {sight.id for sight in over[: max(0, len(over) - count)]}
    return [sight for sight in latest.values() if sight.id not in gone]
