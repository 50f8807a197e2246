"""`translator serve`: runs the service in front of one upstream or a table of models."""

from __future__ import annotations

import argparse
import gc
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_args

from translator.wire.events import ReasoningEvents

from .common import PORT, Commands, UsageError, whole_number
from .environment import add_variables, name_of, note_misspelt
from .settings import add_settings, service_imports, settings_errors, settings_of

REASONING_EVENTS = get_args(ReasoningEvents)
PACKAGES = ("aiohttp", "httptools", "httpx", "starlette", "uvicorn", "websockets")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the service: the Responses API over HTTP",
        description="Serves the Responses API over HTTP, in front of one upstream (--upstream) or "
        "the table of models in a settings file (--config).",
    )
    add_settings(parser)

    def add(name: str, **fields: Any) -> None:  # noqa: ANN401 - as argparse takes them
        add_variables(parser, [parser.add_argument(name, **fields)])

    add("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    add(
        "--port",
        type=whole_number(*PORT),
        metavar="NUMBER",
        help="TCP port to listen on, 0 for any free one (default: 8080)",
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        help="lowest level to log; info logs one line per request (default: info, or warning with "
        "--watch)",
    )
    add(
        "--log-format",
        choices=LOG_FORMATS,
        help="log as text, or as one JSON object per line (default: text)",
    )
    add(
        "--reasoning-events",
        choices=REASONING_EVENTS,
        help="events that contain the model's reasoning (default: summary, as OpenAI's own "
        "clients expect)",
    )
    add(
        "--retries",
        type=whole_number("a number of retries, 0 or more", 0),
        metavar="NUMBER",
        help="maximum retries of a request that the upstream did not accept (default: 2)",
    )
    add(
        "--watch",
        action=argparse.BooleanOptionalAction,
        help="show the progress of all requests: model, phase, time to first output, speed, "
        "notices; no message content (default: no)",
    )
    add(
        "--trace",
        dest="trace_folder",
        metavar="DIR",
        help="record each exchange as a folder in DIR, with all message content, without keys "
        "(default: nothing is recorded)",
    )
    add(
        "--workers",
        type=whole_number("a number of processes, 1 or more", 1),
        metavar="NUMBER",
        help="number of worker processes; with several, SIGHUP replaces them one by one "
        "(default: 1)",
    )
    # see `translator.service.server.workers`
    parser.add_argument("--worker-channel", help=argparse.SUPPRESS)
    parser.add_argument("--worker-limits", help=argparse.SUPPRESS)
    parser.add_argument("--worker-log-format", choices=LOG_FORMATS, help=argparse.SUPPRESS)
    # see `translator.service.server.launched`
    parser.add_argument("--launched", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    gc.disable()  # what is loaded until the service runs is no garbage; it enables it again
    try:
        return _run(options)
    finally:
        gc.enable()


def _run(options: argparse.Namespace) -> int:
    _find_packages()
    names = (
        *("host", "port", "workers", "log_level", "log_format", "reasoning_events", "retries"),
        *("watch", "trace_folder"),
    )
    server = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.worker_log_format is not None:  # not by a parent of an older version
        server["log_format"] = options.worker_log_format  # both write to one stream
    if options.worker_channel is None:
        note_misspelt()
    settings = settings_of(options, "serve", server=server)
    with settings_errors(options):
        if options.launched is not None:
            from translator.service.server import launched

            settings = launched.settings_for_one(settings, options.launched)
            launched.end_with_launcher()
        watch = settings.server.watch
        level = settings.server.log_level or ("warning" if watch else "info")
        if options.worker_channel is None and settings.server.workers > 1:
            if sys.platform == "win32":
                raise UsageError(
                    "server.workers: Windows runs one process only; start several services on "
                    "ports of their own, behind a proxy"
                )
            if watch:
                name = "server.watch" if options.watch is None else name_of(options, "watch")
                raise UsageError(f"{name} shows one process, not several workers")
            from translator.service.server import workers  # all that the parent needs

            again = [sys.executable, *sys.orig_argv[1:]]
            again += ["--worker-log-format", settings.server.log_format]
            return workers.run(settings, log_level=level, command=again)
        with service_imports("serve"):
            from translator.service.upstreams.unread_certificates import unread_certificates

            with unread_certificates():
                import_module("aiohttp")
            from translator.service.server import run as service
            from translator.service.server.worker_channel import WorkerChannel
        if options.worker_channel is not None:
            parent, *listeners = map(int, options.worker_channel.split(":"))
            limits = None
            if options.worker_limits is not None:  # not by a parent of an older version
                file, column = map(int, options.worker_limits.split(":"))
                limits = file, column
            channel = WorkerChannel(parent, listeners, limits)
            return service.run(settings, log_level=level, channel=channel)
        return service.run(settings, log_level=level, watch=watch)


def _find_packages() -> None:
    """Raise UsageError for a package that is not installed: some are imported long after this."""
    with service_imports("serve"):
        for package in PACKAGES:
            if find_spec(package) is None:
                raise ModuleNotFoundError(name=package)
