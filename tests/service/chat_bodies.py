"""Chat Completions bodies that scripted upstreams send."""

from __future__ import annotations

import json
from typing import Any


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One chat chunk as an SSE frame."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return frame(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]} | more
    )


def frame(value: Any) -> bytes:
    """A JSON value as an SSE frame."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


HELLO = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hello"}),
    chunk({"content": " world"}),
    chunk({}, "stop"),
    b"data: [DONE]\n\n",
]
"""The frames of a short answer."""

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "accounts/up/models/m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
"""The same answer without a stream."""
