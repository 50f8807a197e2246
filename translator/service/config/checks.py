"""Validators of values whose type is not enough: URLs, headers, hosts, origins, names.

Each returns the problems it finds, as sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from translator.common.toml import toml_key
from translator.dialects import DIALECTS
from translator.wire.responses import Request

from .proxies import Proxies

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_HOST_PATTERN = re.compile(r"(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})


def url_problems(url: str) -> list[str]:
    """Problems of the base URL of an upstream."""
    try:
        parts = urlsplit(url)
        port_is_a_number = parts.port is None or parts.port > 0
    except ValueError:
        return [f"{json.dumps(url)} is not a URL"]
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_a_number:
        return [f"{json.dumps(url)} is not a URL that starts with http:// or https://"]
    if not url.isascii() or not url.isprintable() or " " in url:
        return [f"{json.dumps(url)} contains a character not allowed in a URL"]
    problems: list[str] = []
    if parts.username is not None or parts.password is not None:
        problems.append("must not hold a user name or a password; use api_key_env or headers")
    if parts.query or parts.fragment:
        problems.append("must not have a query or a fragment; paths are appended to it")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        problems.append("must end before /chat/completions, which is appended to it")
    return problems


def proxy_problems(urls: Iterable[str], proxies: Proxies, path: str) -> list[str]:
    """Problems of the proxies on the way to valid URLs."""
    found: list[str] = []
    for url in urls:
        proxy = proxies.proxy_for(url)
        if proxy is not None and (problem := proxy.problem) is not None:
            host = urlsplit(url).hostname
            found.append(f"{path}: {problem}; correct it, or add {host} to NO_PROXY")
    return found


def dialect_problems(name: str, path: str) -> list[str]:
    """Problems of the name of a dialect."""
    if name == "auto" or name in DIALECTS:
        return []
    return [f'{path}: there is no dialect "{name}"; known: auto, {", ".join(DIALECTS)}']


def header_problems(headers: Mapping[str, str], path: str) -> list[str]:
    """Problems of extra headers. A value may be a secret and is never quoted."""
    problems: list[str] = []
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            problems.append(f"{path}.{toml_key(name)}: is not a header name")
        elif name.lower() in _FRAMING_HEADERS:
            problems.append(f"{path}.{toml_key(name)}: is set by the HTTP connection")
        elif not is_header_value(value):
            problems.append(f"{path}.{toml_key(name)}: contains characters not allowed in a header")
    return problems


def is_header_value(text: str) -> bool:
    return _HEADER_VALUE.fullmatch(text) is not None


def host_problems(hosts: Iterable[str], path: str) -> list[str]:
    """Problems of the hosts that requests may be addressed to."""
    return [
        f"{path}: {json.dumps(host)} is not a host name; a port or a path is not part of it"
        for host in hosts
        if not _HOST_PATTERN.fullmatch(host)
    ]


def origin_problems(origins: Iterable[str], path: str) -> list[str]:
    """Problems of the origins whose pages may use the service."""
    return [
        f"{path}: {json.dumps(origin)} is not an origin, as in https://chat.example.org, nor *"
        for origin in origins
        if origin != "*" and not _ORIGIN.fullmatch(origin)
    ]


def forward_problems(names: Iterable[str], path: str) -> list[str]:
    """Problems of the request fields that are to be sent upstream unchanged."""
    return [
        f"{path}: {name} is translated, so it cannot be sent upstream unchanged"
        for name in names
        if name == "messages" or name in Request.__struct_fields__
    ]
