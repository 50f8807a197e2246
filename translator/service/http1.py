"""HTTP/1.1, with upgrades that nobody here takes left unheard, as the standard allows.

Java's HTTP client offers `Upgrade: h2c` with each request. httptools then takes the request for
finished with its headers, and a body for what follows the upgrade: it would never be answered. So
such a head is parsed once more without the offer, and the body behind it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_OFFER = frozenset({b"upgrade", b"http2-settings"})


class Http1(HttpToolsProtocol):
    """uvicorn's protocol over a `Parser`."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = cast("httptools.HttpRequestParser", Parser(self))


class Parser:
    """An `httptools.HttpRequestParser` that knows one upgrade: to a WebSocket.

    `protocol` gets the parser's calls; those of a head that is parsed once more come twice, and
    begin with `on_message_begin` each time.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._parser = self._fresh()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._unheard = False

    def _fresh(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        return parser

    def feed_data(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._unheard:
                raise
            self._unheard = False
            [end] = upgrade.args
            head = self._head()
            self._parser = self._fresh()  # the old one may be done with the connection
            self._parser.feed_data(head)
            self.feed_data(data[end:])

    def _head(self) -> bytes:
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)]
        for name, value in self._headers:
            if name.lower() == b"connection":
                options = [one.strip() for one in value.split(b",")]
                value = b", ".join(one for one in options if one.lower() not in _OFFER)
            if name.lower() not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def __getattr__(self, name: str) -> object:
        """What is not about upgrades is the real parser's, or for the protocol."""
        return getattr(self._protocol if name.startswith("on_") else self._parser, name)

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        offers = [value.lower() for name, value in self._headers if name.lower() == b"upgrade"]
        self._unheard = self._parser.should_upgrade() and offers != [b"websocket"]
        if not self._unheard:
            self._protocol.on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._unheard:
            self._protocol.on_message_complete()
