"""Durations that the parts of the store share, in seconds."""

from __future__ import annotations

DAY_S = 86_400.0

LATE_S = 60.0
"""How long it is tried to store what nobody waits for any more."""
