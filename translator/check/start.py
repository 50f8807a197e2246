"""What would stop a start of the service with these settings, as far as nothing is changed by it.

The port is not tried: the service that is checked may be running on it.
"""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path

from translator.service.config.settings import Settings


def start_problems(settings: Settings) -> list[str]:
    """The problems, each after the path of its setting."""
    server = settings.server
    problems: list[str] = []
    if server.watch and server.workers > 1:
        problems.append("server.watch: shows one process, not several workers")
    hosts = {"host": server.host}
    if server.metrics_port is not None:
        hosts["metrics_host"] = server.metrics_host
    for name, host in hosts.items():
        try:
            socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            problems.append(f"server.{name}: there is no address for {host!r}")
    if server.traces and find_spec("opentelemetry") is None:
        problems.append("server.traces: needs pip install 'translator[otel]'")
    if server.trace_folder is not None and (reason := unusable_folder(Path(server.trace_folder))):
        problems.append(f"server.trace_folder: {reason}")
    return problems


def unusable_folder(folder: Path) -> str:
    """Why a folder cannot be written to, or be made; empty where it can."""
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                return f"{place} is no folder"
            return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written to"
    return f"{folder} cannot be made"
