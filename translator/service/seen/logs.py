"""The log: where it goes and how it reads.

    text    2026-01-31 12:00:00,000 INFO POST /v1/responses 200 1234ms first=210ms ... id=req_...
    json    {"time":"2026-01-31T12:00:00.000Z","level":"info","logger":"...","message":"...", ...}

A record per line. In JSON, the line of a request has its facts as fields of
their own beside `message`, so nobody has to take a sentence apart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec

from translator.service.settings import LogFormat

from .record import Line

_encode = msgspec.json.Encoder().encode


class JsonLines(logging.Formatter):
    """A record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        message: object = record.msg
        if isinstance(message, Line):
            fields |= message.facts()
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _encode(fields).decode()


FORMATTERS: Mapping[LogFormat, Callable[[], logging.Formatter]] = {
    "text": lambda: logging.Formatter("%(asctime)s %(levelname)s %(message)s"),
    "json": JsonLines,
}


def start_logging(level: str, form: LogFormat = "text", stream: TextIO | None = None) -> None:
    """One line per record on stderr, or on another stream.

    The libraries beneath only speak up when something is odd.
    """
    where = logging.StreamHandler(stream)
    where.setFormatter(FORMATTERS[form]())
    logging.basicConfig(level=logging.WARNING, handlers=[where], force=True)
    logging.getLogger("translator").setLevel(level.upper())
    # Without WebSockets here, Codex is told 426 in each session; that is no reason to warn.
    logging.getLogger("uvicorn.error").addFilter(_says_more_than_no_websocket)


def _says_more_than_no_websocket(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "upgrade request" not in message and "WebSocket library" not in message
