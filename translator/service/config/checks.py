"""Validators of values whose type is not enough: URLs, headers, hosts, origins, names.

Each returns the problems it finds, as sentences.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from translator.common.toml import toml_key
from translator.dialects import DIALECTS
from translator.wire.responses import Request

from .proxies import Proxies

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_HOST_PATTERN = re.compile(r"(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_WITHOUT_SCHEME = (  # compiled where it is used, as are the next two: most starts need none
    r"(?P<host>localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))"
    r"(?P<port>:[0-9]{1,5})?(?:/.*)?"
)
_ENDPOINTS = ("/completions", "/responses", "/messages", "/embeddings")
"""What stands at the end of URLs of endpoints, in documentation; some base URLs end in /models."""

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_KEY = r"(?:sk|gsk|fw|hf|xai|tgp|nvapi|pplx|trk|r8|csk)[-_](?=.{16})|.{64}"
"""How keys begin, and how long no name of a variable is."""

_FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})


def url_problems(url: str) -> list[str]:
    """Problems of the base URL of an upstream."""
    try:
        parts = urlsplit(url)
        port_is_a_number = parts.port is None or parts.port > 0
    except ValueError:
        return [f"{json.dumps(url)} is not a URL"]
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_a_number:
        wrong = f"{json.dumps(url)} is not a URL that starts with http:// or https://"
        meant = _meant_url(url)
        return [f"{wrong}; did you mean {meant}?" if meant else wrong]
    if not url.isascii() or not url.isprintable() or " " in url:
        return [f"{json.dumps(url)} contains a character not allowed in a URL"]
    problems: list[str] = []
    if parts.username is not None or parts.password is not None:
        problems.append("must not hold a user name or a password; use api_key_env or headers")
    if parts.query or parts.fragment:
        problems.append("must not have a query or a fragment; paths are appended to it")
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        problems.append("must end before /chat/completions, which is appended to it")
    elif endpoint := next(filter(path.endswith, _ENDPOINTS), None):
        problems.append(f"must end before {endpoint}; /chat/completions is appended to it")
    return problems


def _meant_url(text: str) -> str | None:
    """The URL that a text may mean, without the quotes around it or with its scheme."""
    bare = text.strip().strip("\"'`<>").strip()
    if bare != text and not url_problems(bare):
        return bare
    found = re.fullmatch(_WITHOUT_SCHEME, bare)
    if found is None or bare.endswith(".toml"):
        return None
    local = found["host"] == "localhost" or found["host"].replace(".", "").isdigit()
    meant = f"{'http' if local or found['port'] else 'https'}://{bare}"
    return None if url_problems(meant) else meant


def key_problems(variable: str, environ: Mapping[str, str]) -> list[str]:
    """Problems of an API key in an environment variable; neither is quoted where it may be a key.

    White space around the key is none: files and shells add it.
    """
    key = environ.get(variable, "").strip()
    where = f"the environment variable {variable}"
    if not key:
        return [_no_variable(variable, environ)]
    if not is_header_value(key):
        return [f"{where} contains characters not allowed in a key"]
    if key[0] in "\"'" and key[-1] == key[0]:
        return [f"{where} has quotes around the key; leave them out"]
    if key.lower().startswith("bearer "):
        return [f'{where} begins with "Bearer", which is sent anyway; leave it out']
    if key.startswith(f"{variable}="):
        return [f"{where} begins with its own name; leave out all up to the ="]
    if re.search(r"\s", key):
        return [f"{where} contains white space, which no key does"]
    return []


def _no_variable(name: str, environ: Mapping[str, str]) -> str:
    """The problem of an environment variable that is not set, or that is no name of one."""
    bare = name.strip("${}%")
    if bare != name and re.fullmatch(_VARIABLE, bare):
        return f"takes the name of an environment variable, as it is: {bare}"
    if not re.fullmatch(_VARIABLE, name) or re.match(_KEY, name):
        return "takes the name of an environment variable that holds the key, not the key itself"
    problem = f"the environment variable {name} is not set"
    named = [one for one, value in environ.items() if value and one != name]
    close = difflib.get_close_matches(name, named, 1, 0.8)
    return f"{problem}; did you mean {close[0]}?" if close else problem


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
    return [f'{path}: there is no dialect "{name}"; {known_names(name, ["auto", *DIALECTS])}']


def known_names(name: str, known: Sequence[str]) -> str:
    """What to write instead of an unknown name: a close one, or all that are known."""
    close = difflib.get_close_matches(name, known, 1)
    return f"{f'did you mean {close[0]}? ' if close else ''}known: {', '.join(known)}"


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
