"""Finish reasons, and the verdict on an answer whose body is over.

The verdict waits for `[DONE]` or the end of the body. Usage may follow the finish reason; the
finish reason may repeat, or come with every chunk; the last one counts.

    finish reason                           the end that it names
    [DONE], or a last chunk of usage alone  a normal end, where something was said
    an error object before either           a failure, at once
    none of these                           a failure that clients may retry

A normal end is none where a call stops in the middle of its arguments: servers name such an end
"tool_calls" or "stop", too. It was cut by the limit where the usage shows that, and else failed.
`length` without a token is the end of a context window that the prompt fills.
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

    __slots__ = (
        *("_output_limit", "_output_tokens", "done", "fails_in_call", "failure"),
        *("finish_reason", "usage_alone"),
    )

    def __init__(self, output_limit: int | None = None) -> None:
        """`output_limit` is the number of tokens after which the upstream ends an answer."""
        self._output_limit = output_limit
        self._output_tokens: int | None = None
        self.finish_reason: str | None = None
        self.done = False
        """`[DONE]` has come."""
        self.usage_alone = False
        """The last chunk had usage, and no choice."""
        self.failure: UpstreamError | None = None
        self.fails_in_call = False
        """The verdict is a failure because a call stops in the middle."""

    def saw_usage(self, output_tokens: int | None) -> None:
        """The tokens of the answer so far; None where the usage has no number."""
        if output_tokens is not None:
            self._output_tokens = output_tokens

    @property
    def at_limit(self) -> bool:
        """Whether the token limit ended the answer, by the finish reason or by the usage."""
        named = _FINISHES.get((self.finish_reason or "").lower())
        return named is _LENGTH or self._reached_limit

    @property
    def _reached_limit(self) -> bool:
        tokens, limit = self._output_tokens, self._output_limit
        return tokens is not None and limit is not None and tokens >= limit

    def verdict(
        self, *, produced: bool, calls_suffice: bool, cut_call: bool, stray: str
    ) -> Verdict:
        """How the answer ended.

        `produced`: it has content. `calls_suffice`: it has calls that need no other sign of an end.
        `cut_call`: a call stops in the middle. `stray` is text of the body that belonged to no
        event; it explains a missing end.
        """
        verdict = self._verdict(produced=produced, calls_suffice=calls_suffice, stray=stray)
        if cut_call and verdict == STOP:
            self.fails_in_call = not self._reached_limit
            return Failure(_cut_call()) if self.fails_in_call else _LENGTH
        if verdict == _LENGTH and not produced and self._output_tokens == 0:
            return Failure(_too_long())
        return verdict

    def _verdict(self, *, produced: bool, calls_suffice: bool, stray: str) -> Verdict:
        if self.failure is not None:
            if self.failure.code == "content_filter" and produced:
                return _FILTER
            return Failure(self.failure)
        if self.finish_reason is not None:
            return _named(self.finish_reason.lower(), produced=produced)
        if calls_suffice:
            return STOP
        if self.done or self.usage_alone:
            return STOP if produced or self._output_tokens else Failure(_silent())
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


def _silent() -> UpstreamError:
    """A gateway ends a stream so whose engine has gone."""
    return UpstreamError("The upstream ended its answer without a finish reason and said nothing.")


def _cut_call() -> UpstreamError:
    return UpstreamError("The upstream's answer stops in the middle of a tool call.")


def _too_long() -> UpstreamError:
    return UpstreamError(
        "The conversation is longer than the model's context window.",
        status=400,
        code="context_length_exceeded",
        type="invalid_request_error",
    )
