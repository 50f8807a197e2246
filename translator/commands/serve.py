"""`translator serve`: the service, in front of one upstream or a table of models."""

from __future__ import annotations

import argparse
import sys

from .settings import add_settings, mistakes_told, service_needed, settings_of
from .terminal import Commands, UsageError

REASONING_EVENTS = ("summary", "text", "both", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="answer the Responses API over HTTP",
        description="Answers the Responses API over HTTP, in front of one upstream (--upstream) "
        "or of the table of models in a file (--config).",
    )
    add_settings(parser)
    add = parser.add_argument
    add("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    add(
        "--port",
        type=_port,
        metavar="NUMBER",
        help="TCP port to listen on, 0 for a free one (default: 8080)",
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        help="least important lines to log; at info, one per request (default: info, or warning "
        "with --watch)",
    )
    add(
        "--log-format",
        choices=LOG_FORMATS,
        help="how the log reads: words for people, or a JSON object per line (default: text)",
    )
    add(
        "--reasoning-events",
        choices=REASONING_EVENTS,
        help="which events show the model's reasoning (default: summary, the one that clients "
        "of OpenAI know)",
    )
    add(
        "--retries",
        type=_retries,
        metavar="NUMBER",
        help="how often a request that the upstream did not take is sent again (default: 2)",
    )
    add(
        "--watch",
        action="store_true",
        help="show what goes on: model, phase, time to the first of the answer, speed, notices; "
        "nothing that was said (default: no)",
    )
    add(
        "--trace",
        dest="trace_folder",
        metavar="DIR",
        help="keep each exchange as a folder in DIR, all that was said in it, without keys "
        "(default: nothing is kept)",
    )
    add(
        "--workers",
        type=_count,
        metavar="NUMBER",
        help="processes that answer; SIGHUP replaces several one by one (default: 1)",
    )
    add("--post", help=argparse.SUPPRESS)  # of a worker: see `translator.service.server.workers`
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_needed("serve"):
        from translator.service.server import run as service
        from translator.service.server import workers
        from translator.service.server.worker_channel import WorkerChannel
    names = (
        "host", "port", "workers", "log_format", "reasoning_events", "retries", "trace_folder"
    )  # fmt: skip
    server = {name: value for name in names if (value := getattr(options, name)) is not None}
    settings = settings_of(options, "serve", server=server)
    with mistakes_told():
        level = options.log_level or ("warning" if options.watch else "info")
        if options.post is not None:
            parent, *listeners = map(int, options.post.split(":"))
            return service.run(settings, log_level=level, channel=WorkerChannel(parent, listeners))
        if settings.server.workers > 1:
            if options.watch:
                raise UsageError("--watch shows one process, and cannot be with several workers")
            again = [sys.executable, *sys.orig_argv[1:]]
            return workers.run(settings, log_level=level, command=again)
        return service.run(settings, log_level=level, watch=options.watch)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, 1 or more")
    return int(text)


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of retries, 0 or more")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 0 to 65535")
    return int(text)
