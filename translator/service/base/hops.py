"""Loop detection: the header by which a service recognises a request that it has sent itself.

    x-translator-hops = instance id, { "," instance id }      those that the request came through

An upstream may be another translator, and a chain of them is allowed. One that leads back to its
beginning would send a request round until all connections are used up. `Via` would do as well, but
some servers treat requests that have it in another way (RFC 8586, 1).
"""

from __future__ import annotations

from collections.abc import Iterable

from .errors import LoopDetected

HEADER = "x-translator-hops"

MAX_HOPS = 8
"""Most translators before this one: a loop over many worker processes must end, too."""

_NAME = HEADER.encode()


class Hops:
    """The hops of requests, as one instance sees them."""

    def __init__(self, instance: str) -> None:
        """`instance` is a random id without a comma."""
        self._instance = instance

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises LoopDetected for the headers of a request that has been here before."""
        before = _before(headers)
        if before and (self._instance in before or len(before) >= MAX_HOPS):
            raise LoopDetected

    def forwarded(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The value of the header upstream, for a request with these headers."""
        return ",".join([*_before(headers), self._instance])


def _before(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    values = [value for name, value in headers if name == _NAME]
    if not values:
        return []  # as nearly always
    hops = ",".join(str(value, "latin-1") for value in values).split(",")
    return [hop.strip()[:64] for hop in hops[: MAX_HOPS + 1]]
