"""Citations and sources of an answer, from the forms in which upstreams give them.

OpenAI and OpenRouter annotate a place in the text; Perplexity lists sources that marks in the text,
[1] and so on, refer to. Both come again and again, and count once.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, UnsetType

from translator.wire.deltas import Citation, Source, Sources
from translator.wire.json_values import (
    as_integer,
    as_list,
    as_object,
    as_string,
    objects_in,
    replace_lone_surrogates,
)

from .lenient_json import decode_leniently


class CitationReader:
    """Reads what is new among the citations and sources of one answer."""

    __slots__ = ("_cited", "_last_read", "_sources")

    def __init__(self) -> None:
        self._cited: dict[tuple[str, int, int], None] = {}
        self._sources: tuple[Source, ...] = ()
        self._last_read: tuple[Raw | UnsetType, Raw | UnsetType] = (UNSET, UNSET)

    def sources(self, citations: Raw | UnsetType, results: Raw | UnsetType) -> Sources | None:
        """The sources of `citations` and `search_results`; None when they are as before."""
        if (citations, results) == self._last_read:
            return None
        self._last_read = (citations, results)
        titles = {
            result.get("url"): as_string(result.get("title"))
            for result in objects_in(_decoded(results))
        }
        urls = as_list(_decoded(citations)) or list(titles)
        sources = tuple(
            Source(replace_lone_surrogates(url), replace_lone_surrogates(titles.get(url) or ""))
            for url in urls
            if isinstance(url, str)
        )
        if sources == self._sources:
            return None
        self._sources = sources
        return Sources(sources)

    def annotation(self, annotation: object) -> Citation | None:
        """A web source, flat as in the Responses API or nested as in chat; None for any other.

        One that does not give its place in the text counts as none.
        """
        outer = as_object(annotation) or {}
        if outer.get("type") != "url_citation":
            return None
        citation = as_object(outer.get("url_citation")) or outer
        url = as_string(citation.get("url"))
        start, end = as_integer(citation.get("start_index")), as_integer(citation.get("end_index"))
        if url is None or start is None or end is None or (url, start, end) in self._cited:
            return None
        self._cited[url, start, end] = None
        title = replace_lone_surrogates(as_string(citation.get("title")) or "")
        return Citation(replace_lone_surrogates(url), title, start, end)


def _decoded(raw: Raw | UnsetType) -> object:
    return None if raw is UNSET else decode_leniently(bytes(raw))
