"""What pages in a browser may do here, and by which names the service is addressed.

A browser tells whose page asks (`Origin`); other clients do not. It asks before most requests
(a preflight), but not before all:

    preflight           answered for the origins that are allowed, and for no others
    WebSocket           opened by any page, unasked: refused to origins that are not allowed
    POST without JSON   sent by any page, unasked, though it cannot read the answer: refused, too

So a page cannot use a service on its visitor's machine behind his back. Against a page that has
forged the service's name (DNS rebinding) only `allowed_hosts` helps: to the browser it is the
service's own page.
"""

from __future__ import annotations

from translator.service.base.errors import HostUnknown, OriginRefused
from translator.service.config.settings import Server
from translator.service.observe.record import PROBED

from .exchange import Exchange

_PREFLIGHT_AGE_S = 600
_METHODS = "GET, POST"
_EXPOSED = (
    "retry-after, retry-after-ms, x-request-id, x-translator-notices, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)


class Browsers:
    """The policy of `allowed_hosts` and `cors_origins`."""

    def __init__(self, server: Server) -> None:
        self._hosts = frozenset(host.lower() for host in server.allowed_hosts)
        self._origins = frozenset(server.cors_origins)

    def check(self, exchange: Exchange, *, websocket: bool) -> None:
        """Raise HostUnknown or OriginRefused; give the answer the headers that browsers ask for."""
        self._check_host(exchange)
        host = exchange.header("host") or ""
        origin = exchange.header("origin")
        if origin is None:
            return
        if self._allows(origin):
            exchange.added = _told(origin)
        elif (websocket or _is_unasked_post(exchange)) and not _is_own(origin, host):
            raise OriginRefused(origin)

    def preflight(self, exchange: Exchange) -> dict[str, str] | None:
        """The answer's headers when a browser asks whether it may; None for all other requests.

        Raises HostUnknown.
        """
        origin = exchange.header("origin")
        wanted = exchange.header("access-control-request-method")
        if exchange.method != "OPTIONS" or origin is None or wanted is None:
            return None
        if not self._allows(origin):
            return None
        self._check_host(exchange)
        headers = {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": _METHODS,
            "access-control-max-age": str(_PREFLIGHT_AGE_S),
            "vary": "origin, access-control-request-headers",
        }
        asked = exchange.header("access-control-request-headers")
        if asked is not None:
            headers["access-control-allow-headers"] = asked
        if exchange.header("access-control-request-private-network") == "true":
            headers["access-control-allow-private-network"] = "true"
        return headers

    def _check_host(self, exchange: Exchange) -> None:
        host = exchange.header("host") or ""
        if self._hosts and exchange.path not in PROBED and not self._is_ours(host):
            raise HostUnknown(host)

    def _allows(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins

    def _is_ours(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name in self._hosts:
            return True
        parts = name.split(".")
        return any("*." + ".".join(parts[start:]) in self._hosts for start in range(1, len(parts)))


def _is_own(origin: str, host: str) -> bool:
    """Whether a page comes from the service itself."""
    return origin.partition("://")[2].lower() == host.lower()


def _told(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": _EXPOSED,
        "vary": "origin",
    }


def _is_unasked_post(exchange: Exchange) -> bool:
    """A POST that a browser sends for any page, without asking first."""
    kind = (exchange.header("content-type") or "").partition(";")[0].strip().lower()
    return exchange.method == "POST" and kind != "application/json"
