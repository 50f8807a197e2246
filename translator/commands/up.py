"""`translator up`: runs the service and one client in front of it, until the client ends."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .common import Commands, UsageError, printable, whole_number
from .serve import LOG_LEVELS
from .settings import add_settings, service_imports, settings_errors, settings_of


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "up",
        help="run the service and one client in front of it, as in: up --upstream URL -- codex",
        description="Runs the service on a free port of this machine, with a key for this run "
        "alone, and the client in front of it; the service ends with the client. Codex and "
        "OpenCode are set up for it, and their own files stay as they are. Other programs get "
        "OPENAI_BASE_URL and OPENAI_API_KEY. The upstream gets the key of --api-key-env or the "
        "--config file, never the client's. The exit code is that of the client.",
    )
    parser.usage = "translator up [OPTIONS] -- COMMAND [ARGUMENT ...]"
    add_settings(parser)
    add = parser.add_argument
    add(
        "--model",
        metavar="NAME",
        help="the model for the client (default: the first in the --config file, or that the "
        "upstream lists)",
    )
    add(
        "--context-window",
        type=whole_number("a number of tokens", lowest=1),
        metavar="TOKENS",
        help="context window of models for which neither the settings nor the upstream say one "
        "(default: none)",
    )
    add(
        "--log",
        metavar="FILE",
        type=Path,
        help="file for the log of the service (default: a temporary file, named at the end where "
        "something went wrong)",
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        help="lowest level to log; info logs one line per request (default: info)",
    )
    add(
        "--trace",
        metavar="DIR",
        help="record each exchange as a folder in DIR, with all message content, without keys "
        "(default: nothing is recorded)",
    )
    add(
        "command",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND",
        help="the client and its arguments, as in: -- codex exec 'fix the tests'",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    words: list[str] = options.command
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise UsageError("up needs a command to run, as in: translator up --upstream URL -- codex")
    settings = settings_of(options, "up")
    with service_imports("up"):
        from translator.launch import session
    log: Path | None = options.log
    if log is not None:
        try:
            log.open("ab").close()
        except OSError as error:
            raise UsageError(f"--log: {log} cannot be written: {error.strerror}") from None
    asked = session.Asked(
        command=command,
        options=_serve_options(options),
        model=options.model,
        context_window=options.context_window,
        api_key_env=options.api_key_env,
        log=log,
    )
    try:
        with settings_errors():
            return session.run(asked, settings, dict(os.environ), _say)
    except session.CannotLaunch as error:
        raise UsageError(str(error)) from None


def _serve_options(options: argparse.Namespace) -> list[str]:
    """The options of `translator serve` that were given."""
    names = ("upstream", "dialect", "api_key_env", "config", "log_level", "trace")
    given = {name: getattr(options, name) for name in names}
    return [
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", value)
    ]


def _say(line: str) -> None:
    print(f"translator: {printable(line)}", file=sys.stderr, flush=True)
