"""The commands of a search request: each is run, and has its block in the output.

    request ──►  commands  ──at most CONCURRENT at once──►  blocks  ──►  output

Whatever becomes of a command, the answer is words for the model: it wrote the command, and can
write another one.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from translator.service.config.tools import Search, Tools
from translator.service.observe.observer import ToolName, ToolRan, ToolResult

from .addresses import AddressRules, NotAllowed
from .blocks import Block, Matches, Results, View, Words, output
from .pages import Page, Pages
from .request import (
    MAX_COMMANDS,
    Command,
    SearchOptions,
    SearchRequest,
    SearchResponse,
    SearchResult,
    budget,
    read_commands,
    read_options,
    user_text,
)
from .search import Hit, Query, SearchBackend, Searcher, SearchFailed
from .sessions import SearchSession, SearchSessions
from .untrusted import one_line
from .web import FetchFailed, WebClient
from .written_urls import comparable, urls_in

CONCURRENT = 4
"""Commands of a request that are run at once."""

MAX_PATTERN_CHARACTERS = 500
MAX_ID_CHARACTERS = 200

_ABSENT: Mapping[str, str] = {
    "image_query": "Images are not searched here; use search_query.",
    "screenshot": "Screenshots are not made here; use open for the text of a page.",
    "finance": "Prices are not looked up here; use search_query.",
    "weather": "The weather is not looked up here; use search_query.",
    "sports": "Sports are not looked up here; use search_query.",
    "literature_search_query": "Literature is not searched here by itself; use search_query.",
}
_KNOWN = "search_query, open, click, find and time"
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-−])\s*(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)
_ZERO = frozenset({"", "z", "utc", "gmt"})


class Refused(Exception):
    """A command that cannot be run as it is; the message is for the model."""


class Opened(Struct, frozen=True):
    """A page, and what of it is wanted: a part, or the lines with a pattern."""

    page: Page
    first: int = 1
    pattern: str = ""


_TOOLS: Mapping[str, ToolName] = {
    "search_query": "search",
    "open": "open",
    "click": "click",
    "find": "find",
    "time": "time",
}

CALL_ERRORS = (Refused, NotAllowed, FetchFailed, SearchFailed)
"""What a call may raise; each message is for the model."""

C = TypeVar("C", bound="Calls")

_Found = Words | tuple[str, list[Hit]] | Opened
"""What a command found, before it has refs."""


class SearchTool:
    """Runs the commands of search requests."""

    def __init__(
        self,
        settings: Tools,
        search: Search,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        own_headers: Mapping[str, str],
        own_ports: Iterable[int],
        shared_folder: Path | None = None,
        backend: SearchBackend | None = None,
    ) -> None:
        """`now` is in seconds of a clock that no one sets, `clock` in seconds since 1970.

        `backend` replaces those that are reached over HTTP.
        `own_headers` and `own_ports` are those of this service, whose own URLs are not opened.
        `shared_folder` is one that all workers have, where there are several.
        """
        limits, pages = settings.limits, settings.pages
        self.settings = settings
        self._search = search
        self._clock = clock
        self._slots = asyncio.Semaphore(limits.max_concurrent_calls)
        self._web = WebClient(
            AddressRules(settings.allow_private, own_ports),
            connect_timeout_s=pages.connect_timeout_s,
            own_headers=own_headers,
            proxy=limits.proxy,
        )
        self._searcher = backend or Searcher(search, self._web)
        self._pages = Pages(pages, self._web, now, self._slots)
        self._sessions = SearchSessions(now, search.limits.max_sessions, shared_folder)

    def open(self) -> None:
        """To be called in the event loop, before the first request."""
        self._web.open()

    async def aclose(self) -> None:
        self._pages.close()
        await self._web.aclose()

    def may_search(self, client: str | None) -> bool:
        """Whether a client may search, by its name in the settings; None without `[clients]`."""
        names = self._search.limits.clients
        return names is None or client in names

    def calls(
        self,
        kind: Callable[..., C],
        owner: str,
        request: SearchRequest,
        session: SearchSession,
        runs: list[ToolRan],
    ) -> C:
        """The calls of a request; `kind` is their class."""
        calls = kind(
            owner, request, session, self.settings, self._searcher, self._pages, self._slots, runs
        )
        calls.now = datetime.fromtimestamp(self._clock(), UTC)
        return calls

    async def run(self, owner: str, request: SearchRequest, runs: list[ToolRan]) -> SearchResponse:
        """The answer of a request of an owner; `runs` gets what was run, also if cancelled."""
        session_id = request.id[:MAX_ID_CHARACTERS]
        session = await self._sessions.session(owner, session_id)
        calls = self.calls(Calls, owner, request, session, runs)
        found = await calls.all(self.settings.limits.call_timeout_s)
        blocks, results = _numbered(found, session)
        await self._sessions.share(owner, session_id, session)
        text = output(blocks, budget(request))
        return SearchResponse(output=text, results=results)


class Calls:
    """The commands of one request, or the calls of one response."""

    def __init__(
        self,
        owner: str,
        request: SearchRequest,
        session: SearchSession,
        settings: Tools,
        searcher: SearchBackend,
        pages: Pages,
        slots: asyncio.Semaphore,
        runs: list[ToolRan],
    ) -> None:
        self._owner = owner
        self._request = request
        self._session = session
        self._settings = settings
        self._searcher = searcher
        self._pages = pages
        self._slots = slots
        self._options: SearchOptions = read_options(request)
        self._own_slots = asyncio.Semaphore(CONCURRENT)
        self._opened = 0
        self._user_urls: frozenset[str] | None = None
        self.now = datetime.now(UTC)
        self.runs = runs

    async def all(self, timeout_s: float) -> list[_Found]:
        """What each command found, in their order."""
        commands = read_commands(self._request)
        if not commands:
            return [Words(f"No command was given. There are {_KNOWN}.")]
        late = len(commands) - MAX_COMMANDS
        tasks = [asyncio.create_task(self._run(one)) for one in commands[:MAX_COMMANDS]]
        try:
            await asyncio.wait(tasks, timeout=timeout_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        found: list[_Found] = [
            Words(f"{_shown(command)}: not done within {timeout_s:g} s; try less at once.")
            if task.cancelled()
            else task.result()
            for command, task in zip(commands, tasks, strict=False)
        ]
        if late > 0:
            found.append(Words(f"{late} more commands were not run: {MAX_COMMANDS} at most."))
        return found

    async def _run(self, command: Command) -> _Found:
        began = time.perf_counter()
        result: ToolResult = "failed"
        try:
            async with self._own_slots:
                found = await self.found(command)
            result = "completed"
        except CALL_ERRORS as error:
            if isinstance(error, Refused | NotAllowed):
                result = "refused"
            found = Words(f"{_shown(command)}: {error}".removesuffix(".") + ".")
        finally:
            tool = _TOOLS.get(command.kind, "other")
            self.runs.append(ToolRan(tool, result, time.perf_counter() - began))
        return found

    async def found(self, command: Command) -> _Found:
        """What a command finds; raises CALL_ERRORS."""
        match command.kind:
            case "search_query":
                return await self._search(command)
            case "open":
                return Opened(await self._asked(command), command.number("lineno") or 1)
            case "click":
                return Opened(await self._clicked(command))
            case "find":
                pattern = command.text("pattern")[:MAX_PATTERN_CHARACTERS]
                if not pattern:
                    raise Refused("it has no pattern")
                return Opened(await self._asked(command), pattern=pattern)
            case "time":
                return self._time(command)
            case kind:
                raise Refused(_ABSENT.get(kind, f"there is no such command; use {_KNOWN}"))

    # --- each of them ---------------------------------------------------------------------------

    async def _search(self, command: Command) -> _Found:
        text = command.text("q") or command.text("query")
        if not text:
            raise Refused("it has no q")
        search, options = self._settings.search, self._options
        if options.access == "cached" and search is not None and search.limits.cached == "off":
            raise Refused('nothing may be fetched; web_search = "live" in Codex lets it')
        query = Query(
            text,
            options.results,
            options.characters,
            options.domains.narrowed(command.texts("domains")),
            command.number("recency"),
            options.country,
        )
        async with self._slots:
            return text, await self._searcher.search(query, self.now.date())

    async def _asked(self, command: Command) -> Page:
        """The page that a command names, by a ref or its URL."""
        ref = command.text("ref_id") or command.text("url")
        if not ref:
            raise Refused("it has no ref_id")
        if "://" in ref:
            self._check_seen(ref)
            return await self._page(ref)
        url = self._session.url_of(ref.strip("[]【】"))
        if url is None:
            raise Refused("that reference is not known here; give the full URL instead")
        return await self._page(url)

    async def _page(self, url: str) -> Page:
        self._opened += 1
        if self._opened > self._settings.pages.max_pages:
            raise Refused(
                f"no further page is opened: {self._settings.pages.max_pages} is the most for one"
                " answer"
            )
        page = await self._pages.open(self._owner, url, self._allow)
        for link in page.links:
            self._session.saw_link(link.url)
        return page

    async def _clicked(self, command: Command) -> Page:
        number = command.number("id")
        if number is None:
            raise Refused("it has no id of a link")
        page = await self._asked(command)
        if number >= len(page.links):
            raise Refused(f"the page has no link {number}")
        url = page.links[number].url
        self._check_seen(url)
        return await self._page(url)

    def _time(self, command: Command) -> Words:
        text = command.text("utc_offset")
        offset = timedelta()
        if text.lower() not in _ZERO:
            found = _OFFSET.fullmatch(text)
            if found is None:
                raise Refused("utc_offset is written as +03:00")
            offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
            if offset >= timedelta(hours=24):
                raise Refused("utc_offset is less than 24 hours")
            offset = offset if found[1] == "+" else -offset
        there = self.now.astimezone(timezone(offset))
        zone = f"{there:%z}"
        return Words(f"It is {there:%A, %Y-%m-%d %H:%M:%S} at UTC{zone[:3]}:{zone[3:5]}.")

    # --- which pages ----------------------------------------------------------------------------

    def _allow(self, url: str) -> None:
        """Raises NotAllowed for a page that this request may not open: also for a redirect."""
        options = self._options
        if options.access == "cached":
            raise NotAllowed(
                'no page may be fetched; use the results, or have the user set web_search = "live"'
            )
        if not options.domains.take(url):
            raise NotAllowed("its domain is not among those that may be used")

    def _check_seen(self, url: str) -> None:
        """Raises NotAllowed for a URL that came from nowhere but the model itself."""
        session = self._session
        if session.is_result(url):
            return
        if self._options.access == "indexed":
            raise NotAllowed("only pages that stood in results may be opened")
        if self._settings.pages.open == "any" or session.is_link(url):
            return
        if self._user_urls is None:
            self._user_urls = urls_in(self._said())
        if (wanted := comparable(url)) and wanted not in self._user_urls:
            raise NotAllowed(
                "only pages that stood in results, on opened pages or in the user's messages may be"
                " opened; search for it first"
            )

    def _said(self) -> str:
        """Text with the URLs that may be opened without having been found here."""
        return user_text(self._request)


def _numbered(
    found: Iterable[_Found], session: SearchSession
) -> tuple[list[Block], list[SearchResult]]:
    """What was found as blocks, with refs that the session knows from now on."""
    turn = session.begin()
    blocks: list[Block] = []
    results: list[SearchResult] = []

    def refer(kind: str, number: int, url: str, title: str) -> str:
        ref = f"turn{turn}{kind}{number}"
        session.refer(ref, url)
        results.append(SearchResult(ref, url, title))
        return ref

    hits = pages = 0
    for one in found:
        match one:
            case Words():
                blocks.append(one)
            case Opened(page, first, pattern):
                ref = refer("fetch", pages, page.url, page.title)
                pages += 1
                blocks.append(Matches(ref, page, pattern) if pattern else View(ref, page, first))
            case (query, listed):
                shown: list[tuple[str, Hit]] = []
                for hit in listed:
                    if not hit.url:
                        shown.append(("", hit))
                        continue
                    session.saw_result(hit.url)
                    shown.append((refer("search", hits, hit.url, hit.title), hit))
                    hits += 1
                blocks.append(Results(query, shown))
    return blocks, results


def _shown(command: Command) -> str:
    """A command as the answer names it."""
    what = command.text("q") or command.text("ref_id") or command.text("utc_offset")
    return one_line(f"{command.kind} {what}".strip(), 120)
