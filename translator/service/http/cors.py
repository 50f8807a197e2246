"""CORS and allowed hosts: which pages in a browser may use the service, and by which names.

A browser states the origin of the page (`Origin`); other clients do not. It sends a preflight
before most requests, but not before all:

    preflight           answered for allowed origins only
    WebSocket           opened by any page, without a preflight: refused for other origins
    POST without JSON   sent by any page, without a preflight: refused for other origins, too

So no page can use a service on its visitor's machine behind their back. Against a page that forges
the service's name (DNS rebinding) only `allowed_hosts` helps: to the browser it is the service's
own page.
"""

from __future__ import annotations

from translator.service.base.errors import HostUnknown, OriginRefused
from translator.service.config.settings import Server
from translator.service.observe.record import PROBED

from .exchange import Exchange

_PREFLIGHT_AGE_S = 600
_METHODS = "GET, POST"
_EXPOSED = (
    "retry-after, retry-after-ms, x-request-id, x-translator-fallback, x-translator-model, "
    "x-translator-notices, x-translator-token-count, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)


class OriginPolicy:
    """The policy of `allowed_hosts` and `cors_origins`."""

    def __init__(self, server: Server) -> None:
        self._hosts = frozenset(host.lower() for host in server.allowed_hosts)
        self._origins = frozenset(server.cors_origins)

    def check(self, exchange: Exchange, *, websocket: bool) -> None:
        """Raise HostUnknown or OriginRefused; add the CORS headers to the response."""
        self.check_host(exchange)
        origin = exchange.header("origin")
        if origin is None:
            return
        host = exchange.header("host") or ""
        if self._allows(origin):
            exchange.added = _cors_headers(origin)
        elif (websocket or _is_simple_post(exchange)) and not _is_same_origin(origin, host):
            raise OriginRefused(origin)

    def preflight(self, exchange: Exchange) -> dict[str, str] | None:
        """The response headers of an allowed preflight; None for all other requests.

        Raises HostUnknown.
        """
        if exchange.method != "OPTIONS":
            return None
        origin = exchange.header("origin")
        wanted = exchange.header("access-control-request-method")
        if origin is None or wanted is None:
            return None
        if not self._allows(origin):
            return None
        self.check_host(exchange)
        headers = {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": _METHODS,
            "access-control-max-age": str(_PREFLIGHT_AGE_S),
            "vary": "origin, access-control-request-headers",
        }
        wanted_headers = exchange.header("access-control-request-headers")
        if wanted_headers is not None:
            headers["access-control-allow-headers"] = wanted_headers
        if exchange.header("access-control-request-private-network") == "true":
            headers["access-control-allow-private-network"] = "true"
        return headers

    def check_host(self, exchange: Exchange) -> None:
        """Raise HostUnknown for a host that the service is not addressed by."""
        if self._hosts and exchange.path not in PROBED:
            host = exchange.header("host") or ""
            if not self._is_allowed_host(host):
                raise HostUnknown(host)

    def _allows(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins

    def _is_allowed_host(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name in self._hosts:
            return True
        parts = name.split(".")
        return any("*." + ".".join(parts[start:]) in self._hosts for start in range(1, len(parts)))


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether a page is of the service itself."""
    return origin.partition("://")[2].lower() == host.lower()


def _cors_headers(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": _EXPOSED,
        "vary": "origin",
    }


def _is_simple_post(exchange: Exchange) -> bool:
    """A POST that a browser sends for any page without a preflight."""
    kind = (exchange.header("content-type") or "").partition(";")[0].strip().lower()
    return exchange.method == "POST" and kind != "application/json"
