"""The service as a process of its own: `translator serve` for one client, its log in a file.

It has a session of its own, so no signal of the terminal reaches it, and its standard input is a
pipe from us: the service ends with the pipe, even where we are killed. Its log goes through us into
a bounded file, since the terminal is the client's.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from translator.service.base.keys import new_key, store
from translator.wire.json_values import as_object

from .foreground import start_without_signals

START_S = 60.0
"""Longest wait for the start-up line."""

STOP_S = 5.0
"""Longest wait for the end of the service, once its client has ended."""

ANSWER_S = 60.0
"""Longest wait for an answer of the service; a model list comes from the upstream."""

MAX_LOG_BYTES = 4 * 1024 * 1024
"""Largest log file. The lines before are kept in a second one, `FILE.1`."""

MAX_KEPT_LINES = 20
"""How many of the first lines are kept for the message that the service did not start."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Largest answer that is read of the service."""

_LISTENS = re.compile(r"listens on (http://\S+)/v1 ")
_TROUBLE = re.compile(r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) ")
_FAILURE = re.compile(r" INFO [A-Z]+ \S+ (?:[45]\d\d |.* outcome=failed)")


class ServiceFailed(Exception):
    """The service did not start; the text is its own sentence."""


class Reply(Struct, frozen=True):
    """A reply of the service. `value` is None where its body is no JSON object."""

    status: int
    value: dict[str, Any] | None

    @property
    def message(self) -> str:
        """The message of an error; empty without one."""
        error = as_object((self.value or {}).get("error")) or {}
        return str(error.get("message") or "")


class ServiceProcess:
    """The process, from its start to `stop`. Raises ServiceFailed when it does not start."""

    def __init__(self, options: Sequence[str], log: Path) -> None:
        """`options` are those of `translator serve`; `log` is the file for its log."""
        self.key = new_key()
        self.troubles = 0
        """Warnings and errors in the log, before the stop."""

        self.last_trouble = ""
        self.failures = 0
        """Requests that got an error."""

        self.last_failure = ""
        self._first_lines: deque[str] = deque(maxlen=MAX_KEPT_LINES)
        self._stopping = False
        self._log = _LogFile(log, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")
        command = [*_this_program(), "serve", *options, "--launched", str(store(self.key))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # nothing on Windows
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._copier = threading.Thread(
            target=self._copy, args=[self._process.stderr], name="service-log", daemon=True
        )
        start_without_signals(self._copier)
        try:
            self.address = self._started(self._process.stdout)
        except BaseException:
            self.stop()
            raise

    @property
    def base_url(self) -> str:
        """The base URL for the client."""
        return f"http://{self.address}/v1"

    def get(self, path: str, seconds: float = ANSWER_S) -> Reply:
        """GET a path of the service with the client's key. Raises OSError."""
        connection = http.client.HTTPConnection(self.address, timeout=seconds)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {self.key}"})
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        try:
            return Reply(response.status, as_object(json.loads(body)))
        except ValueError:
            return Reply(response.status, None)

    def stop(self) -> int | None:
        """End the service; returns the status of one that had ended before, else None.

        One that takes too long is killed.
        """
        self._stopping = True
        before = self._process.poll()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = 0
        self._copier.join(STOP_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._log.close()
        return before if before is not None else status or None  # it may just have been dying

    def _started(self, output: IO[bytes]) -> str:
        """The address in the start-up line."""
        watchdog = threading.Timer(START_S, self._process.kill)
        watchdog.daemon = True
        start_without_signals(watchdog)
        try:
            for line in output:
                if found := _LISTENS.search(line.decode(errors="replace")):
                    return found[1].removeprefix("http://")
        finally:
            watchdog.cancel()
        self._process.wait()
        self._copier.join(STOP_S)
        said = "\n".join(self._first_lines).strip()
        raise ServiceFailed(said.removeprefix("translator: ") or "the service did not start")

    def _copy(self, errors: IO[bytes]) -> None:
        """Copy the log into its file, and remember what is more than information."""
        for raw in errors:
            line = raw.decode(errors="replace").rstrip("\n")
            if len(self._first_lines) < MAX_KEPT_LINES:
                self._first_lines.append(line)
            if _TROUBLE.match(line) and not self._stopping:
                self.troubles += 1
                self.last_trouble = line
            elif _FAILURE.search(line):
                self.failures += 1
                self.last_failure = line
            self._log.write(line)


class _LogFile(RotatingFileHandler):
    """A file that starts anew when it is full, after a copy to `FILE.1`."""

    def write(self, line: str) -> None:
        self.emit(logging.LogRecord("service", logging.INFO, "", 0, line, None, None))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nothing: the terminal is the client's, and a full disk is no reason to end it."""


def _this_program() -> list[str]:
    """The words with which this program was started, without its arguments."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]
