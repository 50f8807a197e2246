"""A check at the start that no upstream is the service itself, which would call itself for ever."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterable
from urllib.parse import urlsplit

from translator.service.config.settings import Settings, SettingsError

RESOLVE_S = 2.0
"""Longest wait for the address of an upstream on the same port; without it, nothing is checked."""

_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_upstreams(settings: Settings, listeners: Iterable[socket.socket]) -> None:
    """Raises SettingsError for an upstream whose address is that of a listener."""
    bound = [listener.getsockname()[:2] for listener in listeners]
    problems: list[str] = []
    for upstream in settings.upstreams.values():
        for url in upstream.urls:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
            here = [ipaddress.ip_address(host) for host, number in bound if number == port]
            if here and any(
                _is_own(address, one) for address in _resolved(parts.hostname or "") for one in here
            ):
                problems.append(f"upstreams.{upstream.name}.base_url: {url} is this service itself")
    if problems:
        raise SettingsError(problems)


def _is_own(address: Address, bound: Address) -> bool:
    """Whether a connection to an address reaches a listener that is bound to another one."""
    if address.version != bound.version:
        return False
    if address == bound:
        return True
    if address.is_unspecified:  # as a target it means this machine
        return bound.is_loopback
    return bound.is_unspecified and (address.is_loopback or _is_of_this_machine(address))


def _is_of_this_machine(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _resolved(host: str) -> set[Address]:
    """The addresses of a host; none if it has none, or if they do not come in time."""
    found: set[Address] = set()

    def resolve() -> None:
        try:
            results = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.update(
            ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in results
        )

    thread = threading.Thread(target=resolve, name="resolve", daemon=True)
    thread.start()
    thread.join(RESOLVE_S)
    return set(found) if not thread.is_alive() else set()
