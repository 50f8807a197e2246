"""Text channel normaliser: the text of one field of an answer, made fit for deltas.

A channel is one field in which text grows over many chunks: the content, a refusal, reasoning
under one of its names, the arguments of one call. Each is normalised by itself, in this order:

    repeated   where chunks may repeat all text so far, only the new part is kept
    cut        a surrogate pair cut between two chunks is joined; a lone half becomes U+FFFD
    calls      text that may be a call in a model's own syntax is held back until the end
"""

from __future__ import annotations

from collections.abc import Callable

from translator.wire.deltas import Delta
from translator.wire.json_values import replace_lone_surrogates

from .native_calls import NativeCalls


class TextChannel:
    """The state of one channel. `delta(text)` makes a delta of its text."""

    __slots__ = ("_so_far", "delta", "half", "native")

    def __init__(
        self,
        delta: Callable[[str], Delta],
        *,
        cumulative: bool = False,
        native: NativeCalls | None = None,
    ) -> None:
        """`cumulative`: a chunk may repeat all text so far. `native` finds calls in the text."""
        self.delta = delta
        self.native = native
        self.half = ""  # the first half of a surrogate pair, as long as the second may come
        self._so_far = "" if cumulative else None

    def feed(self, text: str) -> str:
        """What the next text of the channel adds; empty while all of it is held back."""
        if self._so_far is not None:
            text = self._new_part(text, self._so_far)
        if self.half or not text.isascii():
            text = self._whole_characters(text)
        return text if self.native is None else self.native.feed(text)

    def _new_part(self, text: str, before: str) -> str:
        """The first text that does not begin with the text before it ends the comparison."""
        if not text.startswith(before):
            self._so_far = None
            return text
        new = text[len(before) :] if len(text) > len(before) else text
        self._so_far = before + new
        return new

    def _whole_characters(self, text: str) -> str:
        text, self.half = self.half + text, ""
        if text and "\ud800" <= text[-1] < "\udc00":
            text, self.half = text[:-1], text[-1]
        return replace_lone_surrogates(text)
