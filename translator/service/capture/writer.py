"""The capture writer: writes each exchange to a folder, as a bug report that can be replayed.

While a request is answered, its observer only keeps references. When it has ended, a thread removes
the secrets and writes the folder; a failure there is logged, and affects no answer. A folder has a
temporary name until it is complete, and the oldest folders are removed to make room.

Memory is bounded, for one exchange and for all: bodies beyond the bound are left out, and if the
disk is slower than the requests, whole exchanges are dropped.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from translator.service.base.background import BackgroundThread
from translator.service.base.ids import log_extra
from translator.service.base.losses import Outage
from translator.service.config.settings import Settings, SettingsError
from translator.service.observe.observer import Observer
from translator.service.observe.record import Record

from .exchange import CapturedExchange
from .files import files_of, folder_name, time_name
from .observer import CaptureObserver
from .redaction import Redaction, client_secrets, operator_secrets, tool_secrets

log = logging.getLogger(__name__)

MAX_HELD_BYTES = 256 * 1024 * 1024
"""Bodies of all exchanges that are not written yet, in bytes."""

MAX_PENDING = 1000
"""Exchanges that wait for the disk."""

STALE_S = 600.0
"""An unfinished folder of this age was left by a process that crashed."""

_FOLDER = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[A-Za-z0-9._-]+")
_UNFINISHED = ".part"


class CaptureWriter:
    """An `ObserverFactory` that writes each exchange into `trace_folder`."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """Creates the folder if it does not exist; raises SettingsError if it is not writable."""
        server = settings.server
        assert server.trace_folder is not None
        self._folder = Path(server.trace_folder)
        self._max_bytes = server.max_traced_bytes
        self._max_count = server.max_traced_exchanges
        self._secrets = operator_secrets(settings)
        self._clock = clock
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._outage = Outage(log, "capture", "exchanges")
        try:
            self._prepare_folder()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SettingsError([f"trace: cannot write in {self._folder}: {reason}"]) from None
        self._thread = BackgroundThread("trace", self._process)

    def __call__(self, record: Record) -> Observer:
        return CaptureObserver(
            record,
            started_at=self._clock(),
            max_bytes=self._max_bytes,
            reserve=self._reserve,
            submit=self._submit,
        )

    def close(self) -> None:
        """Write the pending exchanges; call it after the last request has ended."""
        self._thread.close()

    def _prepare_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.glob(f"*{_UNFINISHED}"):
            if _FOLDER.fullmatch(path.name) and time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)
        probe = self._folder / f"{time_name(self._clock())}-probe{_UNFINISHED}"
        probe.mkdir(mode=0o700)
        probe.rmdir()

    def _reserve(self, size: int) -> bool:
        """Reserve memory until the exchange is written; False if there is not enough."""
        with self._lock:
            fits = self._held_bytes + size <= MAX_HELD_BYTES
            self._held_bytes += size if fits else 0
        return fits

    def _release(self, exchange: CapturedExchange) -> None:
        with self._lock:
            self._held_bytes -= exchange.size

    def _submit(self, exchange: CapturedExchange) -> None:
        if self._thread.pending < MAX_PENDING:
            self._thread.put(exchange)
        else:
            request_id = exchange.record.request_id
            self._outage.failed(request_id, "the disk is too slow", request_id=request_id)
            self._release(exchange)

    # --- in the thread --------------------------------------------------------------------------

    def _process(self, exchange: CapturedExchange) -> None:
        request_id = exchange.record.request_id
        try:
            path = self._write(exchange)
            self._outage.worked()
            log.info(
                "trace: %s is written to %s",
                request_id,
                path,
                extra=log_extra(request_id, in_text=True),
            )
        except Exception as error:  # neither a full disk nor a fault of ours may end the thread
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                self._outage.failed(request_id, reason, request_id=request_id)
            else:
                self._outage.failed(request_id, str(error), error, request_id=request_id)
        self._release(exchange)

    def _write(self, exchange: CapturedExchange) -> Path:
        secrets = self._secrets | client_secrets(exchange.headers)
        redaction = Redaction(secrets | tool_secrets(exchange.request or b""))
        files = files_of(exchange, redaction, self._max_bytes)
        self._remove_oldest()
        path = self._unused_path(folder_name(exchange, redaction))
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            unfinished.mkdir(mode=0o700)
            for name, content in files.items():
                file = unfinished / name
                if file.parent != unfinished:
                    file.parent.mkdir(mode=0o700, exist_ok=True)
                file.touch(mode=0o600)
                file.write_bytes(content)
            unfinished.rename(path)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return path

    def _unused_path(self, name: str) -> Path:
        """The path of a new folder, with a number if the name is taken."""
        path, number = self._folder / name, 1
        while path.exists():
            number += 1
            path = self._folder / f"{name}-{number}"
        return path

    def _remove_oldest(self) -> None:
        """Make room for one more folder."""
        found = sorted(
            path.name
            for path in self._folder.iterdir()
            if _FOLDER.fullmatch(path.name) and not path.name.endswith(_UNFINISHED)
        )
        for name in found[: max(0, len(found) - self._max_count + 1)]:
            shutil.rmtree(self._folder / name, ignore_errors=True)
