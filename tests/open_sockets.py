"""Where a socket was opened that nobody has closed.

Python notices it when it looks for cycles, which may be many tests later, and pytest blames the test
that runs by then. The place of each open socket is kept, so that the report can name it.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import traceback
from collections.abc import Generator
from typing import Any

import pytest

FRAMES = 12

_opened: dict[int, tuple[str, traceback.StackSummary]] = {}
"""The test and the place, by the descriptor: never more than there are of these."""

_real = socket.socket.__init__


def _open(self: socket.socket, *args: Any, **named: Any) -> None:
    _real(self, *args, **named)
    frames = traceback.walk_stack(sys._getframe(1))
    place = traceback.StackSummary.extract(frames, limit=FRAMES, lookup_lines=False)
    _opened[self.fileno()] = os.environ.get("PYTEST_CURRENT_TEST", "no test"), place


socket.socket.__init__ = _open  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a report of unclosed sockets where each of them was opened."""
    report = yield
    if report.failed:
        found = re.findall(r"<socket\.socket fd=(\d+)", report.longreprtext)
        for number in sorted({int(one) for one in found} & _opened.keys()):
            test, place = _opened[number]
            lines = "".join(reversed(place.format()))
            report.sections.append((f"fd={number} was opened in {test}", lines))
    return report
