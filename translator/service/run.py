"""The service as a process: a socket, a line that says so, a server until a signal ends it.

The socket is bound before the server starts. So a taken port is one sentence, port 0 can be told by
its real number, and a client that reads the start-up line can connect at once.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
from typing import Any

import uvicorn

from .app import create_app
from .http1 import Http1
from .settings import Server, Settings, SettingsError

BACKLOG = 2048
KEEPALIVE_S = 120
"""How long an idle client connection stays open. Longer than clients keep theirs (reqwest: 90 s): a
request that meets a closing connection is lost."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

log = logging.getLogger(__name__)


def run(settings: Settings, *, log_level: str) -> int:
    """Serve until SIGINT or SIGTERM; raises SettingsError when the address cannot be used."""
    with listen(settings.server.host, settings.server.port) as listener:
        start_logging(log_level)
        config = uvicorn.Config(
            create_app(settings),
            access_log=False,
            backlog=BACKLOG,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=settings.server.shutdown_timeout_s,
            timeout_keep_alive=KEEPALIVE_S,
            **protocols(settings.server),
        )
        _warn_if_open(settings)
        print(start_line(settings, listener), flush=True)  # noqa: T201 - the program's output
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return 130
    return 0


def protocols(server: Server) -> dict[str, Any]:
    """What uvicorn is told of the protocols that are spoken."""
    if not server.websocket:
        return {"http": Http1, "ws": "none"}
    return {
        "http": Http1,
        "ws": "websockets-sansio",
        "ws_max_size": server.max_body_bytes,
        # it would cost CPU per token and memory per connection, and small messages grow by it
        "ws_per_message_deflate": False,
    }


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises SettingsError with a sentence about the address."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        [family, *_], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except socket.gaierror:
        raise SettingsError([f"--host: there is no address for {host!r}"]) from None
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise SettingsError([f"cannot listen on {where}: {reason}"]) from None


def start_line(settings: Settings, listener: socket.socket) -> str:
    """Where the service listens, what it forwards to, under which dialect."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    targets = ", ".join(
        f"{upstream.base_url} (dialect {upstream.dialect})"
        for upstream in settings.upstreams.values()
    )
    return f"translator listens on http://{shown}:{port}/v1 and forwards to {targets}"


def start_logging(level: str) -> None:
    """One line per record on stderr. The libraries beneath only speak up when something is odd."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("translator").setLevel(level.upper())
    # Codex asks for a WebSocket in each session and is told 426; that is no reason to warn.
    logging.getLogger("uvicorn.error").addFilter(_says_more_than_no_websocket)


def _says_more_than_no_websocket(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "upgrade request" not in message and "WebSocket library" not in message


def _warn_if_open(settings: Settings) -> None:
    if settings.server.host not in LOOPBACK and any(
        upstream.has_credential for upstream in settings.upstreams.values()
    ):
        log.warning(
            "whoever reaches %s uses the upstream key of this gateway: it asks clients for none",
            settings.server.host,
        )
