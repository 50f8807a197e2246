"""Uploads: request bodies and WebSocket messages that have not arrived whole.

    upload = begin, { add }, close

Each has a deadline: the silence between two reads is bounded, so is the whole time, and the client
has to keep a least rate, measured from the beginning. So a client that sends a byte now and then
is cut about as early as one that sends nothing.

The bytes of all of them together are bounded, too. Beyond that bound the upload that has taken
longest gives way: who is quick is served, however many are slow. It also gives way where there is
no room for another connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable

STATE = "translator.uploads"
"""The key of the application's Uploads in the state of the ASGI lifespan."""

YOUNG_S = 2.0
"""How long an upload may take before it gives way to a new connection."""


class Uploads:
    """All uploads of a process."""

    def __init__(
        self, *, max_bytes: int, silence_s: float, total_s: float, bytes_per_s: float
    ) -> None:
        """`bytes_per_s` is the least rate, required after `silence_s`; 0 for none."""
        self._max_bytes = max_bytes
        self.silence_s = silence_s
        self._total_s = total_s
        self._bytes_per_s = bytes_per_s
        self._bytes = 0
        self._open: dict[Upload, None] = {}  # with bytes, in the order of their first ones
        self._begun: dict[Upload, None] = {}  # all, in the order of their beginnings

    @property
    def bytes(self) -> int:
        """The bytes of all uploads that have not ended."""
        return self._bytes

    def begin(self, now: float, give_way: Callable[[], None]) -> Upload:
        """An upload that begins now; `give_way` is called if it is the one to be refused.

        Times are in seconds by any clock, the same one for all calls.
        """
        upload = Upload(self, now, give_way)
        self._begun[upload] = None
        return upload

    def arrived(self, now: float, size: int) -> None:
        """Count an upload that has arrived whole, at once; others may have to give way to it."""
        if self._open and self._bytes + size > self._max_bytes:
            upload = self.begin(now, _ended)
            upload.add(size)
            upload.close()

    def make_room(self, now: float) -> bool:
        """Refuse the upload that has taken longest; False if none has taken long."""
        oldest = next(iter(self._begun), None)
        if oldest is None or oldest.began > now - YOUNG_S:
            return False
        self._refuse(oldest)
        return True

    def _refuse(self, upload: Upload) -> None:
        upload.gave_way = True
        self.release(upload)
        upload.give_way()

    def latest_end(self, began: float, size: int) -> float:
        """When an upload must have ended that has `size` bytes so far."""
        by_rate = math.inf
        if self._bytes_per_s:
            by_rate = began + self.silence_s + size / self._bytes_per_s
        return min(began + self._total_s, by_rate)

    def hold(self, upload: Upload, size: int) -> None:
        """Count the bytes of an upload. Only `Upload` calls this."""
        self._open[upload] = None
        self._bytes += size
        while self._bytes > self._max_bytes and len(self._open) > 1:
            self._refuse(next(iter(self._open)))

    def release(self, upload: Upload) -> None:
        """Count an upload and its bytes no more. Only `Upload` calls this."""
        self._begun.pop(upload, None)
        if upload in self._open:
            del self._open[upload]
            self._bytes -= upload.size + upload.grown


class Upload:
    """One upload, until it is closed: whole, or given up."""

    __slots__ = ("_uploads", "began", "gave_way", "give_way", "grown", "size")

    def __init__(self, uploads: Uploads, now: float, give_way: Callable[[], None]) -> None:
        self._uploads = uploads
        self.began = now
        self.give_way = give_way
        self.gave_way = False
        """Whether it has been refused in favour of others; its bytes do not count any more."""
        self.size = 0
        self.grown = 0
        """Bytes that have become of them, decompressed."""

    def add(self, size: int) -> None:
        """Bytes have arrived; afterwards `gave_way` may be set."""
        if size and not self.gave_way:
            self.size += size
            self._uploads.hold(self, size)

    def grow(self, size: int) -> None:
        """Bytes have been decompressed: they are held, but say nothing of the client's rate."""
        if size and not self.gave_way:
            self.grown += size
            self._uploads.hold(self, size)

    def deadline(self, last: float) -> float:
        """When it is late, if its latest bytes came at `last`."""
        return min(last + self._uploads.silence_s, self._uploads.latest_end(self.began, self.size))

    def close(self) -> None:
        """It has ended; it is released, and so is its callback, which may hold it."""
        self._uploads.release(self)
        self.give_way = _ended


def _ended() -> None: ...
