"""A report of the live view, with any of its fields."""

from __future__ import annotations

from typing import Any

from translator.service.live.progress import Progress


def a_progress(**fields: Any) -> Progress:
    return Progress(**({"id": "req_1", "at": 1000.0, "seconds": 2.0, "model": "m"} | fields))
