"""Settings options: shared by every command that needs the settings of a service.

    settings = --upstream URL, [ --dialect NAME ], [ --api-key-env NAME ] | --config FILE ;

All errors in the settings are reported at once, in one UsageError.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import translator

from .common import Parser, UsageError, missing_package

if TYPE_CHECKING:
    from translator.service.config.settings import Settings


def add_settings(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "--upstream",
        metavar="URL",
        help="base URL of the upstream, without /chat/completions, as in "
        "https://api.fireworks.ai/inference/v1; it serves every model",
    )
    add(
        "--dialect",
        metavar="NAME",
        help="dialect of the upstream (default: auto, known from its host, else base): "
        + ", ".join(translator.DIALECTS),
    )
    add(
        "--api-key-env",
        metavar="NAME",
        help="environment variable with the upstream's key (default: none; the client's "
        "Authorization header is passed on)",
    )
    add(
        "--config",
        metavar="FILE",
        help="settings file in TOML, instead of --upstream, --dialect and --api-key-env "
        "(default: none)",
    )


def settings_of(
    options: argparse.Namespace,
    command: str,
    *,
    server: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings that the options select; raises UsageError. `server` overrides `[server]`."""
    with service_imports(command):
        from translator.service.config.loading import override, read_file, read_options
    _check_kinds(options)
    with settings_errors():
        if options.config is not None:
            for name in ("upstream", "dialect", "api_key_env"):
                if getattr(options, name) is not None:
                    option = f"--{name.replace('_', '-')}"
                    raise UsageError(f"{option} cannot be used with --config: set it in the file")
            return override(read_file(options.config, environ), server or {})
        if options.upstream is not None:
            return read_options(
                upstream=options.upstream,
                dialect=options.dialect or "auto",
                api_key_env=options.api_key_env,
                server=server,
                environ=environ,
            )
    raise UsageError(f"{command} needs --upstream URL or --config FILE")


def _check_kinds(options: argparse.Namespace) -> None:
    """Raise UsageError where a file is given for the URL, or a URL for the file."""
    upstream, config = options.upstream or "", options.config or ""
    if upstream.endswith(".toml"):
        raise UsageError(f"--upstream takes a URL; for a settings file use --config {upstream}")
    if config.startswith(("http://", "https://")):
        raise UsageError(f"--config takes a settings file; for a URL use --upstream {config}")


@contextmanager
def service_imports(command: str) -> Generator[None]:
    """Turns a missing package, in an import from the service, into a UsageError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package(command, error) from None


@contextmanager
def settings_errors() -> Generator[None]:
    """Turns a SettingsError into one UsageError with all of its problems."""
    from translator.service.config.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        if len(error.problems) == 1:
            raise UsageError(str(error)) from None
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        raise UsageError(f"{len(error.problems)} errors in the settings:{lines}") from None
