"""Dialects: the facts about each kind of upstream, as data.

Begin with `dialect`, the struct of facts. The known dialects are in `vendors` (model makers),
`clouds` (hosts of others' models) and `servers` (self-hosted engines), which share the facts of
chat templates in `templates`; `known` is the registry, `table` prints it. `think_tags` splits
reasoning from text.
"""

from __future__ import annotations

from .base import BASE
from .dialect import EFFORT_LEVELS, Dialect, ModelFacts, nearest_effort
from .known import DIALECTS, candidates, known_host

__all__ = [
    "BASE",
    "DIALECTS",
    "EFFORT_LEVELS",
    "Dialect",
    "ModelFacts",
    "candidates",
    "known_host",
    "nearest_effort",
]
