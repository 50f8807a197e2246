"""The base dialect, and the helpers with which the known dialects are derived from it.

Every known dialect is BASE with the facts replaced that were observed to differ (`derived`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from .dialect import EFFORT_LEVELS, Dialect, named_efforts

BASE = Dialect(name="base")
"""The tolerant base: reads every known shape, sends only fields that every upstream accepts."""

ALL_LEVELS = named_efforts(**{level: level for level in EFFORT_LEVELS})
"""Every effort under its own name."""

UP_TO_XHIGH = {level: fields for level, fields in ALL_LEVELS.items() if level != "max"}
"""The efforts of OpenAI's chat API."""

LOW_TO_HIGH = named_efforts(minimal="low", low="low", medium="medium", high="high")
"""The efforts of models that cannot stop thinking, such as gpt-oss."""


def derived(name: str, *hosts: str, **facts: Any) -> Dialect:  # noqa: ANN401 - see Dialect
    """BASE under another name, recognised at these hosts, with these facts replaced."""
    return msgspec.structs.replace(BASE, name=name, hosts=hosts, **facts)
