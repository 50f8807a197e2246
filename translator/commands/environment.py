"""Environment variables in place of options: `--log-level` is also TRANSLATOR_LOG_LEVEL.

    value = command line | environment | settings file | default ;     the first one that is there

An empty variable is none. A switch takes 1, true, yes or on, and 0, false, no or off. Worker
processes inherit the environment, so they read the same.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from .common import PORT, Parser, UsageError, whole_number

PREFIX = "TRANSLATOR_"

NAMES = (
    *("UPSTREAM", "DIALECT", "API_KEY_ENV", "CONFIG", "HOST", "PORT", "LOG_LEVEL", "LOG_FORMAT"),
    *("REASONING_EVENTS", "RETRIES", "WATCH", "TRACE", "WORKERS"),
)
"""The variables of `serve`, without the prefix. Other commands read some of them."""

OTHER_NAMES = frozenset({"API_KEY", "KEY"})
"""Variables of this prefix that hold keys in the documentation, and are no options."""

SIMILAR = 0.7
"""How much of an unknown variable's name must agree with a known one to be taken for it."""

_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def add_variables(parser: Parser, actions: Iterable[argparse.Action]) -> None:
    """Let options be given by environment variables, too; their help names them."""
    variables: list[argparse.Action] = list(parser.get_default("variables") or ())
    for action in actions:
        action.help = f"{action.help} [env: {variable_of(action)}]"
        variables.append(action)
    parser.set_defaults(variables=variables)


def variable_of(action: argparse.Action) -> str:
    """The variable of an option, as in TRANSLATOR_LOG_LEVEL."""
    return PREFIX + action.option_strings[0].removeprefix("--").replace("-", "_").upper()


def read_variables(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Fill in the options that were not typed; raises UsageError for a value that is not allowed.

    `options.from_environment` then has the variable of each option that came from one, and
    `options.overridden` the value of each variable whose option was typed.
    """
    read: dict[str, str] = {}
    overridden: dict[str, str] = {}
    actions: list[argparse.Action] = getattr(options, "variables", [])
    for action in actions:
        variable = variable_of(action)
        text = environ.get(variable, "").strip()
        if not text or _is_of_kubernetes(variable, text, environ):
            continue
        if getattr(options, action.dest) is not None:
            overridden[action.dest] = text
            continue
        setattr(options, action.dest, _value(action, variable, text))
        read[action.dest] = variable
    options.from_environment, options.overridden = read, overridden


def listening(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The address at which `serve` listens by these variables, for commands that name it."""
    parser = Parser()
    host = parser.add_argument("--host")
    port = parser.add_argument("--port", type=whole_number(*PORT))
    add_variables(parser, (host, port))
    options = parser.parse_args([])
    read_variables(options, environ)
    return {name: getattr(options, name) for name in options.from_environment}


def name_of(options: argparse.Namespace, dest: str) -> str:
    """The name of an option, or of the variable that it came from, for a sentence."""
    variables: dict[str, str] = options.from_environment
    return variables.get(dest) or f"--{dest.replace('_', '-')}"


def note(text: str) -> None:
    """Print a note on stderr, where a program's reader of stdout does not meet it."""
    print(f"translator: note: {text}", file=sys.stderr)


def note_misspelt(environ: Mapping[str, str] = os.environ) -> None:
    """Print a note for each variable whose name is close to that of an option, and is not it."""
    for variable in environ:
        name = variable.removeprefix(PREFIX)
        if name == variable or name in NAMES or name in OTHER_NAMES:
            continue
        import difflib  # not at the top: most environments have no such variable

        if near := difflib.get_close_matches(name, NAMES, n=1, cutoff=SIMILAR):
            note(f"{variable} is not read; did you mean {PREFIX}{near[0]}?")


def _value(action: argparse.Action, variable: str, text: str) -> Any:  # noqa: ANN401 - any type
    """The value of an option, by the rules of the command line."""
    if action.nargs == 0:
        if text.lower() not in _ON + _OFF:
            raise UsageError(f"{variable}: {text!r} is neither 1, true, yes nor 0, false, no")
        return text.lower() in _ON
    if action.metavar == "DIR" and text.lower() in _ON + _OFF:
        raise UsageError(f"{variable}: {text!r} is no folder but a switch; name one, or unset it")
    if action.choices is not None and text not in action.choices:
        raise UsageError(f"{variable}: {text!r} is not one of {', '.join(action.choices)}")
    if not callable(action.type):
        return text
    try:
        return action.type(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{variable}: {error}") from None


def _is_of_kubernetes(variable: str, text: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes has set TRANSLATOR_PORT, as it does for a Service named "translator"."""
    return (
        variable == f"{PREFIX}PORT"
        and f"{PREFIX}SERVICE_HOST" in environ
        and text.startswith(("tcp://", "udp://", "sctp://"))
    )
