"""`[tools]`: tools that the service itself runs: its own search of the web, and MCP servers'.

    [tools]           which addresses may be connected to, and for how long
    [tools.search]    the backend that is searched: a preset, its URL, and its key
    [tools.pages]     the pages that are opened
    [tools.mcp]       servers of the Model Context Protocol: mcp.py

Without the section nothing is run, and nothing that could run a tool is imported.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from .checks import is_header_value, key_problems, url_problems
from .mcp import Mcp, McpServer, read_mcp, read_patterns
from .sections import read_section, unknown

_Positive = Annotated[int, Meta(gt=0)]
_NotNegative = Annotated[int, Meta(ge=0)]
_Seconds = Annotated[float, Meta(gt=0)]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
BackendName = Literal["searxng", "brave", "tavily", "exa", "serper", "mcp"]

_URLS: Mapping[str, str] = {
    "brave": "https://api.search.brave.com",
    "tavily": "https://api.tavily.com",
    "exa": "https://api.exa.ai",
    "serper": "https://google.serper.dev",
}
"""The hosted backends, which need a key."""


class ToolsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tools]` as it is written, without its sections."""

    allow_private: tuple[str, ...] = ()
    """Networks that pages and clients' MCP servers may be in although they are not public, as in
    `["10.1.0.0/16"]`. The search backend and the servers of `[tools.mcp]` need no entry."""

    allow: tuple[str, ...] = ()
    """URLs of MCP servers that clients may name themselves (`server_url`), as in
    `["https://mcp.example.org", "https://*.example.com:8443/mcp"]`; by default none."""

    proxy: str | None = None
    """URL of an HTTP proxy for the search backend, pages and MCP servers. It resolves the names of
    hosts, so it has to keep requests out of private networks. Those of the environment are not
    used."""

    call_timeout_s: _Seconds = 25.0
    """Longest time for all commands of one search request, and for one call of a hosted tool; what
    is not done by then is told the model."""

    max_concurrent_calls: _Positive = 64
    """Most searches and pages that are being fetched at once, and most calls of MCP servers, of
    which one client has half at most; further ones wait for their turn, as long as one may take."""

    hosted_search: bool = True
    """Run the `web_search` tool of the Responses API, where there is a search; else it is left out
    of requests."""

    max_rounds: _Positive = 16
    """Most upstream turns of a response in which the model calls hosted tools; it answers in one
    more, without tools."""

    max_calls: _Positive = 64
    """Most calls of hosted tools in a response; a client's `max_tool_calls` may be less."""

    max_calls_at_once: _Positive = 4
    """Calls of one response that run at the same time."""

    max_argument_bytes: _Positive = 64 * 1024
    """Largest arguments of a call; a call with more is not run, and the model is told."""

    max_result_bytes: _Positive = 256 * 1024
    """How much of the result of a call the model reads; the rest is cut off, which it is told."""

    max_results_bytes: _Positive = 2 * 1024 * 1024
    """How much of all results of a response it reads."""

    max_sealed_bytes: _Positive = 64 * 1024
    """How much of each result travels with a client that keeps its conversation itself, in sealed
    reasoning. The model reads no more of it in the response itself, so that later ones begin with
    the same; a page is shown in parts that fit."""

    round_usage: Literal["sum", "context"] = "sum"
    """Usage of a response with several upstream turns: their sum, as OpenAI tells it; or the input
    of the last one with all output, for clients that take it for the size of their context."""


class SearchSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tools.search]` as it is written. `backend` is required."""

    backend: BackendName | None = None
    """The search service that is asked."""

    url: str | None = None
    """Its base URL; required for `searxng`, else that of the service. It may be in a private
    network."""

    key_env: str | None = None
    """Environment variable that holds its API key; required but for `searxng` and `mcp`."""

    server: str | None = None
    """With `backend = "mcp"`: the name of the server in `[tools.mcp]`."""

    tool: str | None = None
    """With `backend = "mcp"`: the tool of that server which searches."""

    query_argument: str = "query"
    """With `backend = "mcp"`: the argument of that tool which takes the query."""

    timeout_s: _Seconds = 10.0
    """Longest time for its answer."""

    clients: tuple[str, ...] | None = None
    """The `[clients]` that may search and open pages; by default all."""

    max_sessions: _Positive = 500
    """Conversations whose results are remembered, so that their pages can be opened by reference;
    the one that has searched for none longest is forgotten first."""

    cached: Literal["search", "off"] = "search"
    """What a client gets that wants nothing fetched (`external_web_access: false`): results of the
    backend, whose index was made before, or nothing. Pages are not opened for it in any case."""


class PagesSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tools.pages]` as it is written."""

    open: Literal["results", "any"] = "results"
    """Which pages may be opened: those that stood in results, on opened pages, or in the user's own
    messages; or any. A page can ask a model to open a URL that carries what it knows."""

    respect_robots: bool = True
    """Open no page that the `robots.txt` of its host closes to programs."""

    connect_timeout_s: _Seconds = 5.0
    """Longest wait for a connection to the host of a page, DNS and TLS included."""

    timeout_s: _Seconds = 15.0
    """Longest time for a page, redirects included."""

    max_page_bytes: _Positive = 5 * 1024 * 1024
    """How much of a page is read, decompressed."""

    max_page_characters: _Positive = 50_000
    """How much of its text is kept; it is shown in parts."""

    max_pages: _Positive = 20
    """Most pages that one search request, or one response, opens."""

    max_cached_pages: _NotNegative = 100
    """Pages that are kept so that further parts of them can be shown."""

    cache_s: _Seconds = 300.0
    """How long they are kept."""


class Search(Struct, frozen=True, kw_only=True):
    """The resolved `[tools.search]`. Its key is a secret and left out of its `repr`."""

    backend: BackendName
    url: str  # without a trailing slash
    key: str | None
    limits: SearchSection
    server: McpServer | None = None
    """With the backend `mcp`."""

    def __repr__(self) -> str:
        return f"Search({self.backend!r}, {self.url!r})"


class Tools(Struct, frozen=True, kw_only=True):
    """The resolved section; without a `search` or an `mcp` there is none."""

    limits: ToolsSection
    allow_private: tuple[Network, ...] = ()
    search: Search | None = None
    pages: PagesSection = PagesSection()
    mcp: Mcp | None = None


def read_tools(
    value: object, clients: Mapping[str, object], environ: Mapping[str, str], problems: list[str]
) -> Tools | None:
    """The tools of a `[tools]` section; None when there is a mistake in it.

    `clients` are those of the settings, by name.
    """
    before = len(problems)
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    nested = {name: given[name] for name in ("search", "pages", "mcp") if name in given}
    own = {name: one for name, one in given.items() if name not in nested}
    whole = own if isinstance(value, dict) else value
    section = read_section(ToolsSection, whole, "tools", problems)
    networks = _networks(section.allow_private, problems)
    if section.proxy is not None:
        problems += [f"tools.proxy: {text}" for text in _proxy_problems(section.proxy)]
    allow = tuple(read_patterns(section.allow, "tools.allow", problems))
    mcp = None
    if "mcp" in nested or allow:
        mcp = read_mcp(nested.get("mcp", {}), allow, clients, environ, problems)
    search = None
    if "search" in nested:
        search = _read_search(nested["search"], mcp or Mcp(), clients, environ, problems)
    pages = read_section(PagesSection, nested.get("pages", {}), "tools.pages", problems)
    if len(problems) > before:
        return None
    return Tools(limits=section, allow_private=networks, search=search, pages=pages, mcp=mcp)


def _networks(texts: tuple[str, ...], problems: list[str]) -> tuple[Network, ...]:
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            problems.append(f"tools.allow_private: {error}; expected a network, as in 10.1.0.0/16")
    return tuple(found)


def _proxy_problems(url: str) -> list[str]:
    wrong = ["expected a URL that starts with http://"]
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        return wrong
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        return wrong
    return ["must not hold a user name or a password"] if "@" in parts.netloc else []


def _read_search(
    value: object,
    mcp: Mcp,
    clients: Mapping[str, object],
    environ: Mapping[str, str],
    problems: list[str],
) -> Search | None:
    path = "tools.search"
    section = read_section(SearchSection, value, path, problems, required="backend")
    if section.backend is None:
        return None
    problems += [
        f'{path}.clients: there is no client "{name}"'
        for name in section.clients or ()
        if name not in clients
    ]
    if section.backend == "mcp":
        return _read_mcp_search(section, mcp, problems)
    problems += [
        f'{path}.{name}: is for backend = "mcp"'
        for name in ("server", "tool")
        if getattr(section, name) is not None
    ]
    url = section.url or _URLS.get(section.backend, "")
    if not url:
        problems.append(f"{path}.url: is missing; searxng runs where you have it run")
    else:
        problems += [f"{path}.url: {text}" for text in url_problems(url)]
    key = None
    if section.key_env is not None:
        problems += [f"{path}.key_env: {text}" for text in key_problems(section.key_env, environ)]
        key = environ.get(section.key_env, "").strip() or None
        if key is not None and not is_header_value(key):
            key = None
    elif section.backend in _URLS:
        problems.append(f"{path}.key_env: is missing; {section.backend} needs a key")
    return Search(backend=section.backend, url=url.rstrip("/"), key=key, limits=section)


def _read_mcp_search(section: SearchSection, mcp: Mcp, problems: list[str]) -> Search | None:
    """A search by a tool of an MCP server."""
    path = "tools.search"
    problems += [
        f"{path}.{name}: is that of the server, in [tools.mcp.NAME]"
        for name in ("url", "key_env")
        if getattr(section, name) is not None
    ]
    if not section.tool:
        problems.append(f"{path}.tool: is missing")
    if not section.query_argument:
        problems.append(f"{path}.query_argument: is empty")
    if not section.server:
        problems.append(f"{path}.server: is missing; it is the NAME of a [tools.mcp.NAME]")
        return None
    server = mcp.servers.get(section.server)
    if server is None:
        problems.append(f"{path}.server: {unknown(section.server, mcp.servers, 'server')}")
        return None
    return Search(backend="mcp", url=server.url, key=None, limits=section, server=server)
