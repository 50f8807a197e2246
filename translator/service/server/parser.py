"""A parser of HTTP/1.1 requests over httptools: what it leaves open is decided here.

Upgrades: Java's HTTP client offers `Upgrade: h2c` with each request. httptools then ends the
request with its headers, and takes the body for data of the other protocol: it would never be
answered. A server may ignore the offer, so the headers are parsed again without it.

Sizes: httptools has no limits. The first line and the headers of a request are limited, and so is
what surrounds the data of a body in chunks: sizes, extensions, trailers.

Validity (RFC 9112): httptools refuses most of what is not valid. Not the number of `Host` headers
(section 3.2), versions other than 1.0 and 1.1, transfer codings beside `chunked` (section 6.1), and
`CONNECT`, which is for proxies.
"""

from __future__ import annotations

import logging
import re

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from translator.service.base.errors import (
    CodingUnknown,
    HeaderTooLarge,
    InternalError,
    MalformedRequest,
    MethodNotAllowed,
)
from translator.wire.errors import TranslatorError

_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
"""The characters of a host and port, RFC 3986."""

log = logging.getLogger(__name__)


class RequestRefused(Exception):
    """A request that is refused by the parser, or in one of its callbacks."""

    def __init__(self, error: TranslatorError) -> None:
        super().__init__(error.message)
        self.error = error


class Parser:
    """An `httptools.HttpRequestParser` that ignores every upgrade but that to a WebSocket.

    `protocol` gets the parser's callbacks, and the parser itself as its `parser`; for headers that
    are parsed again, from `on_message_begin` on. `feed_data` raises RequestRefused, after which it
    must not be called again, and httptools.HttpParserUpgrade for a WebSocket.
    """

    __slots__ = (
        *("_body_bytes", "_framing_bytes", "_header_bytes", "_ignores_upgrade", "_line_bytes"),
        *("_max", "_messages", "_parser", "_protocol", "_url", "in_body", "in_header"),
    )

    def __init__(self, protocol: HttpToolsProtocol, max_header_bytes: int) -> None:
        self._protocol = protocol
        self._max = max_header_bytes
        self._header_bytes = 0  # of the complete parts
        self._line_bytes = 0  # of a line not terminated yet
        self._messages = 0
        self._body_bytes = 0  # of the current message
        self._framing_bytes = 0  # between them
        self.in_header = False
        """Whether a request has begun whose headers are not complete."""
        self.in_body = False
        """Whether the headers of a request are complete, and its body is not."""
        self._parser: httptools.HttpRequestParser | None
        self._release_parser()
        self._url = b""
        self._ignores_upgrade = False

    def close(self) -> None:
        """Release the parser and the protocol, which hold this one."""
        self._release_parser()
        del self._protocol

    def _make_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._protocol.parser = self._parser = parser
        return parser

    def _release_parser(self) -> None:
        """Release a kilobyte that is of no use between requests, as while a response comes."""
        self._parser = None
        self._protocol.parser = None  # type: ignore[assignment]

    def feed_data(self, data: bytes) -> None:
        message, body_bytes, in_body = self._messages, self._body_bytes, self.in_body
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._ignores_upgrade:
                raise
            self._ignores_upgrade = False
            [end] = upgrade.args
            assert self._parser is not None
            head = self._head(self._parser)
            self._make_parser()  # the old one may expect no other request
            self._feed(head)
            self.feed_data(data[end:])
            return
        if self.in_body:
            self._line_bytes = 0
            if self._messages == message:
                self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
            elif self._messages == message + 1 and not in_body:  # all of it is in this read
                self._framing_bytes = len(data) - self._body_bytes - self._header_bytes
            if self._framing_bytes > self._max + self._body_bytes:
                raise RequestRefused(
                    MalformedRequest("there is more around its chunks than in them")
                )
        elif self.in_header:
            ended = data.rfind(b"\n") + 1
            self._line_bytes = len(data) - ended + (0 if ended else self._line_bytes)
            if self._line_bytes > self._max:
                raise RequestRefused(HeaderTooLarge(self._max))
        else:
            self._release_parser()

    def _feed(self, data: bytes) -> None:
        parser = self._parser or self._make_parser()
        try:
            parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise _refusal(error.__context__) from None
        except httptools.HttpParserError as error:
            raise _refusal(error) from None

    def _head(self, parser: httptools.HttpRequestParser) -> bytes:
        """The first line and the headers, without the offer of an upgrade."""
        version = parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._url, version)]
        for name, value in self._protocol.headers:
            if name == b"connection":
                options = [one.strip() for one in value.split(b",")]
                value = b", ".join(one for one in options if one.lower() not in _UPGRADE_HEADERS)
            if name not in _UPGRADE_HEADERS:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        self._url = b""
        self._header_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._messages += 1
        self.in_header = True
        self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        if self._header_bytes > self._max:
            raise RequestRefused(HeaderTooLarge(self._max))
        self._url += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body:
            return  # a trailer; as a header it would get past who has looked at those
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._max:
            raise RequestRefused(HeaderTooLarge(self._max))
        lower = name.lower()
        if lower == b"expect":
            self._protocol.on_header(name, value)
        else:
            self._protocol.headers.append((lower, value))  # as uvicorn does, with one call less

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        upgrade = self._check_headers(parser)
        self._ignores_upgrade = parser.should_upgrade() and upgrade != b"websocket"
        if not self._ignores_upgrade:
            self._protocol.on_headers_complete()
            self.in_header = False
            self.in_body = True

    def _check_headers(self, parser: httptools.HttpRequestParser) -> bytes:
        """The protocol that an upgrade is offered to; raises RequestRefused."""
        method, version = parser.get_method(), parser.get_http_version()
        hosts: list[bytes] = []
        offers: list[bytes] = []
        has_body = False
        for name, value in self._protocol.headers:  # names in lower case
            match name:
                case b"host":
                    hosts.append(value)
                case b"upgrade":
                    offers.append(value.lower())
                case b"transfer-encoding":
                    has_body = True
                    if version == "1.0":
                        raise RequestRefused(MalformedRequest("HTTP/1.0 has no transfer codings"))
                    if value.lower() != b"chunked":
                        raise RequestRefused(CodingUnknown())
                case b"content-length":
                    has_body = has_body or value.strip(b"0") != b""
                case _:
                    pass
        if version not in ("1.0", "1.1"):
            raise RequestRefused(MalformedRequest("its version is neither 1.1 nor 1.0"))
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise RequestRefused(MalformedRequest("it must have one Host header"))
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise RequestRefused(MalformedRequest("its Host header is not a host"))
        if method == b"CONNECT":
            target = self._url.decode("ascii", "replace")[:200]
            refused = MethodNotAllowed("CONNECT", target, ["GET", "POST"])
            refused.headers["connection"] = "close"
            raise RequestRefused(refused)
        offer = offers[0] if len(offers) == 1 else b""
        if offer == b"websocket" and parser.should_upgrade():
            speaks = self._protocol.ws_protocol_class is not None
            if speaks and (method != b"GET" or version != "1.1" or has_body):
                raise RequestRefused(
                    MalformedRequest("a WebSocket is opened with GET, HTTP/1.1 and no body")
                )
        return offer

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        if not self._ignores_upgrade:
            self.in_body = False
            self._protocol.on_message_complete()


def _refusal(error: BaseException | None) -> RequestRefused:
    """The refusal for an error of httptools, or one that was raised in a callback."""
    match error:
        case RequestRefused():
            return error
        case httptools.HttpParserError():
            return RequestRefused(MalformedRequest(str(error).rstrip(".")[:200]))
        case ValueError():  # a path that is not ASCII
            return RequestRefused(MalformedRequest("its path is not ASCII"))
        case _:
            log.error("internal error", exc_info=error)
            return RequestRefused(InternalError())
