"""A log warning for what may happen thousands of times in a minute: one line per period."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .ids import log_extra

PERIOD_S = 60.0


class PeriodicWarning:
    """Logs the first occurrence of each period; the next line says how many were left out."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        period_s: float = PERIOD_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._period_s = period_s
        self._now = now
        self._quiet_until = float("-inf")
        self._left_out = 0

    def __call__(self, text: str, *args: object) -> None:
        """Log a text with its arguments, as `logging` formats them, if this period has no line."""
        now = self._now()
        if now < self._quiet_until:
            self._left_out += 1
            return
        if self._left_out:
            text += " (%d more since the last such line)"
            args = (*args, self._left_out)
        self._quiet_until = now + self._period_s
        self._left_out = 0
        self._log.warning(text, *args, extra=log_extra(""))  # it stands for many
