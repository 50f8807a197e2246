"""Hosted tools: `web_search` of the Responses API, run between the turns of a response.

    web_search, open_page, find_in_page  ──►  search, page, lines of a page  ──►  text for the model

They keep to the rules of `commands`: which addresses, domains and pages, and how much. What is
found has numbers instead of references, by which the model cites it.

A page may be opened if its URL was found, in this response or an earlier one. So no output quotes
the arguments of its call, in which the model can write any URL; and of a search's output, only the
lines of its results count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.common.tools import Toolset
from translator.common.web_search import OPEN_PAGE, SEARCH, WebSearchTool
from translator.request.parse import ParsedRequest
from translator.service.access.client import Client
from translator.service.base.ids import NewId
from translator.service.config.tools import Search, Tools, ToolsSection
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import ToolName
from translator.wire.deltas import Source
from translator.wire.items import SearchResult
from translator.wire.json_values import NOT_JSON, as_string, objects_in, utf8_size

from .backends import BACKENDS
from .blocks import DATA, Words, matching_lines, shown_lines
from .commands import CALL_ERRORS, Calls, Opened, SearchTool
from .owners import Owners
from .pages import Page
from .request import Command, SearchRequest, read_options
from .sessions import SearchSession
from .written_urls import urls_in

SEARCH_PRICE = "search"
"""The name of a search in prices and in the rights of clients."""

PAGE_CHARACTERS: Mapping[int, int] = {400: 8_000, 800: 16_000, 1600: 32_000}
"""How much of a page is shown at once, by the characters of a result (`search_context_size`)."""

_COMMANDS: Mapping[str, str] = {SEARCH: "search_query", OPEN_PAGE: "open", "find_in_page": "find"}
_NAMES: Mapping[str, ToolName] = {SEARCH: "search", OPEN_PAGE: "open", "find_in_page": "find"}


_NO_PAGES = "Not run: no page may be fetched for this request. Use what a search finds."


def hosted_bounds(limits: ToolsSection) -> Hosted:
    """The bounds of responses with hosted tools."""
    return Hosted(
        round_usage=limits.round_usage,
        max_rounds=limits.max_rounds,
        max_calls=limits.max_calls,
        max_argument_bytes=limits.max_argument_bytes,
        max_result_bytes=limits.max_result_bytes,
        max_results_bytes=limits.max_results_bytes,
        max_sealed_bytes=limits.max_sealed_bytes,
    )


class HostedTools:
    """The hosted tools of the settings."""

    def __init__(self, settings: Tools, search: Search, tool: SearchTool, owners: Owners) -> None:
        limits = settings.limits
        self._tool = tool
        self._owners = owners
        self.call_timeout_s = limits.call_timeout_s
        self.calls_at_once = limits.max_calls_at_once
        cached = search.limits.cached == "search"
        backend = BACKENDS.get(search.backend)
        by_country = backend is not None and bool(backend.country)
        self._hosted = replace(
            hosted_bounds(limits), cached_search=cached, search_by_country=by_country
        )

    def hosted_for(self, client: Client | None) -> Hosted | None:
        """The tools that a client may have run; None where there are none."""
        if client is None:
            return self._hosted if self._tool.may_search(None) else None
        may = client.may_call(SEARCH_PRICE) and self._tool.may_search(client.name)
        return self._hosted if may else None

    async def for_request(
        self,
        context: RequestContext,
        parsed: ParsedRequest,
        earlier: Sequence[Raw] | None,
        authorization: str | None,
        new_id: NewId,
    ) -> HostedTools:
        """The same for every request."""
        del context, parsed, earlier, authorization, new_id
        return self

    def runner(
        self,
        client: Client | None,
        authorization: str | None,
        tools: Toolset,
        said: Callable[[], bytes],
    ) -> SearchRunner:
        """A runner for one response."""
        owner = self._owners.owner(client, authorization)
        page_bytes = self._hosted.result_bytes(seals=True)
        return SearchRunner(self._tool, owner, tools, said, page_bytes)


class SearchRunner:
    """Runs the searches of one response: what one has found, the next may open."""

    def __init__(
        self,
        tool: SearchTool,
        owner: str,
        tools: Toolset,
        said: Callable[[], bytes],
        page_bytes: int,
    ) -> None:
        """`page_bytes` bounds what is shown of a page: what is cut off later, nothing points to."""
        assert tools.web_search is not None, "no search is declared"
        self._fetches = tools.web_search.fetches
        request = SearchRequest(commands={}, settings=_settings(tools.web_search))
        self._session = SearchSession(0)
        self._calls = tool.calls(_HostedCalls, owner, request, self._session, [])
        searches = frozenset(tools.hosted_names("web_search", name=SEARCH))
        pages = frozenset(tools.hosted_names("web_search")) - searches
        self._calls.told = lambda: _told(said(), searches, pages)
        self._page_bytes = page_bytes
        self._page_characters = PAGE_CHARACTERS[read_options(request).characters]

    def name_of(self, call: HostedCall) -> ToolName:
        """The name of a call's tool in metrics."""
        return _NAMES.get(call.name, "other")

    def charged_as(self, call: HostedCall) -> str | None:
        """The name under which a call has a price: only the backend costs."""
        return SEARCH_PRICE if call.name == SEARCH else None

    async def run(self, call: HostedCall) -> Outcome:
        """What became of a call."""
        if call.name != SEARCH and not self._fetches:
            return Outcome((_NO_PAGES,), failed=True)
        arguments = _read_arguments(call.arguments)
        try:
            found = await self._calls.found(_command(call.name, arguments))
        except CALL_ERRORS as error:
            return Outcome((f"{error}".removesuffix(".") + ".",), failed=True)
        match found:
            case Words(text):
                return Outcome((text,))
            case Opened(page, first, pattern):
                title = page.title or page.url
                head = f" {title} ({page.url})"
                room_bytes = self._page_bytes - utf8_size(head)
                more = "open the same URL at line"
                lines = (
                    matching_lines(page, pattern, "The text")
                    if pattern
                    else shown_lines(page, first, self._page_characters, more, room_bytes)
                )
                text = "\n".join([head, *lines])
                return Outcome((Source(page.url, title), text))
            case (_, hits):
                pass
        if not hits:
            return Outcome(("No results. Try other words.",))
        parts: list[str | Source] = [f"Results. {DATA}\n"]
        for hit in hits:
            if not hit.url:  # of a backend that gives text alone: there is nothing to cite
                parts.append(f"{_no_result(hit.snippet)}\n")
                continue
            self._session.saw_result(hit.url)
            date = f" · {hit.date}" if hit.date else ""
            snippet = f"{_no_result(hit.snippet)}\n" if hit.snippet else ""
            parts += [Source(hit.url, hit.title), f" {hit.title} ({hit.url}){date}\n{snippet}"]
        results = (SearchResult(hit.url, hit.title, hit.snippet) for hit in hits if hit.url)
        return Outcome(tuple(parts), results=tuple(results))


class _HostedCalls(Calls):
    """Calls of a response; what the conversation has told may be opened, too."""

    told: Callable[[], str]

    def _said(self) -> str:
        return self.told()

    async def _page(self, url: str) -> Page:
        """Also what the text of the page names may be opened, as it may be by the next response."""
        page = await super()._page(url)
        for found in urls_in("\n".join(page.lines)):
            self._session.saw_link(found)
        return page


_RESULT = re.compile(r"^(?:\[\d+\] .* \((https?://\S+)\)(?: · .*)?|(https?://\S+))$", re.MULTILINE)
"""A result in the output of a search: its number, title and URL; or its URL alone, in a history
whose client has kept the results in the items."""

_LIKE_RESULT = re.compile(r"^(?=\[|https?://)", re.MULTILINE | re.IGNORECASE)


def _no_result(text: str) -> str:
    """Text of a backend, of which no line reads like a result: it may quote the query."""
    return _LIKE_RESULT.sub(" ", text)


def _settings(tool: WebSearchTool) -> dict[str, Any]:
    """A declaration as the settings of a search request, whose fields have the same names."""
    fields: dict[str, Any] = msgspec.to_builtins(tool)
    return {name: value for name, value in fields.items() if value is not None}


def _command(name: str, arguments: Mapping[str, Any]) -> Command:
    """A call as the command of a search request."""
    if name == SEARCH:
        fields = {
            "q": arguments.get("query"),
            "recency": arguments.get("recency_days"),
            "domains": arguments.get("domains"),
        }
    else:
        fields = {
            "url": arguments.get("url"),
            "lineno": arguments.get("line"),
            "pattern": arguments.get("pattern"),
        }
    return Command(_COMMANDS[name], fields)


class _Function(Struct, frozen=True):
    name: str = ""


class _ToolCall(Struct, frozen=True):
    id: str = ""
    function: _Function = _Function()


class _Message(Struct, frozen=True):
    role: str = ""
    content: Any = None
    tool_calls: list[_ToolCall] = []
    tool_call_id: str = ""


class _ChatRequest(Struct, frozen=True):
    messages: list[_Message] = []


_read_chat = msgspec.json.Decoder(_ChatRequest).decode
_read_arguments = msgspec.json.Decoder(dict[str, Any]).decode


def _told(body: bytes, searches: frozenset[str], pages: frozenset[str]) -> str:
    """What the user has said in a chat request, and what searches and pages have shown.

    Results of other tools are not among it, also of MCP servers: they may be what the model has
    written into the call.
    """
    try:
        messages = _read_chat(body).messages
    except NOT_JSON:
        return ""
    names = {call.id: call.function.name for one in messages for call in one.tool_calls}
    texts: list[str] = []
    for one in messages:
        called = names.get(one.tool_call_id) if one.role == "tool" else None
        if one.role == "user" or called in pages:
            texts += _texts(one.content)
        elif called in searches:
            texts += (
                found[1] or found[2]
                for text in _texts(one.content)
                for found in _RESULT.finditer(text)
            )
    return "\n".join(texts)


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    texts = (as_string(part.get("text")) for part in objects_in(content))
    return [text for text in texts if text]
