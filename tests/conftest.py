"""Settings of all tests."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .open_sockets import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

# No deadlines: the machines are shared, and a slow moment proves nothing.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A verdict is one on the tree: the same draws each time. New ones are `make drawn`'s, and everyone's.
settings.register_profile("ci", settings.get_profile("here"), print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# As in an activated environment: printed commands begin with `translator`, not with its path.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

# `nohup` and a shell's `&` have these ignored, by all processes that the tests start, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add the test to the file that TRANSLATOR_SKIPPED names, if it was skipped and there is one.

    Without its parameters, which may be others where nothing is missing.
    """
    if report.skipped and (file := os.environ.get("TRANSLATOR_SKIPPED")):
        with Path(file).open("a") as skipped:
            skipped.write(f"{report.nodeid.partition('[')[0]}\n")


LOGGERS = (None, "translator", "uvicorn", "uvicorn.access", "uvicorn.error")


@contextmanager
def restored_logging() -> Generator[None]:
    """Undo what is done to logging: a handler that stays writes to a stream that pytest closes."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [
        (one, one.level, one.propagate, one.disabled, [*one.handlers], [*one.filters])
        for one in loggers
    ]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
        for one, level, propagate, disabled, handlers, filters in before:
            one.setLevel(level)
            one.propagate, one.disabled = propagate, disabled
            one.handlers[:], one.filters[:] = handlers, filters


@pytest.fixture(autouse=True)
def logging_as_before() -> Generator[None]:
    """Each test finds logging as the first one did."""
    with restored_logging():
        yield


@pytest.fixture
def untraced() -> Generator[None]:
    """Code runs at its own speed in this test, also where coverage is measured."""
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)
