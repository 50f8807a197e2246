"""`[tools.mcp]`: servers of the Model Context Protocol whose tools the service may call.

    [tools]             allow: which URLs a client may name itself
    [tools.mcp]         bounds of all servers
    [tools.mcp.NAME]    a server of the operator, which requests name by `server_label`

    allowed = scheme, "://", [ "*." ], host, [ ":", port ], [ path ] ;

A pattern is compared with the parts of a URL, never with its text. The operator's own servers need
no pattern, and may be in a private network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Meta, Struct

from translator.common.toml import toml_key

from .checks import header_problems, is_header_value, key_problems
from .sections import read_section

_Positive = Annotated[int, Meta(gt=0)]
_Seconds = Annotated[float, Meta(gt=0)]

PORTS: Mapping[str, int] = {"http": 80, "https": 443}

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_NOT_SENT = re.compile(r"mcp-.*|host|x-translator-hops", re.IGNORECASE)


class McpSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tools.mcp]` as it is written, without its servers."""

    connect_timeout_s: _Seconds = 5.0
    """Longest wait for a connection to a server, DNS and TLS included."""

    list_timeout_s: _Seconds = 10.0
    """Longest time for the list of a server's tools, the beginning of a session included."""

    call_timeout_s: _Seconds = 60.0
    """Longest time for one call; the server is told to stop then, and the model is told of it."""

    list_failure: Literal["fail", "go_on"] = "fail"
    """What becomes of a request when a server's tools cannot be listed: it fails with 424, or goes
    on without them."""

    max_servers: _Positive = 8
    """Most servers in one request; more are a 400."""

    max_tools: _Positive = 128
    """Most tools of one server; further ones are left out, with a notice."""

    max_schema_bytes: _Positive = 256 * 1024
    """Most bytes of descriptions and schemas of one server's tools; further tools are left out,
    with a notice."""

    max_answer_bytes: _Positive = 16 * 1024 * 1024
    """Most bytes of a server's answer to a call; a larger one is a failure."""

    max_sessions: _Positive = 64
    """Servers that are remembered, with a session or a list of tools: one for each client, URL and
    credential. The one that was not used for longest is forgotten first."""

    idle_s: _Seconds = 60.0
    """How long an unused session stays open."""

    cache_s: _Seconds = 300.0
    """How long a list of tools is kept."""


class McpServerSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tools.mcp.NAME]` as it is written. `url` is required."""

    url: str = ""
    """Its URL (streamable HTTP); it may be in a private network."""

    key_env: str | None = None
    """Environment variable that holds its key, which is sent as `Authorization: Bearer`; a client's
    own `authorization` goes before it."""

    headers: Mapping[str, str] = {}
    """Headers that it is sent."""

    clients: tuple[str, ...] | None = None
    """The `[clients]` that may use it; by default all."""


class McpServer(Struct, frozen=True, kw_only=True):
    """A server of the operator. Its URL and headers are secrets and left out of its `repr`."""

    name: str
    url: str
    headers: Mapping[str, str]
    clients: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"McpServer({self.name!r})"


class UrlPattern(Struct, frozen=True):
    """URLs that a client may name; `path` ends where a segment of a URL's path ends."""

    scheme: str
    host: str
    subdomains: bool
    port: int
    path: str

    def matches(self, parts: SplitResult) -> bool:
        """Whether the parts of a URL are of it; they are those of `addresses.parsed`."""
        host = (parts.hostname or "").removesuffix(".")
        is_host = host.endswith(f".{self.host}") if self.subdomains else host == self.host
        if not is_host or parts.scheme != self.scheme:
            return False
        if (parts.port or PORTS[parts.scheme]) != self.port:
            return False
        path = unquote(parts.path)
        if "\\" in path or any(one in (".", "..") for one in re.split("[/;]", path)):
            return False
        return not self.path or path == self.path or path.startswith(f"{self.path}/")


class Mcp(Struct, frozen=True, kw_only=True):
    """The servers of the operator by name, what clients may name, and the bounds."""

    limits: McpSection = McpSection()
    servers: Mapping[str, McpServer] = {}
    allow: tuple[UrlPattern, ...] = ()


def read_patterns(texts: tuple[str, ...], path: str, problems: list[str]) -> list[UrlPattern]:
    """The patterns of a list."""
    found: list[UrlPattern] = []
    for text in texts:
        pattern = _pattern(text)
        if isinstance(pattern, UrlPattern):
            found.append(pattern)
        else:
            problems.append(f"{path}: {text!r} {pattern}")
    return found


def _pattern(text: str) -> UrlPattern | str:
    """A pattern, or what is wrong with it."""
    example = "is no pattern, as in https://*.example.org/mcp"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return example
    host = parts.netloc.lower().rpartition(":")[0] if port is not None else parts.netloc.lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return example
    if parts.scheme not in PORTS or not _HOST.fullmatch(host) or port == 0:
        return example
    if parts.query or parts.fragment:
        return "must not have a query or a fragment"
    path = unquote(parts.path).rstrip("/")
    if not text.isprintable() or any(one in (".", "..") for one in path.split("/")):
        return example
    subdomains = host.startswith("*.")
    if subdomains and "." not in host[2:]:
        return "names a whole domain of the highest level"
    return UrlPattern(
        parts.scheme,
        host.removeprefix("*.").strip("[]"),
        subdomains,
        port or PORTS[parts.scheme],
        path,
    )


def read_mcp(
    value: object,
    allow: tuple[UrlPattern, ...],
    clients: Mapping[str, object],
    environ: Mapping[str, str],
    problems: list[str],
) -> Mcp:
    """The servers of `[tools.mcp]`: its tables are servers, all else in it are bounds."""
    path = "tools.mcp"
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table, as in [{path}.NAME]")
        return Mcp()
    tables = cast("dict[str, Any]", value)
    limits = {name: one for name, one in tables.items() if not isinstance(one, dict)}
    named = {name: one for name, one in tables.items() if name not in limits}
    servers = {
        name: _read_server(name, one, clients, environ, problems) for name, one in named.items()
    }
    section = read_section(McpSection, limits, path, problems)
    return Mcp(limits=section, servers=servers, allow=allow)


def _read_server(
    name: str,
    value: object,
    clients: Mapping[str, object],
    environ: Mapping[str, str],
    problems: list[str],
) -> McpServer:
    path = f"tools.mcp.{toml_key(name)}"
    if not _LABEL.fullmatch(name):
        problems.append(f"{path}: a name has at most 64 letters, digits, - and _")
    section = read_section(McpServerSection, value, path, problems, required="url")
    if section.url:
        problems += [f"{path}.url: {text}" for text in _url_problems(section.url)]
    problems += header_problems(section.headers, f"{path}.headers")
    headers = {one.lower(): text for one, text in section.headers.items()}
    problems += [
        f"{path}.headers.{toml_key(one)}: is set by the protocol"
        for one in headers
        if _NOT_SENT.fullmatch(one)
    ]
    if section.key_env is not None:
        problems += [f"{path}.key_env: {text}" for text in key_problems(section.key_env, environ)]
        if "authorization" in headers:
            problems.append(f"{path}.key_env: the headers have an Authorization, too")
        key = environ.get(section.key_env, "").strip()
        if key and is_header_value(key):
            headers["authorization"] = f"Bearer {key}"
    for client in section.clients or ():
        if client not in clients:
            problems.append(f'{path}.clients: there is no client "{client}"')
    return McpServer(name=name, url=section.url, headers=headers, clients=section.clients)


def _url_problems(url: str) -> list[str]:
    """Problems of a server's URL. It may hold a secret in its query, and is never quoted."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in PORTS and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable:
        return ["expected a URL that starts with http:// or https://"]
    if not url.isascii() or not url.isprintable() or " " in url:
        return ["contains a character not allowed in a URL"]
    if "@" in parts.netloc:
        return ["must not hold a user name or a password; use key_env or headers"]
    return ["must not have a fragment"] if parts.fragment else []
