"""Run an exchange through the core: upstream body in, events out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Raw

import translator
from translator import Dialect, Event, Options, ParsedRequest, Response, Target, Translation
from translator.common.pauses import Pause, no_pause
from translator.request.store_context import StoreContext

REQUEST: dict[str, Any] = {"model": "a-model", "input": "Hello", "stream": True}


def numbered_ids() -> Callable[[str], str]:
    """An id factory that counts, so that two runs give the same bytes."""
    count = itertools.count(1)
    return lambda prefix: f"{prefix}{next(count):024d}"


def translation(
    request: dict[str, Any] | bytes | ParsedRequest = REQUEST,
    *,
    dialect: str | Dialect = "base",
    options: Options | None = None,
    target: Target | None = None,
    earlier: Sequence[Raw] | None = None,
    store: StoreContext | None = None,
    pause: Pause = no_pause,
) -> Translation:
    """A translation with counted ids and a clock that stands at 5."""
    return translator.Translation(
        request,
        dialect=dialect,
        response_id="resp_000000000000000000000000",
        created_at=3,
        new_id=numbered_ids(),
        now=lambda: 5,
        options=options or Options(),
        target=target or Target(),
        earlier=earlier,
        store=store,
        pause=pause,
    )


def replay(
    body: bytes | Iterable[bytes],
    request: dict[str, Any] | bytes = REQUEST,
    *,
    dialect: str | Dialect = "base",
    options: Options | None = None,
) -> tuple[list[Event], Response]:
    """All events of an upstream body, whole or in chunks, and the final response."""
    t = translation(request, dialect=dialect, options=options)
    chunks: Iterable[bytes] = [body] if isinstance(body, bytes) else body
    events = t.start()
    for one in chunks:
        events += t.receive(one)
    events += t.close()
    return events, t.response


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Data split at the given offsets."""
    edges = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def sse(*payloads: Any) -> bytes:
    """An SSE body of these payloads: JSON values, or text such as "[DONE]"."""
    import json

    return b"".join(
        f"data: {p if isinstance(p, str) else json.dumps(p)}\n\n".encode() for p in payloads
    )


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """A chat chunk with one choice."""
    choice: dict[str, Any] = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more}
