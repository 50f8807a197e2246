"""Dialects: facts about each kind of upstream, the known ones, and the table that prints them."""

from __future__ import annotations

from .base import BASE
from .dialect import EFFORT_LEVELS, Dialect, ModelFacts, nearest_effort
from .known import DIALECTS, known_host

__all__ = [
    "BASE",
    "DIALECTS",
    "EFFORT_LEVELS",
    "Dialect",
    "ModelFacts",
    "known_host",
    "nearest_effort",
]
