"""A log handler whose records tests read."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

from translator.service.config.settings import LogFormat
from translator.service.telemetry.logs import FORMATTERS


class Log:
    """Log records in one format: as lines, or as JSON objects."""

    def __init__(self, form: LogFormat) -> None:
        self._stream = io.StringIO()
        self.where = logging.StreamHandler(self._stream)
        self.where.setFormatter(FORMATTERS[form]())

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def request(self) -> dict[str, Any]:
        """The line of the only request."""
        [found] = [line for line in self.objects if "duration_ms" in line]
        return found
