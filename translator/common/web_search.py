"""The hosted `web_search` tool: its declaration, its functions for the model, and their calls.

    { type: "web_search", filters, user_location, … }  ──►  web_search, open_page, find_in_page

Chat models know only functions, so the three actions of a `web_search_call` are three functions.
For a client that wants nothing new fetched, the search alone is declared, whose backend has looked
before; a model that calls the others nevertheless is told so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from translator.wire.errors import InvalidRequest
from translator.wire.items import FindInPageAction, OpenPageAction, SearchAction, WebSearchAction
from translator.wire.json_values import as_object, as_string, decode_members
from translator.wire.notices import Notice

from .hosted import HostedFunction
from .invalid import decode_at

TYPES = frozenset(
    {
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
"""The names of the tool; it is the same under each."""

SECTION = "[tools.search]"
"""The section of the service's settings that has it run."""

SEARCH, OPEN_PAGE, FIND_IN_PAGE = "web_search", "open_page", "find_in_page"


MAX_DOMAINS = 100
"""Most domains of a filter; as many as OpenAI takes."""

_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class Filters(Struct, frozen=True):
    """Domains of results, each with all below it."""

    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None


class Location(Struct, frozen=True):
    """About where the user is."""

    type: str | None = None
    country: str | None = None
    city: str | None = None
    region: str | None = None
    timezone: str | None = None


class WebSearchTool(Struct, frozen=True):
    """The declaration, as far as it is done here; `filters` of a client are always applied."""

    filters: Filters | None = None
    user_location: Location | None = None
    search_context_size: Literal["low", "medium", "high"] | None = None
    external_web_access: bool | None = None
    indexed_web_access: bool | None = None
    search_content_types: list[str] | None = None

    @property
    def fetches(self) -> bool:
        """Whether pages may be fetched for the client."""
        return self.external_web_access is not False


_KNOWN = frozenset({"type", *WebSearchTool.__struct_fields__})
_CITE = (
    "Each result has a number, as in [3]. Cite what you use by that number in brackets, directly"
    " behind the sentence: [3]."
)
_DESCRIPTIONS: Mapping[str, str] = {
    SEARCH: f"Searches the web and returns titles, URLs and snippets. {_CITE}",
    OPEN_PAGE: (
        "Opens a page by its URL, one of a search's results or of the user's messages, and returns"
        " its text with numbered lines, from a line on. Cite it by its number in brackets."
    ),
    FIND_IN_PAGE: (
        "Returns the lines of a page that contain a text, ignoring case. Cite the page by its"
        " number in brackets."
    ),
}
_STRING = {"type": "string"}
_PROPERTIES: Mapping[str, dict[str, Any]] = {
    SEARCH: {
        "query": {**_STRING, "description": "What to search for."},
        "recency_days": {"type": "integer", "description": "Only results of the last days."},
        "domains": {
            "type": "array",
            "items": _STRING,
            "description": "Only results of these domains.",
        },
    },
    OPEN_PAGE: {
        "url": {**_STRING, "description": "The full URL."},
        "line": {"type": "integer", "description": "The first line to show; 1 by default."},
    },
    FIND_IN_PAGE: {
        "url": {**_STRING, "description": "The full URL."},
        "pattern": {**_STRING, "description": "The text to look for, literally."},
    },
}
_REQUIRED: Mapping[str, list[str]] = {
    SEARCH: ["query"],
    OPEN_PAGE: ["url"],
    FIND_IN_PAGE: ["url", "pattern"],
}


class FunctionOfTool(Struct, frozen=True):
    """A function of a hosted tool as it is declared to the model."""

    function: HostedFunction
    description: str
    parameters: Raw
    shown: bool = True
    """The model is told of it."""


def read_tool(raw: Raw, path: str, notices: list[Notice], *, by_country: bool) -> WebSearchTool:
    """The declaration at a path; raises InvalidRequest for fields of another type or value.

    `by_country`: the search that runs here has regard to the user's country.
    """
    tool = decode_at(raw, WebSearchTool, path)
    given = decode_members(raw)
    for name, value in given.items():
        if name not in _KNOWN and bytes(value) != b"null":
            message = "The search that runs here does not have it."
            notices.append(Notice(f"{path}.{name}", "ignored", message))
    if any(kind != "text" for kind in tool.search_content_types or ()):
        message = "Only text is searched here."
        notices.append(Notice(f"{path}.search_content_types", "ignored", message))
    if tool.filters is not None:
        filters = f"{path}.filters"
        _check_domains(tool.filters.allowed_domains, f"{filters}.allowed_domains", notices)
        _check_domains(tool.filters.blocked_domains, f"{filters}.blocked_domains", notices)
    if tool.user_location is not None:
        _check_location(tool.user_location, f"{path}.user_location", notices, by_country)
    return tool


def domain_of(text: str) -> str:
    """A domain as hosts are compared, as of `https://WWW.a.com/x` or `*.a.com`; empty for none."""
    name = text.strip().lower()
    name = (name.partition("://")[2] or name).partition("/")[0].removeprefix("*.").strip(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    return name if len(name) <= 253 and _DOMAIN.fullmatch(name) else ""


def _check_domains(texts: Sequence[str] | None, path: str, notices: list[Notice]) -> None:
    """Raises InvalidRequest for what is no domain: left out, it would let everything pass."""
    if texts is not None and len(texts) > MAX_DOMAINS:
        message = f"Invalid '{path}': at most {MAX_DOMAINS} domains; there are {len(texts)}."
        raise InvalidRequest(message, param=path, code="array_above_max_length")
    for index, text in enumerate(texts or ()):
        place = f"{path}[{index}]"
        domain = domain_of(text)
        if not domain:
            message = f"Invalid '{place}': expected a domain, as in example.com."
            raise InvalidRequest(message, param=place, code="invalid_value")
        if text.isascii() and text.strip().lower() != domain:
            message = f"Read as the domain {domain}, with all below it."
            notices.append(Notice(place, "weakened", message))


def _check_location(location: Location, path: str, notices: list[Notice], by_country: bool) -> None:
    for name in ("city", "region", "timezone"):
        if getattr(location, name):
            message = "Of the place of the user, the search that runs here knows the country alone."
            notices.append(Notice(f"{path}.{name}", "ignored", message))
    country = location.country
    if not country:
        return
    if not by_country:
        message = "The search that runs here has no regard to it."
        notices.append(Notice(f"{path}.country", "ignored", message))
    elif not (len(country) == 2 and country.isascii() and country.isalpha()):
        message = "A country has two letters."
        notices.append(Notice(f"{path}.country", "ignored", message))


def functions_of(tool: WebSearchTool) -> Iterator[FunctionOfTool]:
    """The functions that are run here, whether the model is told of them or not."""
    for name in (SEARCH, OPEN_PAGE, FIND_IN_PAGE):
        schema = {
            "type": "object",
            "properties": _PROPERTIES[name],
            "required": _REQUIRED[name],
            "additionalProperties": False,
        }
        yield FunctionOfTool(
            HostedFunction("web_search", "", name),
            _DESCRIPTIONS[name],
            Raw(msgspec.json.encode(schema)),
            shown=tool.fetches or name == SEARCH,
        )


def action_of(name: str, arguments: Mapping[str, Any]) -> WebSearchAction:
    """The action of a call; a text that is missing is empty."""
    match name:
        case "open_page":
            return OpenPageAction(_text(arguments, "url"))
        case "find_in_page":
            return FindInPageAction(_text(arguments, "url"), _text(arguments, "pattern"))
        case _:
            query = _text(arguments, "query")
            return SearchAction(query, [query])


def missing_in(name: str, arguments: Mapping[str, Any]) -> str:
    """The first required argument of a function that is missing; empty where none is."""
    return next((one for one in _REQUIRED[name] if not _text(arguments, one)), "")


def _text(arguments: Mapping[str, Any], name: str) -> str:
    return (as_string(arguments.get(name)) or "").strip()


def arguments_of(text: str) -> dict[str, Any] | None:
    """The arguments in a JSON text; None where it is not an object."""
    try:
        return as_object(msgspec.json.decode(text.encode("utf-8", "replace")))
    except (msgspec.DecodeError, RecursionError):
        return None
