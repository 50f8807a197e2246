"""A search: one request to the backend, and its results, filtered and made harmless."""

from __future__ import annotations

import asyncio
import html
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from itertools import islice
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from translator.service.base.periodic_warning import PeriodicWarning
from translator.service.config.tools import Search
from translator.wire.json_values import as_list, as_object, as_string

from .addresses import NotAllowed, parsed
from .backends import BACKENDS, Backend
from .domains import Domains
from .untrusted import harmless, one_line
from .web import Fetched, FetchFailed, WebClient

log = logging.getLogger(__name__)

MAX_QUERY_CHARACTERS = 2000
MAX_TITLE_CHARACTERS = 200
_SITES_IN_QUERY = 10
"""Most domains that are put into a query."""

_EMPHASIS = re.compile(r"</?(?:b|em|i|mark|span|strong)(?:\s[^<>]{0,200})?>", re.IGNORECASE)


class SearchFailed(Exception):
    """The backend gave no results; the message is for the model and holds no secret.

    `why` is for the operator. `is_setup`: the backend has answered, but not as one that is set up.
    """

    def __init__(self, why: str, *, is_setup: bool = False) -> None:
        super().__init__(f"The search failed ({why}). Answer without it, or say so.")
        self.why = why
        self.is_setup = is_setup


class Query(Struct, frozen=True):
    """What is searched for."""

    text: str
    count: int
    """Most results."""

    snippet_characters: int
    """Most characters of the text of each."""

    domains: Domains = Domains()
    recency_days: int | None = None
    country: str = ""
    """Two letters, or empty."""


class Hit(Struct, frozen=True):
    """One result; all but the URL is harmless text in one line.

    Without a URL it is text that a tool has found, in lines of its own, and no source.
    """

    url: str
    title: str
    snippet: str
    date: str


class SearchBackend(Protocol):
    """Searches the web."""

    async def search(self, query: Query, today: date) -> list[Hit]:
        """The results of a query, best first. Raises SearchFailed."""
        ...


class Searcher:
    """Searches with a backend that is reached over HTTP."""

    def __init__(self, settings: Search, web: WebClient) -> None:
        self._settings = settings
        self._backend = BACKENDS[settings.backend]
        self._web = web
        self._warn = PeriodicWarning(log)

    async def search(self, query: Query, today: date) -> list[Hit]:
        """The results of a query, best first. Raises SearchFailed."""
        try:
            async with asyncio.timeout(self._settings.limits.timeout_s):
                answer = await self._ask(query, today)
            if answer.status != 200:
                raise self._failed(f"HTTP {answer.status}", is_setup=answer.status == 403)
            entries = _at(msgspec.json.decode(answer.body), self._backend.results)
        except TimeoutError:
            raise self._failed(f"it took more than {self._settings.limits.timeout_s:g} s") from None
        except FetchFailed as error:
            raise self._failed(str(error)) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise self._failed("the answer is not JSON", is_setup=True) from None
        return hits_in(entries, self._backend, query)

    def _failed(self, why: str, *, is_setup: bool = False) -> SearchFailed:
        self._warn("search with %s failed: %s", self._settings.backend, why)
        return SearchFailed(why, is_setup=is_setup)

    async def _ask(self, query: Query, today: date) -> Fetched:
        backend, key = self._backend, self._settings.key
        headers: dict[str, str] = {}
        if key is not None and backend.key_header:
            headers[backend.key_header] = f"{backend.key_prefix}{key}"
        fields = _fields(backend, query, today)
        url = f"{self._settings.url}{backend.path}"
        if backend.method == "GET":
            query_string = urlencode({name: str(value) for name, value in fields.items()})
            return await self._web.ask("GET", f"{url}?{query_string}", headers, None)
        headers["content-type"] = "application/json"
        return await self._web.ask("POST", url, headers, msgspec.json.encode(fields))


def site_query(query: Query, *, allowed: bool = True, blocked: bool = True) -> str:
    """The text of a query, with those of its domains that the backend has no field for."""
    text, domains = query.text[:MAX_QUERY_CHARACTERS], query.domains
    if allowed and domains.allowed:
        text += " " + " OR ".join(f"site:{one}" for one in domains.allowed[:_SITES_IN_QUERY])
    if blocked and domains.blocked:
        text += "".join(f" -site:{one}" for one in domains.blocked[:_SITES_IN_QUERY])
    return text


def _fields(backend: Backend, query: Query, today: date) -> dict[str, Any]:
    """The fields of a request."""
    fields: dict[str, Any] = dict(backend.fixed)
    allowed, blocked = query.domains.allowed, query.domains.blocked
    if allowed and backend.include_domains:
        fields[backend.include_domains] = list(allowed)
    if blocked and backend.exclude_domains:
        fields[backend.exclude_domains] = list(blocked)
    fields[backend.query] = site_query(
        query, allowed=not backend.include_domains, blocked=not backend.exclude_domains
    )
    if backend.count:
        # some are filtered away afterwards
        wanted = query.count * 2 if allowed or blocked else query.count
        fields[backend.count] = min(wanted, backend.max_count)
    days = query.recency_days
    if days is not None and backend.recency:
        if not backend.recency_values:
            fields[backend.recency] = (today - timedelta(days=min(days, 36_500))).isoformat()
        elif fitting := [word for up_to, word in backend.recency_values.items() if days <= up_to]:
            fields[backend.recency] = fitting[0]
    if query.country and backend.country:
        country = query.country
        fields[backend.country] = country.upper() if backend.upper_case_country else country.lower()
    return fields


def _at(answer: object, path: tuple[str, ...]) -> Sequence[Any]:
    """The list at a path in an answer; empty where there is none, which is no results."""
    for name in path:
        answer = (as_object(answer) or {}).get(name)
    return as_list(answer) or []


def hits_in(entries: Iterable[Any], backend: Backend, query: Query) -> list[Hit]:
    """The results among the entries of an answer, which have the fields of a backend."""
    found: dict[str, Hit] = {}
    for entry in islice(entries, 10 * backend.max_count):
        fields = as_object(entry) or {}
        url = _url(fields.get(backend.url))
        if not url or url in found or not query.domains.take(url):
            continue
        texts = (_text(fields, name, query.snippet_characters) for name in backend.snippets)
        found[url] = Hit(
            url,
            _text(fields, backend.title, MAX_TITLE_CHARACTERS) or url,
            next(filter(None, texts), ""),
            _text(fields, backend.date, 40) if backend.date else "",
        )
        if len(found) == query.count:
            break
    return list(found.values())


def _url(value: object) -> str:
    """The URL of a result; empty where a page cannot have it."""
    try:
        return harmless(parsed(as_string(value) or "").geturl())
    except NotAllowed:
        return ""


def _text(fields: Mapping[str, Any], name: str, limit: int) -> str:
    """A text without the marks of emphasis that some backends put into it."""
    raw = (as_string(fields.get(name)) or "")[: 8 * limit]
    with suppress(ValueError):  # for a number with thousands of digits
        raw = html.unescape(_EMPHASIS.sub("", raw))
    return one_line(raw, limit)
