"""The progress timeout: for an upstream that keeps a stream alive, and does not answer."""

from __future__ import annotations

from translator import Translation, UpstreamTimeout

MAX_IDLE_BYTES = 64 * 1024 * 1024
"""Most bytes that an upstream may send without a part of an answer: several of the largest events
(`reader.sse.MAX_EVENT_BYTES`), and thousands of times the keep-alives of an hour. More would cost
the CPU of all other streams."""


class ProgressTimeout:
    """Bounds the time in which an upstream sends keep-alives and no part of an answer.

    It also bounds their size. The read timeout starts anew with each comment of the upstream; this
    one does not.
    """

    __slots__ = ("_idle_bytes", "_limit_s", "_progress", "_since", "_translation")

    def __init__(self, translation: Translation, limit_s: float, now: float) -> None:
        self._translation = translation
        self._limit_s = limit_s
        self._progress = translation.progress
        self._since = now
        self._idle_bytes = 0

    def check(self, now: float, size: int = 0) -> None:
        """Call it after each chunk, with the time in seconds and its size in bytes.

        Raises UpstreamTimeout.
        """
        if self._translation.progress != self._progress:
            self._progress = self._translation.progress
            self._since = now
            self._idle_bytes = 0
            return
        self._idle_bytes += size
        if now - self._since > self._limit_s or self._idle_bytes > MAX_IDLE_BYTES:
            raise no_progress()


def no_progress() -> UpstreamTimeout:
    """The error of an answer that does not grow."""
    return UpstreamTimeout("The upstream sent keep-alives, but its answer did not progress.")
