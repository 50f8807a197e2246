"""Finish reasons, and the verdict on an answer whose body is over.

The verdict waits for `[DONE]` or the end of the body. Usage may follow the finish reason; the
finish reason may repeat, or come with every chunk; the last one counts.

    finish reason                           the end that it names
    [DONE], or a last chunk of usage alone  a normal end
    an error object before either           a failure, at once
    none of these                           a failure that clients may retry
"""

from __future__ import annotations

from collections.abc import Mapping

from translator.wire.deltas import Failure, Finish, Verdict
from translator.wire.errors import UpstreamError
from translator.wire.json_values import replace_lone_surrogates

STOP = Finish("stop")

_LENGTH, _FILTER = Finish("length"), Finish("content_filter")
_FINISHES: Mapping[str, Finish] = {
    "stop": STOP,
    "eos": STOP,
    "end_turn": STOP,
    "stop_sequence": STOP,
    "tool_calls": STOP,
    "function_call": STOP,
    "tool_use": STOP,
    "length": _LENGTH,
    "max_tokens": _LENGTH,
    "model_length": _LENGTH,  # Mistral
    "repetition_truncation": _LENGTH,
    "content_filter": _FILTER,
    "content_filtered": _FILTER,
    "sensitive": _FILTER,  # Z.ai
    "safety": _FILTER,
    "refusal": _FILTER,
}
_FAILURES: Mapping[str, str] = {
    "insufficient_system_resource": "The upstream ran out of resources.",  # DeepSeek
    "network_error": "The upstream had a network error.",  # Z.ai
    "error": "The upstream broke off with an error.",  # OpenRouter, vLLM
    "abort": "The upstream aborted the answer.",  # SGLang, vLLM
    "aborted": "The upstream aborted the answer.",
    "cancelled": "The upstream cancelled the answer.",
}


class EndOfAnswer:
    """The signs of an end that have come so far."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.done = False
        """`[DONE]` has come."""
        self.usage_alone = False
        """The last chunk had usage, and no choice."""
        self.failure: UpstreamError | None = None

    def verdict(self, *, produced: bool, calls_suffice: bool, stray: str) -> Verdict:
        """How the answer ended.

        `produced`: it has content. `calls_suffice`: it has calls that need no other sign of an end.
        `stray` is text of the body that belonged to no event; it explains a missing end.
        """
        if self.failure is not None:
            if self.failure.code == "content_filter" and produced:
                return _FILTER
            return Failure(self.failure)
        if self.finish_reason is not None:
            return _named(self.finish_reason.lower(), produced=produced)
        if self.done or self.usage_alone or calls_suffice:
            return STOP
        why = f": {stray}" if stray else "."
        return Failure(UpstreamError(f"The upstream closed the stream before it finished{why}"))


def _named(reason: str, *, produced: bool) -> Verdict:
    """The end that a finish reason names. An unknown one is normal if there is an answer."""
    if reason in _FAILURES:
        return Failure(UpstreamError(_FAILURES[reason]))
    if reason in _FINISHES:
        return _FINISHES[reason]
    if reason == "model_context_window_exceeded":  # Z.ai
        return _LENGTH if produced else Failure(_too_long())
    if produced:
        return STOP
    shown = replace_lone_surrogates(reason[:100])
    message = f"The upstream stopped for an unknown reason ({shown}) and said nothing."
    return Failure(UpstreamError(message))


def _too_long() -> UpstreamError:
    return UpstreamError(
        "The conversation is longer than the model's context window.",
        status=400,
        code="context_length_exceeded",
        type="invalid_request_error",
    )
