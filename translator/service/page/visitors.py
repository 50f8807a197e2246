"""Who may see what of the page, by the address and the headers of the request.

    own page      the page itself, or no browser: other origins may not read it
    local         from this machine, and to it: what is being answered may be shown without a key

A page of another origin cannot read ours, since no CORS headers are sent. But it can forge our name
(DNS rebinding): to the browser it is then our own page, only the `Host` is its own. So `Host` must
be a name of this machine. Nor is a request local that a proxy passed on, as far as headers show it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from msgspec import Struct

_FORWARDED = frozenset(
    {
        *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
        *(b"x-real-ip", b"cf-connecting-ip", b"true-client-ip"),
    }
)
"""Headers that proxies add."""

_HOST = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")


class Visitor(Struct, frozen=True):
    """What is known of the sender of a request."""

    peer: str
    """The address that the connection comes from."""

    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""

    @classmethod
    def of(cls, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> Visitor:
        return cls(peer, tuple((bytes(name).lower(), bytes(value)) for name, value in headers))

    def _all(self, name: bytes) -> list[str]:
        return [str(value, "latin-1").strip() for key, value in self.headers if key == name]

    @property
    def host(self) -> str:
        """The `Host`, port included; empty where there is none, several, or none that is valid."""
        hosts = self._all(b"host")
        return hosts[0] if len(hosts) == 1 and _HOST.fullmatch(hosts[0]) else ""

    @property
    def origin(self) -> str:
        """The origin of the page that sends this, as its browser says."""
        return next(iter(self._all(b"origin")), "null")

    @property
    def names_this_machine(self) -> bool:
        """Whether `Host` is a name that means the machine of whoever uses it."""
        match = _HOST.fullmatch(self.host)
        return match is not None and _is_loopback(match["name"].strip("[]").lower())

    @property
    def is_local(self) -> bool:
        """Whether the request is of this machine, for this machine, without a proxy."""
        if not self.names_this_machine or any(key in _FORWARDED for key, _ in self.headers):
            return False
        return _is_loopback(self.peer)

    @property
    def is_own_page(self) -> bool:
        """Whether no page of another origin sends this, as far as its browser says."""
        origins, sites = self._all(b"origin"), self._all(b"sec-fetch-site")
        if any(one.partition("://")[2].lower() != self.host.lower() for one in origins):
            return False
        return all(site in ("same-origin", "none") for site in sites)

    @property
    def opens_page(self) -> bool:
        """Whether a browser opens this in a window of its own, be it by a link of another page."""
        if self._all(b"origin"):
            return False
        modes, places = self._all(b"sec-fetch-mode"), self._all(b"sec-fetch-dest")
        return modes == ["navigate"] and places == ["document"]


def _is_loopback(host: str) -> bool:
    """Whether a name or an address is of the machine itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
