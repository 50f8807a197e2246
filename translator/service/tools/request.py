"""`POST /v1/alpha/search` as Codex sends it: the request, and how leniently it is read.

    request  = id, commands, settings, input, max_output_tokens
    commands = search_query, open, click, find, time, … : lists of objects, all optional

A model writes the commands, so what is wrong in one of them is told the model in the answer; only
what is no such request at all is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from translator.common.invalid import nested_too_deeply
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON, as_list, as_object, as_string

from .domains import Domains, plain

RESULTS: Mapping[str, tuple[int, int]] = {"low": (5, 400), "medium": (8, 800), "high": (10, 1600)}
"""Results of a query, and characters of each, by `search_context_size`."""

LENGTHS: Mapping[str, int] = {"short": 1, "medium": 2, "long": 4}
"""By how much `response_length` multiplies the characters."""

DEFAULT_OUTPUT_TOKENS = 2500
MAX_OUTPUT_TOKENS = 50_000
CHARACTERS_PER_TOKEN = 4

MAX_COMMANDS = 30
"""Most commands of a request, of all kinds together."""


class SearchRequest(Struct, frozen=True, kw_only=True):
    """The request as it is decoded; its parts are read one by one."""

    id: str = ""
    """The id of Codex' session."""

    model: str = ""
    input: Any = None
    commands: dict[str, Any]
    settings: dict[str, Any] | None = None
    max_output_tokens: int | None = None


class SearchResult(Struct, frozen=True):
    """A result or a page in the answer."""

    ref_id: str
    url: str
    title: str


class SearchResponse(Struct, frozen=True, kw_only=True):
    """The answer: text for the model, which is never empty, and what to show beside it."""

    output: str
    results: list[SearchResult]


class Command(Struct, frozen=True):
    """One command of the model: its kind, and its fields."""

    kind: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field as text; empty where it is missing. Numbers are text, too."""
        value = self.fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value).removesuffix(".0")
        return (as_string(value) or "").strip()

    def number(self, name: str) -> int | None:
        """A field as a whole number, also where it is text; None where it is none."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    def texts(self, name: str) -> list[str]:
        """A field as a list of texts; a single one is a list, too."""
        value = self.fields.get(name)
        if isinstance(value, str):
            return [value]
        return [one for one in as_list(value) or () if isinstance(one, str)]


class SearchOptions(Struct, frozen=True, kw_only=True):
    """What `settings` say, as far as it is done here."""

    domains: Domains = Domains()
    country: str = ""
    results: int
    characters: int
    access: Literal["live", "indexed", "cached"]
    """Any page; pages that stood in results; none."""


def read_request(body: bytes) -> SearchRequest:
    """The request in a body; raises InvalidRequest."""
    try:
        return msgspec.json.decode(body, type=SearchRequest)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.", param=None, code="invalid_type") from None
    except RecursionError:
        raise nested_too_deeply() from None
    except NOT_JSON as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", param=None) from None


def read_commands(request: SearchRequest) -> list[Command]:
    """The commands, in their order, one for each entry of their lists."""
    return [
        Command(kind[:40], fields)
        for kind, value in request.commands.items()
        if kind != "response_length" and value not in (None, [], "")
        for fields in _entries(value)
    ]


def number_of_searches(request: SearchRequest) -> int:
    """How many of the commands that are run ask the backend."""
    commands = read_commands(request)[:MAX_COMMANDS]
    return sum(one.kind == "search_query" for one in commands)


def _entries(value: object) -> Iterator[Mapping[str, Any]]:
    entries = as_list(value)
    for entry in [value] if entries is None else entries:
        fields = as_object(entry)
        # a model that forgets the object around the only field
        yield {"q": entry, "ref_id": entry} if fields is None else fields


def read_options(request: SearchRequest) -> SearchOptions:
    """The options of a request; what is of another type than expected is as if it were missing."""
    settings = request.settings or {}
    filters = as_object(settings.get("filters")) or {}
    location = as_object(settings.get("user_location")) or {}
    country = (as_string(location.get("country")) or "").strip()
    size = as_string(settings.get("search_context_size")) or "medium"
    length = as_string(request.commands.get("response_length")) or "short"
    results, characters = RESULTS.get(size, RESULTS["medium"])
    external = settings.get("external_web_access", True)
    access: Literal["live", "indexed", "cached"] = "live"
    if external is False:
        access = "cached"
    elif external == "indexed" or settings.get("indexed_web_access") is True:
        access = "indexed"
    return SearchOptions(
        domains=Domains(
            plain(_texts(filters.get("allowed_domains"))),
            plain(_texts(filters.get("blocked_domains"))),
        ),
        country=country if len(country) == 2 and country.isascii() and country.isalpha() else "",
        results=results,
        characters=characters * LENGTHS.get(length, 1),
        access=access,
    )


def budget(request: SearchRequest) -> int:
    """Most characters of the output."""
    tokens = request.max_output_tokens
    if tokens is None or tokens <= 0:
        tokens = DEFAULT_OUTPUT_TOKENS
    return CHARACTERS_PER_TOKEN * min(tokens, MAX_OUTPUT_TOKENS)


def user_text(request: SearchRequest) -> str:
    """All that the user has said in `input`: URLs in it may be opened."""
    if isinstance(request.input, str):
        return request.input
    texts: list[str] = []
    for one in as_list(request.input) or ():
        item = as_object(one) or {}
        if item.get("role") != "user":
            continue
        content = item.get("content")
        if isinstance(content, str):
            texts.append(content)
        parts = map(as_object, as_list(content) or ())
        texts += [as_string((part or {}).get("text")) or "" for part in parts]
    return "\n".join(texts)


def _texts(value: object) -> list[str]:
    return [one for one in as_list(value) or () if isinstance(one, str)]
