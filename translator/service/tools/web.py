"""Requests to other servers for a client: to the search backend, and to pages that a model names.

Pages go through the checked resolver, each on a connection of its own. Neither the proxies nor the
passwords of the environment are used, no cookies are kept, and nothing of the client's own request
is sent. The backend is the operator's, so it may be anywhere.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache

import aiohttp
import httpx
from msgspec import Struct

from translator.service.base.version import VERSION

from .addresses import AddressRules, CheckedResolver
from .inflate import ACCEPTED, Inflater, NotInflated

USER_AGENT = f"translator/{VERSION} (opens pages for a model; obeys robots.txt)"
MAX_ANSWER_BYTES = 2 * 1024 * 1024
"""Largest answer of a search backend, decompressed."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ACCEPT = "text/html, application/xhtml+xml, text/*, application/json, */*;q=0.1"


class FetchFailed(Exception):
    """Nothing could be fetched; the message is for the model and holds no secret."""


class Fetched(Struct, frozen=True):
    """The answer to a request, with the beginning of its body, decompressed."""

    status: int
    content_type: str
    body: bytes
    cut: bool
    """Whether the body was longer."""

    location: str
    """Where it redirects to; empty where it does not."""

    retry_after: str


class WebClient:
    """Fetches pages, and asks the search backend. Time limits are the caller's."""

    def __init__(
        self,
        rules: AddressRules,
        *,
        connect_timeout_s: float,
        own_headers: Mapping[str, str],
        proxy: str | None = None,
    ) -> None:
        """`own_headers` are those by which a request that leads back to this service is known."""
        self._rules = rules
        self._proxy = proxy
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )
        self._headers = {"user-agent": USER_AGENT, "accept-encoding": ACCEPTED, **own_headers}
        self._resolver: CheckedResolver | None = None
        self._pages: aiohttp.ClientSession | None = None
        self._backend: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """To be called in the event loop, before the first request."""
        if self._proxy is None:  # else the proxy resolves names, and keeps to the rules
            self._resolver = CheckedResolver(self._rules)
        self._pages = _session(
            aiohttp.TCPConnector(
                limit=0,
                ssl=_certificates(),
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
            )
        )
        self._backend = _session(aiohttp.TCPConnector(limit=0, ssl=_certificates()))

    async def aclose(self) -> None:
        for session in (self._pages, self._backend):
            if session is not None:
                await session.close()
        if self._resolver is not None:
            await self._resolver.close()

    async def get(self, url: str, max_bytes: int) -> Fetched:
        """The answer for a page; redirects are not followed. Raises FetchFailed and NotAllowed."""
        assert self._pages is not None, "the client is not open"
        url = self._rules.check_url(url)
        headers = self._headers | {"accept": _ACCEPT}
        return await self._fetch(self._pages, "GET", url, headers, None, max_bytes)

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Fetched:
        """The answer of the search backend. Raises FetchFailed."""
        assert self._backend is not None, "the client is not open"
        headers = {**self._headers, "accept": "application/json", **headers}
        found = await self._fetch(self._backend, method, url, headers, body, MAX_ANSWER_BYTES)
        if found.cut:
            raise FetchFailed("its answer is too large")
        return found

    async def _fetch(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        max_bytes: int,
    ) -> Fetched:
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=self._timeout,
            ) as answer:
                return await _read(answer, max_bytes)
        except NotInflated as error:
            raise FetchFailed(str(error)) from None
        except aiohttp.ConnectionTimeoutError:
            raise FetchFailed("its server could not be reached in time") from None
        except aiohttp.ClientConnectorDNSError:
            raise FetchFailed("its host is not known") from None
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
            raise FetchFailed("its server has no valid certificate") from None
        except (aiohttp.ClientError, OSError, ValueError):
            # their words may quote the URL, and it may hold what is secret
            raise FetchFailed("its server could not be reached, or broke off") from None


@cache
def _certificates() -> ssl.SSLContext:
    """The authorities of servers, which take a while to read."""
    return httpx.create_ssl_context()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, auto_decompress=False, trust_env=False
    )


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> Fetched:
    location = answer.headers.get("location", "") if answer.status in _REDIRECTS else ""
    inflater = Inflater(answer.headers.get("content-encoding", ""), max_bytes)
    if not location:
        async for chunk in answer.content.iter_any():
            inflater.feed(chunk)
            if inflater.cut:
                break
    return Fetched(
        answer.status,
        answer.headers.get("content-type", ""),
        bytes(inflater.body),
        inflater.cut,
        location,
        answer.headers.get("retry-after", ""),
    )
