"""The search backends, as data: what a request to each looks like, and where its results are.

    request = method, path, fields ;       fields of a GET are its query, of a POST its JSON
    results = the list at a path in the answer; of each entry the first field that is there

What a backend has no field for is put into the query itself (`site:`), or is left out. Sources: the
API pages of the vendors, and docs.searxng.org, 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Recency = Mapping[int, str]
"""The value of a field by the number of days up to which it stands."""

_TIME_RANGE: Recency = {1: "day", 7: "week", 31: "month", 366: "year"}


class Backend(Struct, frozen=True, kw_only=True):
    """One kind of search service. A field with an empty name is one that it does not have."""

    method: Literal["GET", "POST"]
    path: str
    key_header: str = ""
    key_prefix: str = ""
    fixed: Mapping[str, object] = {}
    """Fields of every request."""

    query: str
    count: str = ""
    max_count: int = 20
    include_domains: str = ""
    """The field for a list of domains; without one, they are put into the query."""

    exclude_domains: str = ""
    recency: str = ""
    recency_values: Recency = {}
    """Empty: the field takes a date, the first day that counts."""

    country: str = ""
    """The field for a country, as two letters."""

    upper_case_country: bool = False
    results: tuple[str, ...]
    title: str = "title"
    url: str = "url"
    snippets: tuple[str, ...]
    date: str = ""
    setup: str = ""
    """What the operator has to set there."""


BACKENDS: Mapping[str, Backend] = {
    "searxng": Backend(
        method="GET",
        path="/search",
        key_header="authorization",  # for one behind a proxy that asks for a key
        key_prefix="Bearer ",
        fixed={"format": "json"},
        query="q",
        recency="time_range",
        recency_values=_TIME_RANGE,
        results=("results",),
        snippets=("content",),
        date="publishedDate",
        setup="Put json among the search.formats of its settings.yml.",
    ),
    "brave": Backend(
        method="GET",
        path="/res/v1/web/search",
        key_header="x-subscription-token",
        query="q",
        count="count",
        recency="freshness",
        recency_values={1: "pd", 7: "pw", 31: "pm", 366: "py"},
        country="country",
        upper_case_country=True,
        results=("web", "results"),
        snippets=("description",),
        date="age",
    ),
    "tavily": Backend(
        method="POST",
        path="/search",
        key_header="authorization",
        key_prefix="Bearer ",
        query="query",
        count="max_results",
        include_domains="include_domains",
        exclude_domains="exclude_domains",
        recency="time_range",
        recency_values=_TIME_RANGE,
        results=("results",),
        snippets=("content", "raw_content"),
        date="published_date",
    ),
    "exa": Backend(
        method="POST",
        path="/search",
        key_header="x-api-key",
        fixed={"contents": {"text": {"maxCharacters": 2000}}},
        query="query",
        count="numResults",
        include_domains="includeDomains",
        exclude_domains="excludeDomains",
        recency="startPublishedDate",
        country="userLocation",
        upper_case_country=True,
        results=("results",),
        snippets=("text", "summary"),
        date="publishedDate",
    ),
    "serper": Backend(
        method="POST",
        path="/search",
        key_header="x-api-key",
        query="q",
        count="num",
        recency="tbs",
        recency_values={1: "qdr:d", 7: "qdr:w", 31: "qdr:m", 366: "qdr:y"},
        country="gl",
        results=("organic",),
        url="link",
        snippets=("snippet",),
        date="date",
    ),
}
