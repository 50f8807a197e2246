"""`translator probe`: finds out which dialect an upstream speaks."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from translator.common.toml import toml_lines

from .common import Commands, UsageError, whole_number, write
from .settings import add_settings, service_imports, settings_of

if TYPE_CHECKING:
    from translator.service.config.settings import Settings, Upstream

PROBE_FAILED = 1
NOTHING_WORKS = 3
INTERRUPTED = 130

MAX_LIMIT = 999_999
"""Highest value of `--max-requests` and `--max-seconds`."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "probe",
        help="find out which dialect an upstream speaks",
        description="Sends about thirty small requests to an upstream, one at a time, and prints "
        "the best dialect and the facts that differ from it: a settings file for serve --config, "
        "with the findings in comments. An agent turn checks these settings; where it fails, the "
        "next best are tried. The requests cost a few thousand tokens. Exit code 1: the upstream "
        "could not be probed. Exit code 3: no settings worked, and none are printed.",
    )
    add_settings(parser)
    add = parser.add_argument
    add(
        "--model",
        metavar="ID",
        required=True,
        help="the model to probe, by the upstream's id or as in --config (required)",
    )
    add(
        "--name",
        metavar="NAME",
        type=_name,
        help="name of the upstream in the printed settings (default: as in --config, else "
        "upstream)",
    )
    add("--json", action="store_true", help="print the report as JSON (default: settings in TOML)")
    add(
        "--max-requests",
        metavar="NUMBER",
        type=whole_number("a whole number above 0", 1, MAX_LIMIT),
        default=60,
        help="maximum number of requests (default: 60)",
    )
    add(
        "--max-seconds",
        metavar="NUMBER",
        type=whole_number("a whole number above 0", 1, MAX_LIMIT),
        default=600,
        help="time limit for all requests (default: 600)",
    )
    add("--quiet", action="store_true", help="print no progress on stderr (default: print it)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import asyncio  # not at the top: the commands of the core start without these
    import logging

    with service_imports("probe"):
        from translator.probe.report import as_json, as_settings
        from translator.probe.run import probe
        from translator.probe.state import ProbeFailed
    settings = settings_of(options, "probe")
    upstream, model = _target(settings, options.model)
    known = options.dialect if options.dialect not in (None, "auto") else None
    logging.getLogger("translator").addHandler(logging.NullHandler())  # no log output
    try:
        report = asyncio.run(
            probe(
                upstream,
                model,
                only=known,
                max_requests=options.max_requests,
                max_seconds=options.max_seconds,
                progress=(lambda _line: None) if options.quiet else _progress,
            )
        )
    except ProbeFailed as error:
        print(f"translator: {error}", file=sys.stderr)
        return PROBE_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    kept: dict[str, Any] = {
        "name": options.name or upstream.name,
        "api_key_env": options.api_key_env,
        "fallback_urls": upstream.fallback_urls,
    }
    if options.config is not None:
        kept |= _kept_of_file(Path(options.config), upstream.name)
    if options.json:
        encoded = msgspec.json.encode(as_json(report, **kept))
        printed = msgspec.json.format(encoded, indent=2).decode() + "\n"
    else:
        printed = as_settings(report, **kept)
    write(printed.encode())
    if not report.works:
        print(
            f"translator: No settings worked, and none are printed. The last reason: "
            f"{report.trials[-1].outcome}",
            file=sys.stderr,
        )
        return NOTHING_WORKS
    if report.trials[-1].status in ("lost", "unknown"):
        print(f"translator: The settings are {report.trials[-1].outcome}.", file=sys.stderr)
    return 0


def _target(settings: Settings, model: str) -> tuple[Upstream, str]:
    """The upstream to probe, and its id of the model."""
    if (row := settings.models.get(model)) is not None:
        return row.upstream, row.upstream_model
    if settings.catch_all is not None:
        return settings.catch_all.upstream, settings.catch_all.upstream_model or model
    if len(settings.upstreams) > 1:
        known = ", ".join(settings.models)
        raise UsageError(f'--model: there is no "{model}" in the --config file; known: {known}')
    [upstream] = settings.upstreams.values()
    return upstream, model


def _kept_of_file(path: Path, name: str) -> dict[str, Any]:
    """What the printed settings keep of an upstream's section; no value that may be a secret."""
    from translator.service.config.secrets import SECRET_NAME

    section = tomllib.loads(path.read_text("utf-8"))["upstreams"][name]
    headers: dict[str, str] = section.get("headers", {})
    secret = [header for header in headers if SECRET_NAME.search(header)]
    plain = {header: value for header, value in headers.items() if header not in secret}
    given = [*toml_lines({"headers": plain})] if plain else []
    if secret:
        given += [f"# key and headers: as in {path}", f"#   not printed: {', '.join(secret)}"]
    return {"api_key_env": section.get("api_key_env"), "given": given}


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, - and _")
    return text
