"""Log formatters: text or JSON, one line per record.

    text    2026-01-31 12:00:00,000 INFO POST /v1/responses 200 1234ms first=210ms ... id=req_...
    json    {"time":"2026-01-31T12:00:00.000Z","level":"info","logger":"...","message":"...", ...}

A line that belongs to a request has its id, at the end; in JSON, it is a field.

Line breaks and other control characters are escaped, so a client or an upstream cannot start a new
record. Only a traceback has further lines, which are indented. Secrets of the settings are taken
out of each record, whoever wrote it: libraries log what they cannot parse. In JSON, the record of a
request has its facts as fields beside `message`, so programs need not parse the sentence.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TextIO

import msgspec

from translator.service.base.ids import REQUEST_ID
from translator.service.base.redaction import NOTHING_SECRET, Redaction
from translator.service.config.settings import LogFormat
from translator.service.observe.record import LogLine

from .log_writer import LogWriter

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, the line and paragraph separators of Unicode, and lone surrogates."""


def _one_line(text: str) -> str:
    if text.isprintable():  # as nearly always; it is found sooner than nothing to replace
        return text
    return _NOT_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _id_of(record: logging.LogRecord) -> str:
    """The id of the request that a record belongs to; empty where there is none.

    Records of other libraries do not count: they may be about a connection, which is older.
    """
    if isinstance(record.msg, LogLine):
        return ""  # it has its own
    given = getattr(record, "request_id", None)
    if isinstance(given, str):
        return given
    return REQUEST_ID.get() if record.name.startswith(_OF_REQUESTS) else ""


_OF_REQUESTS = ("translator", "uvicorn")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class TextFormatter(logging.Formatter):
    """Formats a record as a line of text: its time, its level, its message."""

    def __init__(self, redaction: Redaction = NOTHING_SECRET) -> None:
        super().__init__()
        self._redaction = redaction
        self._latest = -1, ""  # a second, and its text

    def format(self, record: logging.LogRecord) -> str:
        return self._redaction.text(super().format(record))

    def usesTime(self) -> bool:  # noqa: N802 - logging's name
        return True

    def formatTime(  # noqa: N802 - logging's name
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        """As logging's own, which makes the text of a second again for each record."""
        second, text = self._latest
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime(self.default_time_format, self.converter(second))
            self._latest = second, text
        return f"{text},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line, name = f"{record.asctime} {record.levelname} {record.message}", _id_of(record)
        if name and not getattr(record, "id_in_text", False):
            line += f" id={name}"
        return _one_line(line)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - as logging has it
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"  {_one_line(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object."""

    def __init__(self, redaction: Redaction = NOTHING_SECRET) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        message: object = record.msg
        if isinstance(message, LogLine):
            fields |= message.facts()
        elif name := _id_of(record):
            fields["id"] = name
        if record.exc_info:
            fields["exception"] = _encodable(self.formatException(record.exc_info))
        return self._redaction.text(_one_line(_encode(fields).decode()))


FORMATTERS: Mapping[LogFormat, type[TextFormatter] | type[JsonFormatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def start_logging(
    level: str,
    form: LogFormat = "text",
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Log to a stream, by default stderr; records of libraries only from WARNING.

    A thread writes to the stream, so that no record waits for whoever reads the log. `secrets` are
    removed from each record.
    """
    handler = _handler(sys.stderr if stream is None else stream)
    handler.setFormatter(FORMATTERS[form](Redaction(secrets)))
    _log_to(handler)
    logging.getLogger("translator").setLevel(level.upper())
    logging.getLogger("uvicorn.error").addFilter(_is_no_upgrade_warning)


def log_only_errors() -> logging.Logger:
    """Log as JSON to stderr, at once: for a process that ends before `start_logging`."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    _log_to(handler)
    return log


def _log_to(handler: logging.Handler) -> None:
    """Give a handler all records, and what Python would write to stderr by itself."""
    logging.captureWarnings(capture=True)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    log.critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is None or found.exc_type is SystemExit:
        return
    name = "" if found.thread is None else found.thread.name
    where = (found.exc_type, found.exc_value, found.exc_traceback)
    log.error("uncaught exception in the thread %r", name, exc_info=where)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    what = getattr(found.object, "__qualname__", type(found.object).__qualname__)
    where = None
    if found.exc_value is not None:
        where = (found.exc_type, found.exc_value, found.exc_traceback)
    log.error("%s: %s", found.err_msg or "Exception ignored in", what, exc_info=where)


def _handler(stream: TextIO | None) -> logging.Handler:
    if stream is None:  # stderr was closed at the start
        return logging.NullHandler()
    try:
        return LogWriter(stream.fileno())
    except (OSError, ValueError):  # a stream of the live view, which has a thread of its own
        return logging.StreamHandler(stream)


_OF_UPGRADES = ("upgrade request", "WebSocket library", "without completing handshake")
_OF_CUTS = ("without completing response",)
"""A response that its upstream breaks off stays cut, on purpose: its own line says so."""


def _is_no_upgrade_warning(record: logging.LogRecord) -> bool:
    """Drop uvicorn's warnings of refused upgrades: Codex tries one in every session.

    And its error where a handshake was refused by an HTTP response, which it does not count as one.
    """
    message = record.getMessage()
    return not any(words in message for words in (*_OF_UPGRADES, *_OF_CUTS))
