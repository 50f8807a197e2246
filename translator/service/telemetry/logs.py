"""The log: where it goes and how it reads.

    text    2026-01-31 12:00:00,000 INFO POST /v1/responses 200 1234ms first=210ms ... id=req_...
    json    {"time":"2026-01-31T12:00:00.000Z","level":"info","logger":"...","message":"...", ...}

A record is one line, whatever a client or an upstream put into it: characters that end a line, and
other control characters, are escaped. Only a traceback goes on, in lines that begin with blanks. In
JSON, the line of a request has its facts as fields of their own beside `message`, so nobody has to
take a sentence apart.
"""

from __future__ import annotations

import logging
import re
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec

from translator.service.config.settings import LogFormat
from translator.service.observe.record import LogLine

_encode = msgspec.json.Encoder().encode

_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters, and what Unicode counts as the end of a line."""


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class TextLines(logging.Formatter):
    """A record as words, on one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return _NOT_IN_A_LINE.sub(_escaped, super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - as logging has it
        return textwrap.indent("\n".join(super().formatException(ei).splitlines()), "  ")


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
        if isinstance(message, LogLine):
            fields |= message.facts()
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _NOT_IN_A_LINE.sub(_escaped, _encode(fields).decode())


FORMATTERS: Mapping[LogFormat, Callable[[], logging.Formatter]] = {
    "text": TextLines,
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
