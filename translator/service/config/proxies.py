"""The HTTP proxies of the environment, as curl and most other programs read them.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY     the proxy for such URLs; in lower case they come first
    NO_PROXY                               hosts without one: names and all below them, `.name` for
                                           those below alone, addresses, networks, `*`; each with a
                                           port or without

This machine itself (127.0.0.0/8, ::1, localhost) is never reached through a proxy: it would connect
to its own machine, and would see the key.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
import urllib.request
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

_PORTS = {"http": 80, "https": 443}
_NUMERIC = re.compile(r"[0-9a-fA-Fx.]+")
_ENTRY = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?P<host>\[[^]]*\]|[^:]*)(?::(?P<port>\d+))?")


class Proxy(Struct, frozen=True):
    """A proxy, and where it comes from."""

    url: str
    variable: str
    """The environment variable that names it."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, in words; None if it can. Its URL may hold a password."""
        try:
            parts = urlsplit(self.url)
            usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            return f"{self.variable} is not the URL of a proxy"
        if parts.scheme.startswith("socks"):
            return f"{self.variable} names a SOCKS proxy, and only HTTP proxies are supported"
        if parts.scheme not in _PORTS:
            return f"{self.variable} names a proxy that begins with neither http:// nor https://"
        if not usable or not self.url.isprintable() or " " in self.url:
            return f"{self.variable} is not the URL of a proxy"
        return None


class Proxies:
    """The proxies of one environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._by_scheme: dict[str, Proxy] = {}
        for scheme in ("http", "https", "all"):
            variable, value = _variable(environ, f"{scheme}_proxy")
            if value:
                url = value if "://" in value else f"http://{value}"
                self._by_scheme[scheme] = Proxy(url, variable)
        exceptions = _variable(environ, "no_proxy")[1]
        self._exceptions = [one.strip() for one in exceptions.split(",") if one.strip()]

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy on the way to a valid URL; None for the direct way."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        proxy = self._by_scheme.get(parts.scheme) or self._by_scheme.get("all")
        if proxy is None or is_loopback(host):
            return None
        if any(_matches(entry.lower(), parts, host) for entry in self._exceptions):
            return None
        return proxy


def proxies_of(environ: Mapping[str, str]) -> Proxies:
    """The proxies of the environment; without any, those of the system (macOS and Windows)."""
    names = {name.lower() for name, value in environ.items() if value}
    if sys.platform in ("darwin", "win32") and not names & {
        "http_proxy",
        "https_proxy",
        "all_proxy",
    }:
        found = urllib.request.getproxies()
        environ = {f"{scheme}_proxy": url for scheme, url in found.items()}
    return Proxies(environ)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name alone, in whatever notation."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    if address is None:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return address.is_loopback or address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    if not _NUMERIC.fullmatch(host):
        return None
    try:  # such as 127.1
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """The name and the value of a variable that is written in lower or upper case."""
    if name in environ:
        return name, environ[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return name, ""  # in a CGI program it is a header of the client
    return name.upper(), environ.get(name.upper(), "").strip()


def _matches(entry: str, parts: SplitResult, host: str) -> bool:
    """Whether an entry of NO_PROXY is for a host."""
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        address = _address(host)
        return address is not None and address in network
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return False
    if found["scheme"] not in (None, "all", parts.scheme):
        return False
    port = parts.port or _PORTS.get(parts.scheme)
    if found["port"] is not None and int(found["port"]) != port:
        return False
    name = found["host"].strip("[]").removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    address = _address(name)
    if address is not None:
        return address == _address(host)
    return host == name or host.endswith(f".{name}")
