"""How `serve` says that it does not start: as its log would, so that a JSON log stays one.

The format may be wanted by an option, a variable, a parent or the settings file; what is wrong may
be any of these.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .common import Parser, UsageError


def logs_json(words: Sequence[str]) -> bool:
    """Whether the words of `serve`, right or wrong, ask for a JSON log."""
    given = _given(words)
    names = given.log_format, os.environ.get("TRANSLATOR_LOG_FORMAT"), given.worker_log_format
    named: str | None = next(filter(None, names), None)
    if named is not None:
        return named == "json"
    path = given.config or os.environ.get("TRANSLATOR_CONFIG")
    with suppress(OSError, ValueError, TypeError, KeyError):
        return path is not None and _file_wants_json(Path(path))
    return False


def _file_wants_json(path: Path) -> bool:
    table = tomllib.loads(path.read_text("utf-8"))
    return bool(table["server"]["log_format"] == "json")


def _given(words: Sequence[str]) -> argparse.Namespace:
    """The options that matter here, of a command line in which any other may be wrong."""
    parser = Parser(add_help=False)
    for name in ("--log-format", "--config", "--worker-log-format"):
        parser.add_argument(name, nargs="?")
    with suppress(UsageError):
        return parser.parse_known_args(words)[0]
    return argparse.Namespace(log_format=None, config=None, worker_log_format=None)


def log_start_error(error: Exception) -> None:
    """Write an error as a JSON line to stderr; one that is no UsageError, with its traceback."""
    from translator.service.telemetry.logs import log_only_errors

    log = log_only_errors()
    if isinstance(error, UsageError):
        log.error("%s", error)
    else:
        log.critical("internal error", exc_info=error)
