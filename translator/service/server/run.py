"""The service as a process: listening sockets, a start-up line, a server until a signal.

The sockets are bound before the server starts. So a taken port is one sentence, the line shows the
real number for port 0, and a client that reads it can connect at once.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import sys
from contextlib import ExitStack, closing

import uvicorn

from translator.service.base.drain import Drain
from translator.service.config.secrets import settings_secrets
from translator.service.config.settings import Server, Settings, SettingsError
from translator.service.http.app import create_app
from translator.service.live.terminal import open_view
from translator.service.telemetry.logs import start_logging
from translator.service.telemetry.shared_metrics import reserve_files

from .graceful_shutdown import SHUTDOWN_S, GracefulServer
from .observers import observing
from .own_address import check_upstreams
from .protocols import protocols
from .worker_channel import WorkerChannel

BACKLOG = 2048

GC_THRESHOLDS = (50_000, 10, 20)
"""How many new objects, and how many smaller collections, trigger a garbage collection. By Python's
own 700, a request of 4 MB would trigger a hundred, and all streams stall for each."""

MAX_USER_TIMEOUT_MS = 2**31 - 1

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    *,
    log_level: str,
    watch: bool = False,
    channel: WorkerChannel | None = None,
) -> int:
    """Serve until a signal; `watch` shows a live view of requests on stdout.

    `channel` is that of one worker among several. Raises SettingsError when the address, or the
    folder for traces, cannot be used.
    """
    server = settings.server
    with ExitStack() as stack:
        if channel is not None:
            channel.end_with_parent(server.drain_s + SHUTDOWN_S)
            sockets = channel.listeners
        else:
            sockets = [listen(server.host, server.port, reuse_port=server.reuse_port)]
            sockets += listen_for_metrics(server)
        for sock in sockets:
            stack.enter_context(sock)
            limit_unread_data(sock, server.client_timeout_s)
        check_upstreams(settings, sockets)
        show = stack.enter_context(closing(open_view(sys.stdout))) if watch else None
        stream = None if show is None else show.log_stream(sys.stderr)
        secrets = settings_secrets(settings)
        start_logging(log_level, settings.server.log_format, stream, secrets)
        observe = stack.enter_context(observing(settings, show))
        if channel is not None and server.metrics:
            reserve_files(len(settings.models))
        drain = Drain()
        new_client = None if channel is None else channel.client_factory(settings)
        config = uvicorn.Config(
            create_app(settings, observe=observe, drain=drain, new_client=new_client),
            access_log=False,
            backlog=BACKLOG,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            **protocols(settings.server),
        )
        if channel is None:
            announce(settings, sockets[0])
        service = GracefulServer(config, drain, server.drain_s, channel)
        # uvicorn shuts down, and then raises the signal again under the handler it found
        signal.signal(signal.SIGTERM, _end)
        gc.collect()
        gc.freeze()  # objects that live as long as the process need not be searched
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            service.run(sockets=sockets)
        except KeyboardInterrupt:
            return 130
        finally:
            if channel is not None:
                channel.close()
    return 0


def _end(*_: object) -> None:
    sys.exit(0)


def announce(settings: Settings, listener: socket.socket) -> None:
    """Log who may send requests, and print the start-up line."""
    _log_access(settings)
    line = start_line(settings, listener)
    try:
        print(line, flush=True)  # noqa: T201 - the program's output
    except OSError as error:  # nobody reads it, or the disk is full: no reason not to serve
        log.warning("%s (not printed: %s)", line, os.strerror(error.errno or 0).lower())
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def listen_for_metrics(server: Server) -> list[socket.socket]:
    """The listening socket for metrics alone, where the settings ask for one."""
    if server.metrics_port is None:
        return []
    return [listen(server.metrics_host, server.metrics_port, "metrics_host")]


def listen(
    host: str, port: int, setting: str = "--host", *, reuse_port: bool = False
) -> socket.socket:
    """A listening socket; raises SettingsError with a sentence about the address."""
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError(["server.reuse_port: this system cannot share a port"])
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        [family, *_], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(
            (host, port), family=family, backlog=BACKLOG, reuse_port=reuse_port
        )
    except socket.gaierror:
        raise SettingsError([f"{setting}: there is no address for {host!r}"]) from None
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise SettingsError([f"cannot listen on {where}: {reason}"]) from None


def limit_unread_data(listener: socket.socket, seconds: float) -> None:
    """Have the system close accepted connections whose client reads nothing for so long.

    Else one that was closed with unsent data stays as long as its client does.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it
        milliseconds = min(math.ceil(seconds * 1000), MAX_USER_TIMEOUT_MS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def start_line(settings: Settings, listener: socket.socket) -> str:
    """The start-up line: the address, the upstreams and their dialects."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    targets = ", ".join(
        f"{' or '.join(upstream.urls)} (dialect {upstream.dialect})"
        for upstream in settings.upstreams.values()
    )
    return f"translator listens on http://{shown}:{port}/v1 and forwards to {targets}"


def _log_access(settings: Settings) -> None:
    host = settings.server.host
    if settings.clients:
        log.info("a client needs a key here; known clients: %d", len(settings.clients))
    elif host in LOOPBACK:
        log.info("no client needs a key here, so only programs on this machine can reach %s", host)
    elif any(upstream.has_credential for upstream in settings.upstreams.values()):
        log.warning(
            "anyone who can reach %s uses the upstream key of this gateway: clients need no key "
            "(see [clients])",
            host,
        )
    else:
        log.warning("anyone who can reach %s may use it: clients need no key (see [clients])", host)
