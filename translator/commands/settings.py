"""The options that say what to serve, for every command that needs the settings.

    settings = --upstream URL, [ --dialect NAME ], [ --api-key-env NAME ] | --config FILE ;

What is wrong with them is told in one message, all mistakes at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import translator

from .terminal import Parser, UsageError, missing_package

if TYPE_CHECKING:
    from translator.service.config.settings import Settings


def add_settings(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "--upstream",
        metavar="URL",
        help="base URL of the upstream, up to and without /chat/completions, as in "
        "https://api.fireworks.ai/inference/v1; any model goes to it",
    )
    add(
        "--dialect",
        metavar="NAME",
        help="what the upstream speaks (default: auto, which is known from its host, else base): "
        + ", ".join(translator.DIALECTS),
    )
    add(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the upstream's key (default: none, and the client's "
        "own Authorization is passed on)",
    )
    add(
        "--config",
        metavar="FILE",
        help="settings in TOML, in place of --upstream, --dialect and --api-key-env "
        "(default: none)",
    )


def settings_of(
    options: argparse.Namespace,
    command: str,
    *,
    server: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings that the options ask for; raises UsageError. `server` overrides `[server]`."""
    with service_needed(command):
        from translator.service.config.loading import override, read_file, read_options
    with mistakes_told():
        if options.config is not None:
            for name in ("upstream", "dialect", "api_key_env"):
                if getattr(options, name) is not None:
                    raise UsageError(f"--{name.replace('_', '-')} belongs in the --config file")
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


@contextmanager
def service_needed(command: str) -> Generator[None]:
    """For imports from the service: a package that is missing becomes a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package(command, error) from None


@contextmanager
def mistakes_told() -> Generator[None]:
    """For what raises SettingsError: its mistakes become one UsageError."""
    from translator.service.config.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        if len(error.problems) == 1:
            raise UsageError(str(error)) from None
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        raise UsageError(f"{len(error.problems)} mistakes in the settings:{lines}") from None
