"""The secrets of a configuration, and of headers: what must not appear in an answer or a log.

    secrets = keys of upstreams, values of headers whose name says so, passwords of proxies,
              the password of the store's database, the key of the search, headers of MCP servers ;

A secret is a value as it is sent, and the parts of it that are worth stealing: the key behind
"Bearer", the password in "Basic", the value of each cookie.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from translator.service.base.redaction import MIN_SECRET_CHARACTERS

from .settings import Settings, Upstream

SECRET_NAME = re.compile(
    r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE
)
"""Names of headers whose value is a secret."""

_NO_SECRET = re.compile(
    r"(?<![a-z0-9])(?:session[-_.](?:id|ids|affinity|name|source|type)|opencode[-_.]session"
    r"|(?:prompt[-_.])?cache[-_.]key|idempotency[-_.]key|sec-websocket-key)(?![a-z0-9])",
    re.IGNORECASE,
)
"""Parts of clients' names that are none: ids of conversations and keys of caches, which a report on
cache misses is about. `sessionid`, `session-token` and the like are those of a login."""

_SEPARATORS = re.compile(r"[\s,;]+")


def settings_secrets(settings: Settings) -> set[str]:
    """The secrets of all upstreams, and of the proxies that the environment names."""
    found = proxy_secrets()
    for upstream in settings.upstreams.values():
        found |= upstream_secrets(upstream)
    for room in (settings.store, settings.accounts):
        if room is not None:
            found |= _long(room.location.passwords)
    if settings.tools is not None and settings.tools.search is not None:
        found |= _long({settings.tools.search.key or ""})
    if settings.tools is not None and settings.tools.mcp is not None:
        for server in settings.tools.mcp.servers.values():
            found |= secrets_in(server.headers) | url_secrets(server.url)
    return found


def upstream_secrets(upstream: Upstream) -> set[str]:
    """The secrets that are sent to an upstream."""
    found = secrets_in(upstream.headers)
    for url in upstream.urls:
        found |= url_secrets(url)
    return found | _long({upstream.api_key or ""})


def proxy_secrets() -> set[str]:
    """The passwords in the URLs of proxies (`HTTPS_PROXY`, …)."""
    found: set[str] = set()
    for url in getproxies().values():
        found |= url_secrets(url)
    return found


def client_secrets(headers: Iterable[tuple[bytes, bytes]]) -> set[str]:
    """The secrets in the headers of a client's request, but for the ids of its conversation."""
    found: set[str] = set()
    for name, value in headers:  # of which several may have one name
        found |= secrets_in({_NO_SECRET.sub("", str(name, "latin-1")): str(value, "latin-1")})
    return found


def secrets_in(headers: Mapping[str, str]) -> set[str]:
    """The possible secrets in headers with names such as `authorization` and `cookie`."""
    found: set[str] = set()
    for name, value in headers.items():
        if SECRET_NAME.search(name):
            found |= {value, *_words(value)}
    return _long(found)


def url_secrets(url: str) -> set[str]:
    """The password of a URL, and the values in its query; as they are written, and unquoted."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")  # proxies are given without
        found = {parts.password or ""}
    except ValueError:  # no URL: nobody can fetch it
        return set()
    if parts.password:
        found.add(parts.netloc.rpartition("@")[0])
    found |= {pair.partition("=")[2] or pair for pair in re.split("[&;]", parts.query)}
    return _long(found | {unquote(one) for one in found})


def _words(value: str) -> Iterator[str]:
    """The key behind "Bearer", the password behind "Basic", and the value of each cookie."""
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest).decode()
        except ValueError:
            pair = ""
        yield from (pair, pair.partition(":")[2])
    for word in _SEPARATORS.split(rest if rest and "=" not in scheme else value):
        yield word
        yield word.partition("=")[2]


def _long(found: Iterable[str]) -> set[str]:
    return {one for one in found if len(one) >= MIN_SECRET_CHARACTERS}
