"""`translator tail`: what goes on in a service that keeps exchanges."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from .settings import service_needed
from .terminal import Commands, UsageError

if TYPE_CHECKING:
    from translator.service.live.feed import FeedReader
    from translator.service.live.progress import Progress
    from translator.service.live.terminal import LiveView

POLL_S = 0.2


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "tail",
        help="show what goes on in a service that keeps exchanges",
        description="Shows the exchanges of a service that was started with serve --trace DIR, "
        "as they happen: model, phase, time to the first of the answer, speed, notices. In a pipe, "
        "a line for each change. Nothing that was said is shown.",
    )
    parser.add_argument("folder", metavar="DIR", help="the folder of serve --trace")
    parser.add_argument(
        "--once",
        action="store_true",
        help="show what there is, and end (default: go on until Ctrl-C)",
    )
    parser.add_argument(
        "--lines",
        metavar="NUMBER",
        type=int,
        default=10,
        help="how many exchanges that are over to begin with (default: 10)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_needed("tail"):
        from translator.service.live.feed import FeedReader
        from translator.service.live.terminal import open_view
    with closing(FeedReader(Path(options.folder))) as reader:
        begun = reader.read()
        if begun is None:
            raise UsageError(
                f"no service is running that was started with --trace {options.folder}"
            )
        with closing(open_view(sys.stdout)) as show:
            for sight in _latest(begun.reports, options.lines):
                show.update(sight)
            if not options.once:
                _follow(reader, show)
    return 0


def _follow(reader: FeedReader, show: LiveView) -> None:
    """Show what comes, until Ctrl-C."""
    runs = True
    try:
        while True:
            time.sleep(POLL_S)
            news = reader.read()
            if runs != (news is not None):
                runs = not runs
                show.write_line("the service is back" if runs else "the service has ended")
            if news is None:
                continue
            for sight in news.reports:
                show.update(sight)
            for lost in news.lost:
                show.remove(lost)
    except KeyboardInterrupt:
        return


def _latest(sights: list[Progress], count: int) -> list[Progress]:
    """The last that was seen of each: of those that are over, so many; of the others, all."""
    latest = {sight.id: sight for sight in sights}
    over = [sight for sight in latest.values() if sight.ended]
    gone = {sight.id for sight in over[: max(0, len(over) - count)]}
    return [sight for sight in latest.values() if sight.id not in gone]
