"""A small upstream on a real socket, in a thread: what it answers is a function."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.service.chat_bodies import chunk

MODELS = {"object": "list", "data": [{"id": "org/small-1", "owned_by": "vllm"}, {"id": "big"}]}


class Asked(NamedTuple):
    """A request to the upstream."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Answer(NamedTuple):
    """What the upstream answers."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = {}


Script = Callable[[Asked], Answer]


def usage(read: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


OK = Answer(
    body=b"".join(
        [
            chunk({"role": "assistant", "reasoning_content": "Hm."}),
            chunk({"content": "OK"}),
            chunk({}, "stop", usage=usage(12, 34)),
            b"data: [DONE]\n\n",
        ]
    ),
    headers={"content-type": "text/event-stream"},
)
"""A short answer with reasoning and usage."""


def works(asked: Asked) -> Answer:
    """An upstream that has a list of models, and answers all of them."""
    if asked.path == "/v1/models":
        return Answer(body=MODELS)
    if asked.path == "/v1/chat/completions":
        return OK
    return Answer(404, {"detail": "Not Found"})


@contextmanager
def listening(
    script: Script, tls: ssl.SSLContext | None = None
) -> Generator[tuple[str, list[Asked]]]:
    """The origin of an upstream, as in http://127.0.0.1:1234, and the requests to it."""
    calls: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle(self) -> None:
            with suppress(OSError):  # the client hangs up once it knows enough
                super().handle()

        def handle_one(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", "0")))
            body = json.loads(content) if content else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            calls.append(asked)
            answer = script(asked)
            if answer.status == 0:  # no answer
                self.close_connection = True
                return
            sent = (
                answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            )
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = handle_one  # noqa: N815 - the names that the base class looks for

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    scheme = "http" if tls is None else "https"
    host = "127.0.0.1" if tls is None else "localhost"
    try:
        yield f"{scheme}://{host}:{server.server_port}", calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
