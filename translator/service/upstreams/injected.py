"""A transport of httpx that the application is given, behind the interface of our own."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from .body import StreamBody
from .response import UpstreamResponse


class InjectedTransport:
    """An httpx client over a given transport: for tests, and programs that embed the service."""

    def __init__(self, transport: httpx.AsyncBaseTransport, timeout: httpx.Timeout) -> None:
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=timeout,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        request = self._http.build_request(method, url, content=body, headers=headers)
        response = await self._http.send(request, stream=True)
        return UpstreamResponse(
            response.status_code, dict(response.headers.items()), StreamBody(response)
        )

    async def aclose(self) -> None:
        await self._http.aclose()
