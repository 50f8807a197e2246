"""Client configuration: options shared by `codex` and `opencode`."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .common import Parser, UsageError, whole_number
from .environment import listening
from .settings import AnyVariable, add_settings, service_imports, settings_errors, settings_of

if TYPE_CHECKING:
    from translator.setup.client import Setup


def add_setup(parser: Parser) -> None:
    """Add the options that select the service, the models, and whether to write."""
    add_settings(parser)
    add = parser.add_argument
    add(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="a model to configure, may be repeated (default: all in the --config file; required "
        "with --upstream, which serves every model)",
    )
    add(
        "--default",
        metavar="NAME",
        help="the client's default model (default: unchanged; the first one where there is no "
        "configuration yet)",
    )
    add(
        "--context-window",
        type=whole_number("a number of tokens", lowest=1),
        metavar="TOKENS",
        help="context window of models for which the settings have none (default: none)",
    )
    add(
        "--base-url",
        metavar="URL",
        help="URL of the service (default: where it listens on this machine: "
        "http://127.0.0.1:8080/v1)",
    )
    key = parser.add_mutually_exclusive_group()
    key.add_argument(
        "--key-env",
        metavar="NAME",
        help="environment variable from which the client reads its key (default: "
        "TRANSLATOR_API_KEY; none when the settings have the upstream's key or the upstream is on "
        "this machine)",
    )
    key.add_argument(
        "--no-key", action="store_true", help="the client needs no key (default: see --key-env)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--write",
        action="store_true",
        help="write to the client's own files, keeping other settings, with a backup of each "
        "changed file (default: print)",
    )
    what.add_argument(
        "--undo",
        action="store_true",
        help="take back what --write has written, however often; what you have changed since "
        "stays; needs no other option (exit code: 0 also if nothing was written, 1 if something "
        "is left)",
    )


def setup_of(
    options: argparse.Namespace, command: str, *, usual_key_env: str | None = None
) -> Setup:
    """The setup that the options select; raises UsageError."""
    settings = settings_of(options, command, server=listening(), environ=AnyVariable())
    with service_imports(command):
        from translator.setup.client import DEFAULT_KEY_ENV, setup
    with settings_errors():
        return setup(
            settings,
            models=options.model,
            context_window=options.context_window,
            base_url=options.base_url,
            key_env=options.key_env,
            usual_key_env=usual_key_env or DEFAULT_KEY_ENV,
            without_key=options.no_key,
        )


def checked_default(options: argparse.Namespace, setup: Setup) -> str | None:
    """The model that `--default` names; raises UsageError for an unknown one."""
    models = [model.id for model in setup.models]
    if options.default is not None and options.default not in models:
        known = ", ".join(models)
        raise UsageError(f'--default: there is no model "{options.default}"; known: {known}')
    default: str | None = options.default
    return default


def start_lines(options: argparse.Namespace, setup: Setup) -> list[str]:
    """The steps before the client starts, after a note on unknown context windows."""
    from translator.program.invocation import program, set_variable

    lines: list[str] = []
    if unbounded := [model.id for model in setup.models if model.context_window is None]:
        lines.append(
            f"note: the context window of {', '.join(unbounded)} is not known, so the client "
            "cannot compact in time: set context_window in the settings, or use --context-window"
        )
    names = ("config", "upstream", "dialect", "api_key_env")
    given = {name.replace("_", "-"): getattr(options, name) for name in names}
    given["port"] = _port_of(options.base_url)
    words = [word for name, v in given.items() if v is not None for word in (f"--{name}", str(v))]
    lines.append(f"start the service:  {program()} serve {shlex.join(words)}")
    if setup.key_env is not None:
        lines.append(f"set its key:        {set_variable(setup.key_env)}")
    return lines


def _port_of(base_url: str | None) -> int | None:
    """The port for `serve`, where `--base-url` is that of a service on this machine."""
    try:
        parts = urlsplit(base_url or "")
        here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
        return (parts.port or 80) if here else None
    except ValueError:
        return None
