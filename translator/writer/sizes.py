"""How many bytes the parts of an answer hold, for the bound on all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from translator.wire.deltas import (
    Citation,
    Logprob,
    Reasoning,
    ReasoningDetails,
    Refusal,
    Source,
    Text,
    ToolCall,
)
from translator.wire.json_values import utf8_size

RECORD_BYTES = 128
"""What a small object counts for beside its text: about its size in memory."""


def size_of(delta: object) -> int:
    """The bytes of a delta that waits."""
    return RECORD_BYTES + _CONTENT_SIZES[type(delta)](delta)


def size_of_logprobs(logprobs: Sequence[Logprob]) -> int:
    """The bytes of log probabilities, alternatives included."""
    return sum(1 + len(logprob.top_logprobs) for logprob in logprobs) * RECORD_BYTES


def size_of_source(source: Source | Citation) -> int:
    """The bytes of a source, or of a reference to one."""
    return RECORD_BYTES + utf8_size(source.url) + utf8_size(source.title)


def text_size(deltas: Iterable[object]) -> int:
    """The bytes of the text and the arguments in deltas, in UTF-8."""
    size = 0
    for delta in deltas:
        match delta:
            case Text() | Refusal() | Reasoning():
                size += utf8_size(delta.text)
            case ToolCall():
                size += utf8_size(delta.arguments)
            case _:
                pass
    return size


_CONTENT_SIZES: Mapping[type, Callable[[Any], int]] = {
    Text: lambda delta: utf8_size(delta.text) + size_of_logprobs(delta.logprobs or ()),
    Reasoning: lambda delta: utf8_size(delta.text),
    ReasoningDetails: lambda delta: len(memoryview(delta.details)),
    Refusal: lambda delta: utf8_size(delta.text),
    Citation: size_of_source,
}
