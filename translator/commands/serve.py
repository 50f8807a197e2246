"""`translator serve`: the service, in front of one upstream or a table of models."""

from __future__ import annotations

import argparse

from .settings import add_settings, mistakes_told, service_needed, settings_of
from .terminal import Commands

REASONING_EVENTS = ("summary", "text", "both", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")


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
        default="info",
        help="least important lines to log; at info, one per request (default: info)",
    )
    add(
        "--reasoning-events",
        choices=REASONING_EVENTS,
        help="which events show the model's reasoning (default: summary, the one that clients "
        "of OpenAI know)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_needed("serve"):
        from translator.service import run as service
    server = {
        name: value
        for name in ("host", "port", "reasoning_events")
        if (value := getattr(options, name)) is not None
    }
    settings = settings_of(options, "serve", server=server)
    with mistakes_told():
        return service.run(settings, log_level=options.log_level)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 0 to 65535")
    return int(text)
