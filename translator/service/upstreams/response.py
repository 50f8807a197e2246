"""A response of an upstream, and the interface of what gets it.

    Transport ──► UpstreamResponse ──► Body

There are two transports: our own (`transport`), and any of httpx's that the application is given
(`injected`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from .body import Body


class UpstreamResponse(Struct, frozen=True, eq=False):
    """A status, headers whose names are in lower case, and a body to be read and closed."""

    status: int
    headers: Mapping[str, str]
    body: Body


class Transport(Protocol):
    """Sends requests to upstreams."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        """Send one request; the body of its response must be closed.

        `headers` are all but `host` and `content-length`, their names in lower case. Follows no
        redirect, and keeps no cookie. Raises one of TRANSPORT_ERRORS.
        """
        ...

    async def aclose(self) -> None: ...
