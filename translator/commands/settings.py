"""Settings options: shared by every command that needs the settings of a service.

    settings = --upstream URL, [ --dialect NAME ], [ --api-key-env NAME ] | --config FILE ;

Each of them may come from the environment instead (`environment`). Where the command line names a
source and the environment another one, the command line wins, and a note on stderr says so; two
sources of the same rank are an error.

All errors in the settings are reported at once, in one UsageError.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import translator

from .common import Parser, UsageError, missing_package
from .environment import add_variables, name_of, note

if TYPE_CHECKING:
    from translator.service.config.settings import Settings


_OF_UPSTREAM = ("upstream", "dialect", "api_key_env")


class AnyVariable(dict[str, str]):
    """An environment in which every key is set: only its name is needed. It has no proxy."""

    def get(self, name: str, default: object = None) -> str:
        return "" if name.lower().endswith("_proxy") else "not-needed-here"


def add_settings(parser: Parser) -> None:
    add = parser.add_argument
    upstream = add(
        "--upstream",
        metavar="URL",
        help="base URL of the upstream, without /chat/completions, as in "
        "https://api.fireworks.ai/inference/v1; it serves every model",
    )
    dialect = add(
        "--dialect",
        metavar="NAME",
        help="dialect of the upstream (default: auto, known from its host, else base): "
        + ", ".join(translator.DIALECTS),
    )
    key = add(
        "--api-key-env",
        metavar="NAME",
        help="environment variable with the upstream's key (default: none; the client's "
        "Authorization header is passed on)",
    )
    config = add(
        "--config",
        metavar="FILE",
        help="settings file in TOML, instead of --upstream, --dialect and --api-key-env "
        "(default: none)",
    )
    add_variables(parser, (upstream, dialect, key, config))


def settings_of(
    options: argparse.Namespace,
    command: str,
    *,
    server: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings that the options select; raises UsageError. `server` overrides `[server]`."""
    with service_imports(command):
        import_module("translator.service.config.loading")
    with settings_errors(options):
        return read_settings(options, command, server=server, environ=environ)


def read_settings(
    options: argparse.Namespace,
    command: str,
    *,
    server: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """As `settings_of`; raises SettingsError for mistakes in the settings."""
    from translator.service.config.loading import override, read_file, read_options

    _choose_source(options)
    _check_kinds(options)
    if options.config is not None:
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


def _choose_source(options: argparse.Namespace) -> None:
    """Remove what is overruled by the command line, with notes; raises UsageError for two sources.

    A dialect and a key in the environment belong to the upstream there: neither is used for another
    one, which would receive the key.
    """
    variables: dict[str, str] = options.from_environment
    given = [name for name in _OF_UPSTREAM if getattr(options, name) is not None]
    config, upstream = options.config, options.upstream
    notes: list[str] = []

    def ignore(name: str, reason: str) -> None:
        setattr(options, name, None)
        notes.append(f"{variables[name]} is ignored: {reason}")

    if config is not None and "config" not in variables:
        for name in given:
            if name not in variables:
                _refuse(options, name)
            ignore(name, "--config names the settings")
    elif config is not None and upstream is not None and "upstream" not in variables:
        ignore("config", "--upstream names the upstream")
    elif config is not None and given:
        _refuse(options, given[0])
    other = options.overridden.get("upstream")
    if other is not None and other != upstream:
        for name in given:
            if name in variables and getattr(options, name) is not None:
                ignore(name, "it belongs to TRANSLATOR_UPSTREAM, and --upstream names another one")
    if getattr(options, "worker_channel", None) is None:  # the parent has said it
        for one in notes:
            note(one)


def _refuse(options: argparse.Namespace, name: str) -> NoReturn:
    """Raise UsageError for an option beside a settings file, which has it as a setting."""
    both_variables = {name, "config"} <= options.from_environment.keys()
    remedy = "unset one of them" if both_variables else "set it in the file"
    raise UsageError(
        f"{name_of(options, name)} cannot be used with {name_of(options, 'config')}: {remedy}"
    )


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
def settings_errors(options: argparse.Namespace | None = None) -> Generator[None]:
    """Turns a SettingsError into one UsageError with all of its problems.

    Each is under its option, or under the variable that `options` have it from.
    """
    from translator.service.config.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        problems = list(error.problems)
        if options is not None:
            problems = [_under_variable(problem, options) for problem in problems]
        if len(problems) == 1:
            raise UsageError(problems[0]) from None
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise UsageError(f"{len(problems)} errors in the settings:{lines}") from None


def _under_variable(problem: str, options: argparse.Namespace) -> str:
    """A problem with the variable in place of the option, where the value came from there."""
    variables: dict[str, str] = options.from_environment
    if "config" in variables and problem.startswith(f"{options.config} "):
        return f"{variables['config']}: {problem}"
    option, colon, text = problem.partition(": ")
    variable = variables.get(option.removeprefix("--").replace("-", "_"))
    return f"{variable}{colon}{text}" if option.startswith("--") and variable else problem
