"""Request bodies as an agent sends them, and the chunks of an upstream.

Both are generated, in the shapes and sizes of real ones; nothing in them is random.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KINDS = ("text", "reasoning", "arguments", "custom input")
"""The kinds of chunks that a stream can have."""

WORDS = "the model reads each file and writes what it finds in a short list of plain words".split()

_HEAD = {
    "id": "chatcmpl-9f2c4b1e8d7a4c6fb0a1",
    "object": "chat.completion.chunk",
    "created": 1_777_000_000,
    "model": "accounts/fireworks/models/kimi-k2p6",
}


def frame(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """One chunk as a frame of server-sent events, about 250 bytes."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return b"data: %s\n\n" % json.dumps(_HEAD | {"choices": [choice], "usage": None}).encode()


def stream(kind: str, count: int) -> Iterator[bytes]:
    """A stream of `count` chunks of one kind, with its beginning and its end.

    The arguments are one JSON object with one string, as of a call that writes a file; those of
    `custom input` belong to the free-form tool of `request`.
    """
    yield frame({"role": "assistant", "content": ""})
    if kind in ("text", "reasoning"):
        field = "content" if kind == "text" else "reasoning_content"
        yield from _repeated([frame({field: f"{word} "}) for word in WORDS], count)
        yield frame({}, "stop")
    else:
        name = "exec_command" if kind == "arguments" else "apply_patch"
        key = "cmd" if kind == "arguments" else "input"
        call = {"index": 0, "id": "functions.call:0", "type": "function"}
        yield frame({"tool_calls": [call | {"function": {"name": name, "arguments": ""}}]})
        yield _arguments(f'{{"{key}":"')
        yield from _repeated([_arguments(f"{word} ") for word in WORDS], count)
        yield _arguments('"}')
        yield frame({}, "tool_calls")
    yield b"data: [DONE]\n\n"


def _arguments(text: str) -> bytes:
    return frame({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})


def _repeated(frames: Sequence[bytes], count: int) -> Iterator[bytes]:
    return itertools.islice(itertools.cycle(frames), count)


SIZES: Mapping[str, tuple[int, float]] = {
    "40 KB": (40_000, 0),
    "200 KB": (200_000, 0),
    "1 MB": (1_000_000, 0),
    "4 MB": (4_000_000, 0),
    "4 MB, 3 of it a screenshot": (4_000_000, 0.75),
}
"""Sizes of request bodies in bytes, and the share that is one image."""


def requests() -> dict[str, bytes]:
    return {name: request(size, image_share=image) for name, (size, image) in SIZES.items()}


def request(size: int, *, image_share: float = 0.0, model: str = "kimi-k2p6") -> bytes:
    """A request of about `size` bytes, as a coding agent sends it in the middle of a session.

    Twenty tools, instructions, then turns of reasoning, a call and its result. `image_share` is the
    part of the size that is one screenshot, inside the result of a call.
    """
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        "input": [
            _message("developer", _prose(min(16_000, size // 8))),
            _message("user", "Find the slowest test of this project and make it faster."),
        ],
        "tools": [_tool(n) for n in range(20)] + [_FREE_FORM],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "high", "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "01a206f5-0692-7d11-a2e0-64f4c7bb6608",
        "client_metadata": {"session_id": "01a206f5-0692-7d11-a2e0-64f4c7bb6608"},
    }
    if image_share:
        body["input"] += _screenshot(int(size * image_share))
    left = size - len(json.dumps(body))
    turn = 0
    while left > 0:
        items = _turn(turn)
        body["input"] += items
        left -= len(json.dumps(items))
        turn += 1
    return json.dumps(body).encode()


def _turn(number: int) -> list[dict[str, Any]]:
    call_id = f"functions.exec_command:{number}"
    arguments = {"cmd": f"sed -n '{number},{number + 80}p' tests/test_one.py", "workdir": "/work"}
    return [
        {
            "type": "reasoning",
            "id": f"rs_{number}",
            "summary": [{"type": "summary_text", "text": _prose(400)}],
            "encrypted_content": None,
        },
        _message("assistant", _prose(160)),
        {
            "type": "function_call",
            "id": f"fc_{number}",
            "name": "exec_command",
            "arguments": json.dumps(arguments),
            "call_id": call_id,
        },
        {"type": "function_call_output", "call_id": call_id, "output": _listing(60)},
    ]


def _screenshot(size: int) -> list[dict[str, Any]]:
    image = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUg" * (size // 22)
    return [
        {"type": "function_call", "name": "view_image", "arguments": "{}", "call_id": "image"},
        {
            "type": "function_call_output",
            "call_id": "image",
            "output": [{"type": "input_image", "image_url": image, "detail": "high"}],
        },
    ]


def _message(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def _prose(size: int) -> str:
    sentence = " ".join(WORDS) + ".\n"
    return (sentence * (size // len(sentence) + 1))[:size]


def _listing(lines: int) -> str:
    return "".join(f'{n:>6}\tassert total["{n}"] == "a\\\\b"  # line {n}\n' for n in range(lines))


def _tool(number: int) -> dict[str, Any]:
    properties = {f"option_{n}": {"type": "string", "description": _prose(80)} for n in range(6)}
    return {
        "type": "function",
        "name": "exec_command" if number == 0 else f"tool_{number}",
        "description": _prose(200),
        "strict": False,
        "parameters": {"type": "object", "properties": properties, "required": ["option_0"]},
    }


_FREE_FORM = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "text"},
}
