"""The progress timeout: for an upstream that keeps a stream alive, and does not answer."""

from __future__ import annotations

from translator import Translation, UpstreamTimeout


class ProgressTimeout:
    """Bounds the time in which an upstream sends keep-alives and no part of an answer.

    The read timeout starts anew with each comment of the upstream; this one does not.
    """

    def __init__(self, translation: Translation, limit_s: float, now: float) -> None:
        self._translation = translation
        self._limit_s = limit_s
        self._progress = translation.progress
        self._since = now

    def check(self, now: float) -> None:
        """Call it after each chunk, with the time in seconds; raises UpstreamTimeout."""
        if self._translation.progress != self._progress:
            self._progress = self._translation.progress
            self._since = now
        elif now - self._since > self._limit_s:
            raise no_progress()


def no_progress() -> UpstreamTimeout:
    """The error of an answer that does not grow."""
    return UpstreamTimeout("The upstream sent keep-alives, but its answer did not progress.")
