"""Listening sockets, and the start-up line that names them.

    host, port ──► listen ──► socket ──► announce ──► who may send requests, in the log; one line

A parent of workers needs no more than this of the service: it starts without the application.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
import sys

from translator.service.config.settings import LOOPBACK, Server, Settings, SettingsError

BACKLOG = 2048

MAX_USER_TIMEOUT_MS = 2**31 - 1

log = logging.getLogger(f"{__package__}.run")
"""Under the name by which operators know these lines."""


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
        # Not os.strerror: it does not know the numbers of Windows. Python adds the address.
        reason = (error.strerror or str(error)).partition(" (while attempting")[0].lower()
        remedy = _remedy(error.errno, setting)
        raise SettingsError([f"cannot listen on {where}: {reason}{remedy}"]) from None


def _remedy(number: int | None, setting: str) -> str:
    """What to do about an address that cannot be listened on."""
    port = "--port NUMBER" if setting == "--host" else "server.metrics_port"
    if number == errno.EADDRINUSE:
        return f"; end the program that listens there, or choose another port with {port}"
    if number == errno.EACCES:
        return f"; ports below 1024 need a right to them: choose another with {port}"
    if number == errno.EADDRNOTAVAIL:
        return f"; {setting} is no address of this machine"
    return ""


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
    elif settings.accounts is not None:
        log.info("a client needs a key of an account here")
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
