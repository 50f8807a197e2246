"""BASE, the dialect that assumes least, and what the known dialects are built with.

Every known dialect is BASE with the facts replaced that were observed to differ (`derived`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from .dialect import Dialect, named_efforts

BASE = Dialect(name="base")
"""The tolerant base: reads every known shape, sends only fields that every upstream accepts."""

LOW_TO_HIGH = named_efforts(minimal="low", low="low", medium="medium", high="high")
"""The efforts of models that cannot stop thinking, such as gpt-oss."""


def derived(name: str, *hosts: str, **facts: Any) -> Dialect:  # noqa: ANN401 - see Dialect
    """BASE under another name, recognised at these hosts, with these facts replaced."""
    return msgspec.structs.replace(BASE, name=name, hosts=hosts, **facts)
