"""`translator tail`: shows the exchanges of a running service."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from .common import Commands, UsageError, whole_number
from .settings import service_imports

if TYPE_CHECKING:
    from translator.service.live.feed import FeedReader
    from translator.service.live.progress import Progress
    from translator.service.live.terminal import LiveView

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
        type=whole_number("a number of lines", 0),
        default=10,
        help="number of finished exchanges to show first (default: 10)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_imports("tail"):
        from translator.service.live.feed import FeedReader
        from translator.service.live.terminal import open_view
    with closing(FeedReader(Path(options.folder))) as reader:
        state = reader.read()
        if state is None:
            raise UsageError(f"no service is running with --trace {options.folder}")
        with closing(open_view(sys.stdout)) as view:
            for report in _latest(state.reports, options.lines):
                view.update(report)
            if not options.once:
                _follow(reader, view)
    return 0


def _follow(reader: FeedReader, view: LiveView) -> None:
    """Show updates until Ctrl-C."""
    runs = True
    try:
        while True:
            time.sleep(POLL_S)
            changes = reader.read()
            if runs != (changes is not None):
                runs = not runs
                view.write_line(
                    "the service is running again" if runs else "the service has stopped"
                )
            if changes is None:
                continue
            for report in changes.reports:
                view.update(report)
            for lost in changes.lost:
                view.remove(lost)
    except KeyboardInterrupt:
        return


def _latest(reports: list[Progress], count: int) -> list[Progress]:
    """The latest state of each exchange: all open ones, and the last `count` finished ones."""
    latest = {report.id: report for report in reports}
    over = [report for report in latest.values() if report.ended]
    gone = {report.id for report in over[: max(0, len(over) - count)]}
    return [report for report in latest.values() if report.id not in gone]
