"""A search by a tool of an MCP server: its results, read from whatever it answers.

    results = list with a URL and a title in the structured content, or in the text as JSON
            | lines "Title: …", "URL: …"
            | URLs in the text ;

Where no URL is found, none is claimed: the text alone is the result.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from translator.service.config.tools import Search
from translator.service.tools.backends import Backend
from translator.service.tools.search import (
    MAX_QUERY_CHARACTERS,
    Hit,
    Query,
    SearchFailed,
    hits_in,
    site_query,
)
from translator.service.tools.untrusted import one_line
from translator.wire.json_values import as_list, as_object, as_string

from .room import McpRoom
from .servers import CallResult, Target

OWNER = "[tools.search]"
"""Whose session it is: no client's."""

_URL_KEYS = ("url", "link", "href", "uri")
_TITLE_KEYS = ("title", "name", "headline")
_SNIPPET_KEYS = ("content", "snippet", "description", "text", "summary", "body")
_DATE_KEYS = ("date", "published", "published_date", "publishedDate", "age")
_MAX_DEPTH = 4
_LINE = re.compile(
    r"\W*(title|url|link|source|description|snippet|content|text|summary|published|date|age)\W*:"
    r"\W*(\S.*)",
    re.IGNORECASE,
)
_LINE_KEYS = {"link": "url", "source": "url", "published": "date", "age": "date"}
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\((https?://[^\s()<>]+)\)|https?://[^\s<>\"'`\])]+")
_TRAILING = ".,;:!?*_"
_FIELDS = ("url", "title", "content", "date")


class McpSearcher:
    """Searches with a tool of an MCP server."""

    def __init__(self, settings: Search, room: McpRoom) -> None:
        assert settings.server is not None
        assert settings.limits.tool is not None
        self._settings = settings
        self._servers = room.servers
        self._tool = settings.limits.tool
        server = settings.server
        self._target = Target(OWNER, server.url, server.headers, checked=False)

    async def search(self, query: Query, today: date) -> list[Hit]:
        """The results of a query. Raises SearchFailed."""
        del today  # of the query's filters, only domains can be kept to: tools differ
        text = site_query(query)[:MAX_QUERY_CHARACTERS]
        arguments = {self._settings.limits.query_argument: text}
        seconds = self._settings.limits.timeout_s
        try:
            async with asyncio.timeout(seconds):
                result = await self._servers.call(
                    self._target, self._tool, arguments, may_repeat=True
                )
        except TimeoutError:
            raise SearchFailed(f"it took more than {seconds:g} s") from None
        if result.error is not None:
            raise SearchFailed(one_line(result.text, 200))
        return read_results(result, query)


def read_results(result: CallResult, query: Query) -> list[Hit]:
    """The results in what a tool has answered, of domains that the query has."""
    entries = list(_entries(result.structured, 0)) or list(_entries(_json(result.text), 0))
    entries = entries or [one for one in _lined(result.text) if one["url"] not in query.text]
    if entries:
        return hits_in(entries, _SHAPE, query)
    # a text may quote the query, and a model can write any URL there
    found = (one for one in _links(result.text) if one["url"] not in query.text)
    links = hits_in(found, _SHAPE, query)
    room = query.count * query.snippet_characters
    words = result.text if len(result.text) <= room else f"{result.text[: room - 1]}…"
    return [Hit("", "", words, ""), *links]


_SHAPE = Backend(method="GET", path="", query="", results=(), snippets=("content",), date="date")


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _entries(value: object, depth: int) -> Iterator[Mapping[str, Any]]:
    """The objects with a URL in a JSON value, wherever the list of them is."""
    if depth > _MAX_DEPTH:
        return
    for entry in as_list(value) or ():
        yield from _entries(entry, depth + 1)
    fields = as_object(value)
    if fields is None:
        return
    url = _first(fields, _URL_KEYS)
    if url:
        yield {
            "url": url,
            "title": _first(fields, _TITLE_KEYS),
            "content": _first(fields, _SNIPPET_KEYS),
            "date": _first(fields, _DATE_KEYS),
        }
        return
    for entry in fields.values():
        yield from _entries(entry, depth + 1)


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next(filter(None, (as_string(fields.get(name)) for name in names)), "")


def _lined(text: str) -> Iterator[Mapping[str, Any]]:
    """The results in lines such as `Title: …` and `URL: …`; one without a URL is none."""
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            if last == "content" and line.strip():
                found["content"] += f" {line.strip()}"
            continue
        key = match[1].lower()
        key = _LINE_KEYS.get(key, key if key in _FIELDS else "content")
        if key in found and key in ("title", "url"):  # the next result begins
            if "url" in found:
                yield found
            found = {}
        found.setdefault(key, match[2].strip("*_ "))
        last = key
    if "url" in found:
        yield found


def _links(text: str) -> Iterator[Mapping[str, Any]]:
    for match in _LINK.finditer(text):
        url = match[2] or match[0].rstrip(_TRAILING)
        yield {"url": url, "title": match[1] or ""}
