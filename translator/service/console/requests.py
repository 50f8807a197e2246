"""A request for a page and its response, apart from the server that carries them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs

from msgspec import Struct

from translator.service.config.accounts import Network

COOKIE = "__Host-translator"
"""The cookie of a session. The prefix makes browsers insist on `Secure`, and on this host alone."""

BROWSER_COOKIE = "__Host-translator-browser"
"""The cookie by which a browser is known that somebody has signed in with."""

COOKIE_RULES = "Path=/; Secure; HttpOnly; SameSite=Lax"

MAX_FIELDS = 500
"""Most fields of a form."""

SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # under no-referrer, Chromium sends `Origin: null` with a form
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
HTML = {"content-type": "text/html; charset=utf-8"}


class Request(Struct, frozen=True, kw_only=True):
    """A request for a page."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    form: Mapping[str, str] = {}
    token: str = ""
    """Of the session; empty where there is none."""

    browser: str = ""
    """The token of a browser that somebody has signed in with; empty for any other."""

    host: str = ""
    origin: str | None = None
    site: str | None = None
    """How the page that sends it is related to ours, as the browser says."""

    address: str = ""
    secure: bool = False
    """Whether it came over TLS, as far as is known."""

    @property
    def is_own(self) -> bool:
        """Whether a page of ours sends this, as its browser says; a browser always does."""
        if self.site is not None:
            return self.site == "same-origin"
        if self.origin is None:
            return False
        return self.origin.partition("://")[2].lower() == self.host.lower() != ""

    @property
    def base(self) -> str:
        """The address by which the page was asked for."""
        return f"http{'s' if self.secure else ''}://{self.host}"


class Response(Struct, frozen=True, kw_only=True):
    """What a request is answered with."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    cookies: tuple[str, ...] = ()
    """Those that the browser is to keep, as `set_cookie` makes them."""


def see_other(path: str, *cookies: str) -> Response:
    """The response to a change that was made: look at another page."""
    return Response(status=303, headers={**SECURITY, "location": path}, cookies=cookies)


def set_cookie(token: str, max_age_s: int, name: str = COOKIE) -> str:
    """The header that gives a browser a token; with an empty one, that takes it away."""
    return f"{name}={token}; Max-Age={max_age_s if token else 0}; {COOKIE_RULES}"


def fields_of(text: str) -> dict[str, str]:
    """The fields of a query or a form; several of one name become lines. Raises ValueError."""
    found = parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    return {name: "\n".join(values) for name, values in found.items()}


def token_of(cookies: str, name: str = COOKIE) -> str:
    """The token among the cookies of a request, by default of the session; empty without one."""
    for part in cookies.split(";"):
        found, _, value = part.strip().partition("=")
        if found == name:
            return value
    return ""


def address_of(peer: str, forwarded: str, proxies: Iterable[Network]) -> str:
    """The address that asks: that of the connection, or what a trusted proxy says.

    `forwarded` is `X-Forwarded-For`, to which each proxy appends the address it was asked by.
    """
    trusted = tuple(proxies)
    address = peer
    for said in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
        if not _is_in(address, trusted):
            break
        address = said
    return _site_of(address)


def is_trusted(peer: str, proxies: Iterable[Network]) -> bool:
    """Whether a connection comes from a proxy that is believed."""
    return _is_in(peer, tuple(proxies))


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


def _site_of(address: str) -> str:
    """An address; of IPv6 its network, since a site has more of those than anyone can count."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
