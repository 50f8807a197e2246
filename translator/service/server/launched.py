"""A service that a launcher runs for one client (`translator up`).

    only that client's key, 127.0.0.1, any free port, one process ;
    it ends when its standard input does: the launcher is done, or dead

The launcher passes the hash of the key, which is no secret. Clients that the settings know belong
to the service that others use, and so do its ports.
"""

from __future__ import annotations

import os
import signal
import threading

from msgspec.structs import replace

from translator.service.base.keys import read_stored
from translator.service.config.clients import ClientConfig
from translator.service.config.loading import override
from translator.service.config.settings import Server, Settings, SettingsError

CLIENT = "up"
"""The name of the client in the log and in metrics."""

DRAIN_S = 1.0
"""How long the answers of a client that has ended may take: nobody reads them."""

_STDIN = 0


def settings_for_one(settings: Settings, stored_key: str) -> Settings:
    """The settings of a service for the client with this stored key; raises SettingsError."""
    key = read_stored(stored_key)
    if key is None:
        raise SettingsError(["--launched: is not the hash of a key"])
    own: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 0,
        "workers": 1,
        "log_format": "text",
        "drain_s": DRAIN_S,
    }
    for name in ("reuse_port", "metrics_port", "allowed_hosts", "cors_origins"):
        own[name] = getattr(Server(), name)
    return replace(override(settings, own), clients={CLIENT: ClientConfig(keys=(key,))})


def end_with_launcher() -> None:
    """Have this process shut down when its standard input ends."""
    threading.Thread(target=_watch, name="launcher", daemon=True).start()


def _watch() -> None:
    while os.read(_STDIN, 64):
        pass
    signal.raise_signal(signal.SIGTERM)
