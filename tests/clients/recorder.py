"""A recording proxy between a client and the translator."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from backports import zstd

READ_TIMEOUT_S = 60
"""Longest wait for bytes of the translator, in seconds."""

_HOP = {"connection", "host", "keep-alive", "transfer-encoding"}  # headers of one hop, not of both


@dataclass
class Exchange:
    """One request of the client and the translator's response."""

    path: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str]  # of the answer, names in lower case
    body: bytes = b""
    encoding: str = ""  # of the request

    @property
    def notices(self) -> str:
        """The notices of the translation, from their header."""
        return self.headers.get("x-translator-notices", "")


class Recorder:
    """The proxy, on a free port of 127.0.0.1, as long as the `with` block lasts."""

    def __init__(self, base_url: str) -> None:
        self.exchanges: list[Exchange] = []
        self.lead_to(base_url)
        recorder = self

        class Handler(_Handler):
            owner = recorder

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing the server waits for answers
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def lead_to(self, base_url: str) -> None:
        """Pass on to this translator from now on: a client that runs on is on another one then."""
        self.address = urlsplit(base_url).netloc
        self.exchanges.clear()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies that the client sent, in order."""
        return [exchange.request for exchange in self.exchanges]

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Recorder
    timeout = 30  # seconds that the client may be silent

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["content-length"])))

    def _pass_on(self, body: bytes | None) -> None:
        headers = {name: text for name, text in self.headers.items() if name.lower() not in _HOP}
        connection = http.client.HTTPConnection(self.owner.address, timeout=READ_TIMEOUT_S)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            given = {name.lower(): text for name, text in answer.getheaders()}
            encoding = self.headers.get("content-encoding", "")
            plain = zstd.decompress(body or b"") if encoding == "zstd" else body
            exchange = Exchange(self.path, json.loads(plain or b"{}"), answer.status, given)
            exchange.encoding = encoding
            self.owner.exchanges.append(exchange)
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, text)
            self.end_headers()
            while data := answer.read1(65536):
                exchange.body += data
                self.wfile.write(data)
                self.wfile.flush()
        except ConnectionError:
            pass  # the client is gone, and with it our connection to the translator
        finally:
            connection.close()

    def log_message(self, *arguments: object) -> None:
        """Tests print what they need themselves."""
