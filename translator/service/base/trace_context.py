"""W3C trace context: the headers of a client that are forwarded upstream, beside its key.

    traceparent = version "-" trace id "-" parent id "-" flags      (W3C Trace Context, level 1)

An invalid context is dropped, as the standard requires, so these headers carry nothing else
upstream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_TRACESTATE = 512
"""Longest `tracestate` that is forwarded, in characters; the standard requires at least 512."""

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_TRACESTATE = re.compile(r"[\t\x20-\x7e]+")


def trace_context(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The valid trace context in request headers with lower-case names, or an empty dict."""
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
    """The trace id of a trace context, 32 hexadecimal digits, or an empty text."""
    found = _TRACEPARENT.fullmatch(context.get("traceparent", ""))
    return found[1] if found else ""
