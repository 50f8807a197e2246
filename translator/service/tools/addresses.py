"""Which addresses may be connected to for a client, and a resolver that keeps to them.

    url  ──parsed──►  host, port  ──resolved once──►  addresses, all allowed  ──►  connection

A page or a model can name any URL, so this is what stands between it and the operator's network.
Names are judged by what they resolve to, and the connection goes to just those addresses: a second
lookup could have another answer. One address that is not allowed refuses all of a name's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import SplitResult, urlsplit, urlunsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from translator.service.config.tools import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_CHARACTERS = 4096
MAX_ADDRESSES = 32
"""Most addresses of one name that are looked at; more are refused."""

MAX_LOOKUPS = 8
"""Names that are resolved at once, each in a thread."""

WELL_KNOWN_PORTS = 1024
"""Below it, only the ports of HTTP are connected to: others are those of mail, SSH and the like."""

_PORTS = {"http": 80, "https": 443}

# IPv6 addresses with an IPv4 address inside, by where its lowest bit stands.
_EMBEDDING = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),  # mapped
        ("::ffff:0:0:0/96", 0),  # translated
        ("::/96", 0),  # compatible, long deprecated
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
        ("2001::/32", 64),  # Teredo: its server
    )
)
_TEREDO = ipaddress.IPv6Network("2001::/32")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_ISATAP = 0x5EFE  # in the third and fourth quarter of the interface's identifier
_CLOSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
"""What IANA's registries of special-purpose addresses have as not globally reachable, multicast
and what is reserved. Of IPv6, only global unicast (2000::/3) is looked up here."""

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


class NotAllowed(Exception):
    """A URL or an address that must not be connected to; the message is for the model."""


class AddressRules:
    """Which addresses are allowed: public ones, and those of the operator's networks."""

    def __init__(
        self, allow_private: Iterable[Network] = (), own_ports: Iterable[int] = ()
    ) -> None:
        """`own_ports` are those on which this service itself listens."""
        self._allowed = tuple(allow_private)
        self._own_ports = frozenset(own_ports)

    def allows(self, address: Address) -> bool:
        """Whether an address is public, or in one of the operator's networks."""
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return False
        if any(address in network for network in self._allowed):
            return True
        inner = _embedded(address)
        if inner:
            return all(map(self.allows, inner))
        if isinstance(address, ipaddress.IPv6Address):
            if address not in _UNICAST:
                return False
            number = int(address)
            if (number >> 32) & 0xFFFF == _ISATAP:
                inner = [ipaddress.IPv4Address(number & 0xFFFFFFFF)]
        judged = (address, *inner)
        return not any(one in network for one in judged for network in _CLOSED)

    def check(self, address: Address, port: int) -> None:
        """Raise NotAllowed for an address, or a port, that must not be connected to."""
        if not self.allows(address):
            raise NotAllowed("its address is in a private network")
        if port in self._own_ports and _is_own(address):
            raise NotAllowed("it leads back to this service")
        if port < WELL_KNOWN_PORTS and port not in _PORTS.values():
            raise NotAllowed(f"port {port} is not one of a web server")

    def check_url(self, url: str) -> str:
        """The URL in the form in which it is sent. Raises NotAllowed; no name is resolved."""
        parts = parsed(url)
        address = literal(parts.hostname or "")
        if address is not None:
            self.check(address, port_of(parts))
        return urlunsplit(parts)


def parsed(url: str) -> SplitResult:
    """The parts of a web page's URL: host in ASCII, no fragment. Raises NotAllowed."""
    if len(url) > MAX_URL_CHARACTERS:
        raise NotAllowed("its URL is too long")
    if not url.isprintable() or " " in url or "\\" in url:
        raise NotAllowed("its URL has characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotAllowed("it is not a URL") from None
    if parts.scheme not in _PORTS:
        raise NotAllowed("its URL begins with neither https:// nor http://")
    if "@" in parts.netloc:
        raise NotAllowed("its URL holds a user name")
    host = _ascii_host(parts.hostname or "")
    if port == 0:
        raise NotAllowed("port 0 is not one of a web server")
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[parts.scheme]:
        shown += f":{port}"
    return parts._replace(netloc=shown, path=parts.path or "/", fragment="")


def port_of(parts: SplitResult) -> int:
    """The port that the parts of a URL lead to."""
    return parts.port or _PORTS[parts.scheme]


def literal(host: str) -> Address | None:
    """The address that a host is, in whatever notation; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:  # such as 127.1, 0x7f.1 and 2130706433, which resolvers take for addresses, too
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host else None
    except (OSError, UnicodeError):
        return None


def _ascii_host(host: str) -> str:
    """A host as it is looked up; raises NotAllowed."""
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise NotAllowed("its host is not a name") from None
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise NotAllowed("its host is not a name") from None
    host = host.lower()
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise NotAllowed("its host is not a name")
    return host


def _embedded(address: Address) -> list[Address]:
    """The IPv4 addresses inside an IPv6 address, to which a gateway may lead."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    number = int(address)
    found: list[Address] = [
        ipaddress.IPv4Address((number >> shift) & 0xFFFFFFFF)
        for network, shift in _EMBEDDING
        if address in network
    ]
    if address in _TEREDO:  # its client, each bit inverted
        found.append(ipaddress.IPv4Address(~number & 0xFFFFFFFF))
    return found


def _is_own(address: Address) -> bool:
    """Whether an address is one of this machine's."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


class CheckedResolver(AbstractResolver):
    """Resolves names for aiohttp, which connects to these addresses. Raises NotAllowed, OSError."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        # of its own: slow lookups must not take the threads that others wait for
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, "resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except UnicodeError:
            raise NotAllowed("its host is not a name") from None
        if len(found) > MAX_ADDRESSES:
            raise NotAllowed("its host has too many addresses")
        results: list[ResolveResult] = []
        for kind, _, protocol, _, place in found:
            text = str(place[0])
            self._rules.check(ipaddress.ip_address(text), port)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Wait for no lookup that is still under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
