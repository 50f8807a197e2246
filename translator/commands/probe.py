"""`translator probe`: the dialect of an unknown upstream, found by asking it."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from typing import TYPE_CHECKING

import msgspec

from .common import Commands, UsageError, write
from .settings import add_settings, service_needed, settings_of

if TYPE_CHECKING:
    from translator.service.config.settings import Settings, Upstream

NOBODY_ANSWERED = 1
INTERRUPTED = 130
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "probe",
        help="find out which dialect an upstream speaks",
        description="Asks an upstream some thirty small questions, one after the other, and prints "
        "the dialect that fits with the facts that differ: settings in TOML, with what was seen in "
        "comments, which `serve --config` takes as they are. The questions cost some thousand "
        "tokens. Exit code 1: it could not be asked.",
    )
    add_settings(parser)
    add = parser.add_argument
    add(
        "--model",
        metavar="ID",
        required=True,
        help="the model to ask, by the upstream's id or one of --config (default: none, it must "
        "be given)",
    )
    add(
        "--name",
        metavar="NAME",
        type=_name,
        help="what the upstream is called in the printed settings (default: as in --config, else "
        "upstream)",
    )
    add("--json", action="store_true", help="print the report as JSON (default: settings in TOML)")
    add(
        "--max-requests",
        metavar="NUMBER",
        type=_positive,
        default=60,
        help="how many requests are sent at most (default: 60)",
    )
    add(
        "--max-seconds",
        metavar="NUMBER",
        type=_positive,
        default=600,
        help="how long it may take (default: 600)",
    )
    add("--quiet", action="store_true", help="show no progress on stderr (default: show it)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import asyncio  # not at the top: the commands of the core start without it

    with service_needed("probe"):
        from translator.probe import report as service
        from translator.probe.state import CouldNotAsk
    settings = settings_of(options, "probe")
    upstream, model = _asked(settings, options.model)
    known = options.dialect if options.dialect not in (None, "auto") else None
    logging.getLogger("translator").addHandler(logging.NullHandler())  # the report says it all
    try:
        report = asyncio.run(
            service.probe(
                upstream,
                model,
                only=known,
                max_requests=options.max_requests,
                max_seconds=options.max_seconds,
                progress=(lambda _line: None) if options.quiet else _progress,
            )
        )
    except CouldNotAsk as error:
        print(f"translator: {error}", file=sys.stderr)
        return NOBODY_ANSWERED
    except KeyboardInterrupt:
        return INTERRUPTED
    name, key = options.name or upstream.name, options.api_key_env
    if options.json:
        encoded = msgspec.json.encode(service.as_json(report, name=name, api_key_env=key))
        printed = msgspec.json.format(encoded, indent=2).decode() + "\n"
    else:
        given = [f"# its key and headers: as in {options.config}"] if options.config else []
        printed = service.as_settings(report, name=name, api_key_env=key, given=given)
    write(printed.encode())
    return 0


def _asked(settings: Settings, model: str) -> tuple[Upstream, str]:
    """The upstream to ask, and what the model is called there."""
    if (row := settings.models.get(model)) is not None:
        return row.upstream, row.upstream_model
    if len(settings.upstreams) > 1:
        known = ", ".join(settings.models)
        raise UsageError(f'--model: there is no "{model}" in the --config file; known: {known}')
    [upstream] = settings.upstreams.values()
    return upstream, model


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, - and _")
    return text
