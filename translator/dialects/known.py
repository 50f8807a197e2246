"""The registry of known dialects: by name, and by the host of an upstream.

A new dialect is an entry in `vendors`, `clouds` or `servers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from .base import BASE
from .clouds import CLOUDS
from .dialect import Dialect
from .servers import SERVERS
from .vendors import VENDORS

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (BASE, *VENDORS, *CLOUDS, *SERVERS)
}
"""Every known dialect by its name."""


_ONLY_AT_THEIR_HOSTS = frozenset(
    {
        "mimo",
        "volcengine",
        "cloudflare",
        "nvidia",
        "databricks",
        "snowflake",
        "opencode",
        "sambanova",
        "bedrock_mantle",
    }
)
"""Dialects that are known from reports and documentation alone, too little to recognise them by."""


def candidates(host: str) -> list[str]:
    """The names of the dialects that an upstream may turn out to speak, given that of its host."""
    return [name for name in DIALECTS if name == host or name not in _ONLY_AT_THEIR_HOSTS]


def known_host(host: str) -> str:
    """The name of the dialect that the upstream at a host speaks; "base" for an unknown host."""
    host = "." + host.lower().removeprefix(".")
    for dialect in DIALECTS.values():
        if any(host.endswith(_ending(known)) for known in dialect.hosts):
            return dialect.name
    return BASE.name


def _ending(known: str) -> str:
    """How the hosts of a domain end; "-x.test" are hosts whose first label ends in "-x"."""
    return known if known.startswith("-") else "." + known.removeprefix(".")
