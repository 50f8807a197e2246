"""What would stop a start of the service with these settings, as far as nothing is changed by it.

The port is not tried: the service that is checked may be running on it.
"""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from translator.service.config.settings import Settings

if TYPE_CHECKING:
    from translator.service.config.store import Location


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
    if server.trace_folder is not None and (reason := _unusable(Path(server.trace_folder))):
        problems.append(f"server.trace_folder: {reason}")
    if settings.store is not None and (reason := _store_problem(settings.store.location)):
        problems.append(f"store: {reason}")
    return problems


def _store_problem(location: Location) -> str:
    """Why a database could not be used, as far as it shows without opening it; else empty."""
    packages = ["alembic", "sqlalchemy"]
    if location.kind == "postgresql":
        packages.append("psycopg")
    if any(find_spec(name) is None for name in packages):
        return "needs pip install 'translator[store]'"
    if location.kind == "postgresql":
        return ""
    if (file := Path(location.target)).exists():
        return "" if os.access(file, os.R_OK | os.W_OK) else f"{file} cannot be written to"
    return _unusable(file.parent)


def _unusable(folder: Path) -> str:
    """Why a folder cannot be written to, or be made; empty where it can."""
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                return f"{place} is no folder"
            return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written to"
    return f"{folder} cannot be made"
