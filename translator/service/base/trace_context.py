"""What of a client's headers goes on to the upstream, beside a key: the trace that it is part of.

    traceparent = version "-" trace id "-" parent id "-" flags      (W3C Trace Context, level 1)

Whatever is no valid trace context is left out, as the standard asks, and so nothing else gets
upstream by these names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_TRACESTATE = 512
"""Longest `tracestate` that is carried on, in characters: as much as every system must take."""

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_TRACESTATE = re.compile(r"[\t\x20-\x7e]+")


def trace_context(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The trace context in request headers, whose names are in lower case; empty without one."""
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1"))
    if len(parents) != 1 or not _TRACEPARENT.fullmatch(parents[0]):
        return {}
    context = {"traceparent": parents[0]}
    state = ",".join(states)
    if len(state) <= MAX_TRACESTATE and _TRACESTATE.fullmatch(state):
        context["tracestate"] = state
    return context


def trace_id(context: dict[str, str]) -> str:
    """The 32 hexadecimal digits of a trace; empty without one."""
    found = _TRACEPARENT.fullmatch(context.get("traceparent", ""))
    return found[1] if found else ""
