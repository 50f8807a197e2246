"""Log formatters: text or JSON, one line per record.

    text    2026-01-31 12:00:00,000 INFO POST /v1/responses 200 1234ms first=210ms ... id=req_...
    json    {"time":"2026-01-31T12:00:00.000Z","level":"info","logger":"...","message":"...", ...}

Line breaks and other control characters are escaped, so a client or an upstream cannot start a new
record. Only a traceback has further lines, which are indented. Secrets of the settings are taken
out of each record, whoever wrote it: libraries log what they cannot parse. In JSON, the record of a
request has its facts as fields beside `message`, so programs need not parse the sentence.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import msgspec

from translator.service.base.redaction import NOTHING_SECRET, Redaction
from translator.service.config.settings import LogFormat
from translator.service.observe.record import LogLine

from .log_writer import LogWriter

_encode = msgspec.json.Encoder().encode

_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, the line and paragraph separators of Unicode, and lone surrogates."""


def _one_line(text: str) -> str:
    return _NOT_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class TextFormatter(logging.Formatter):
    """Formats a record as a line of text."""

    def __init__(self, redaction: Redaction = NOTHING_SECRET) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        return self._redaction.text(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return _one_line(super().formatMessage(record))

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
    logging.captureWarnings(capture=True)  # else Python writes them to stderr itself
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("translator").setLevel(level.upper())
    logging.getLogger("uvicorn.error").addFilter(_is_no_upgrade_warning)


def _handler(stream: TextIO | None) -> logging.Handler:
    if stream is None:  # stderr was closed at the start
        return logging.NullHandler()
    try:
        return LogWriter(stream.fileno())
    except (OSError, ValueError):  # a stream of the live view, which has a thread of its own
        return logging.StreamHandler(stream)


_OF_UPGRADES = ("upgrade request", "WebSocket library", "without completing handshake")


def _is_no_upgrade_warning(record: logging.LogRecord) -> bool:
    """Drop uvicorn's warnings of refused upgrades: Codex tries one in every session.

    And its error where a handshake was refused by an HTTP response, which it does not count as one.
    """
    message = record.getMessage()
    return not any(words in message for words in _OF_UPGRADES)
