"""`translator check`: checks the settings, the upstreams, and a small request to each model."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

import translator
from translator.common.toml import toml_key
from translator.wire.json_values import as_object, as_string

from .common import Commands, UsageError, one_line, read, whole_number, write
from .environment import note_misspelt
from .settings import add_settings, read_settings, service_imports, settings_errors

if TYPE_CHECKING:
    from translator.check.causes import Names
    from translator.check.results import Report
    from translator.service.config.settings import Settings

PLAIN_WIDTH = 120
"""Width of the table in a file or a pipe, in columns."""

MAX_SECONDS = 86_400
FAILED = 1


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="check the settings, the upstreams and the models",
        description="Checks a settings file, or one upstream: the settings, the database of "
        "[store], whether each upstream can be reached and accepts its key, and one small request "
        "to each model, as the service would send it. The requests cost some tokens; --offline "
        "sends none. Exit code 1: something failed.",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="settings file in TOML, as with --config"
    )
    add_settings(parser)
    add = parser.add_argument
    add(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="a model to check, may be repeated (default: all in the settings)",
    )
    add(
        "--key-env",
        metavar="NAME",
        help="environment variable with a client's key, for upstreams to which those are passed on "
        "(default: none)",
    )
    add("--offline", action="store_true", help="check only the settings (default: no)")
    add(
        "--timeout",
        metavar="SECONDS",
        type=whole_number("a whole number of seconds", 1, MAX_SECONDS),
        default=60,
        help="longest time for one request (default: 60)",
    )
    add(
        "--max-seconds",
        metavar="NUMBER",
        type=whole_number("a whole number of seconds", 1, MAX_SECONDS),
        default=600,
        help="time limit for all requests (default: 600)",
    )
    add("--json", action="store_true", help="print the results as JSON (default: a table)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.file is not None:
        if options.config is not None and "config" not in options.from_environment:
            raise UsageError("check takes FILE or --config FILE, not both")
        options.config = options.file
        options.from_environment.pop("config", None)
    note_misspelt()
    with service_imports("check"):
        import asyncio  # not at the top: the commands of the core start without these
        import logging

        from translator.check.results import Report, problem_rows
        from translator.check.run import Plan, check
        from translator.service.config.settings import SettingsError
    try:
        settings = read_settings(options, "check")
    except SettingsError as error:
        if options.config is None or " cannot be read: " in error.problems[0]:
            with settings_errors(options):
                raise
        return _print(Report(problem_rows(error.problems, options.config)), options)
    logging.getLogger("translator").addHandler(logging.NullHandler())  # no log output
    progress = _Progress(shown=sys.stderr.isatty() and not options.json)
    plan = Plan(
        settings=settings,
        source=options.config or "command line",
        names=_names(settings, options),
        models=list(dict.fromkeys(options.model)),
        authorization=_authorization(options.key_env),
        offline=options.offline,
        request_s=options.timeout,
        max_s=options.max_seconds,
    )
    try:
        report = asyncio.run(check(plan, progress=progress.show))
    except translator.NotFound as error:
        raise UsageError(f"--{one_line(error)}") from None
    finally:
        progress.clear()
    return _print(report, options)


def _print(report: Report, options: argparse.Namespace) -> int:
    from translator.check.table import can_encode, table

    if options.json:
        encoded = msgspec.json.encode(report.as_json())
        write(msgspec.json.format(encoded, indent=2) + b"\n")
    else:
        terminal = sys.stdout.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        width = shutil.get_terminal_size().columns if terminal else PLAIN_WIDTH
        plain = not can_encode(sys.stdout.encoding)
        print(table(report, width=width, colour=colour, plain=plain), end="")
    return 0 if report.ok else FAILED


def _names(settings: Settings, options: argparse.Namespace) -> dict[str, Names]:
    """How the settings of each upstream are called where they are from."""
    from translator.check.causes import Names

    document: dict[str, Any] = {}
    if options.config is not None:
        document = tomllib.loads(read(options.config).decode())
    sections = as_object(document.get("upstreams")) or {}
    found: dict[str, Names] = {}
    for name, upstream in settings.upstreams.items():
        section = as_object(sections.get(name)) or {}
        variable = options.api_key_env or as_string(section.get("api_key_env"))
        path = f"upstreams.{toml_key(name)}."
        url, key, dialect = f"{path}base_url", f"{path}api_key_env", f"{path}dialect"
        if options.config is None:
            url, key, dialect = "--upstream", "--api-key-env", "--dialect"
        credential = f"the key in {variable}" if variable else f"the key in {path}headers"
        if options.key_env is not None and not upstream.has_credential:
            credential = f"the key in {options.key_env}"
        found[name] = Names(url=url, key=key, dialect=dialect, credential=credential)
    return found


def _authorization(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UsageError(f"--key-env: the environment variable {variable} holds no key")
    return f"Bearer {key}"


class _Progress:
    """A line on stderr that says what is asked for now, while the table is not there yet."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def show(self, text: str) -> None:
        if self._shown:
            columns = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[Kchecking {text}"[: columns + 4], end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
