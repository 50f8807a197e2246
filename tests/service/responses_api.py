"""Responses requests that tests send, and the events that come back."""

from __future__ import annotations

import json
from typing import Any

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "m", "input": "Hi", "stream": True}
"""A request whose answer is streamed."""
ASK_WHOLE: dict[str, Any] = {"model": "m", "input": "Hi"}
"""The same without a stream."""
ASK_SMALL: dict[str, Any] = {"model": "small", "input": "Hi", "stream": True}
"""The same for a model of MODELS, streamed."""
ASK_SMALL_WHOLE: dict[str, Any] = {"model": "small", "input": "Hi"}
"""The same without a stream."""


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of an SSE response body, which must end in `[DONE]`."""
    frames = body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""], frames[-2:]
    found: list[dict[str, Any]] = []
    for text in frames[:-2]:
        name, _, payload = text.partition("\n")
        event = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found
