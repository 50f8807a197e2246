"""The OpenAPI description of the service, `GET /openapi.json`, generated from the structs.

It cannot drift from the code: every body that is decoded or encoded here has the schema of its
struct. Input items and tools are open, as in the structs: each is validated by a reader of its own.
Bodies that are passed through are described only as far as they are read.
"""

from __future__ import annotations

import functools
from itertools import chain, islice
from typing import Any

import msgspec
from msgspec import Struct

from translator.request.compact_request import CompactedResponse
from translator.service.base.version import VERSION
from translator.service.models.table import ModelEntry, ModelList
from translator.service.upstreams.health import Readiness
from translator.wire import items, responses
from translator.wire.events import Event

from .input_tokens import InputTokens
from .openapi_parts import Schema, answer, operation


class ErrorObject(Struct, frozen=True):
    """An error: a sentence, its type, its code, and the path of the faulty field."""

    message: str
    type: str
    param: str | None
    code: str | None


class Envelope(Struct, frozen=True):
    """The body of every error."""

    error: ErrorObject


class Health(Struct, frozen=True):
    """The process is up."""

    status: str


_REFUSALS = {
    400: "The request is invalid; `param` is the path of the field.",
    401: "The key is missing or unknown.",
    403: "The origin is not allowed.",
    404: "There is no such model, path or stored item.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is compressed in a way that is not known; see `accept-encoding`.",
    421: "The host is not allowed.",
    429: "A rate limit is reached; see `retry-after`.",
    500: "A fault of the service.",
    502: "The upstream refused, broke off, or could not be reached.",
    503: "Too many concurrent requests; see `retry-after`.",
    504: "The upstream did not answer in time.",
}
_PROBES = ("/healthz", "/readyz", "/metrics", "/openapi.json")


@functools.cache
def document(*, stores: bool = False, search: bool = False, accounts: bool = False) -> bytes:
    """The description as OpenAPI 3.1, in JSON.

    `stores`: of a service with a store; `search`: with a search of its own; `accounts`: with those.
    """
    described: tuple[Any, ...] = (
        responses.Request,
        responses.Response,
        Event,
        CompactedResponse,
        InputTokens,
        ModelEntry,
        ModelList,
        Readiness,
        Health,
        Envelope,
        items.CommonInputItem,
        items.PlainMessage,
    )
    stored: tuple[Any, ...] = ()
    if stores:
        from . import openapi_stored  # which imports what only a store needs

        stored = openapi_stored.STRUCTS
    searched: tuple[Any, ...] = ()
    if search:
        from translator.service.tools.request import SearchRequest, SearchResponse

        searched = (SearchRequest, SearchResponse)
    of_accounts: tuple[Any, ...] = ()
    if accounts:
        from . import openapi_accounts  # which imports what only accounts need

        of_accounts = openapi_accounts.STRUCTS
    structs = (described, stored, searched, of_accounts)
    schemas, components = msgspec.json.schema_components(
        chain(*structs), ref_template="#/components/schemas/{name}"
    )
    all_schemas = iter(schemas)
    of_all, of_stored, of_search, account_schemas = (
        list(islice(all_schemas, len(part))) for part in structs
    )
    request, response, event, compacted, counted, entry, listing, *rest = of_all
    ready, health, envelope, *extra = rest
    _refine(components["Request"], extra)
    refusals = {str(status): answer(text, envelope) for status, text in _REFUSALS.items()}
    passed_on: Schema = {
        "type": "object",
        "properties": {"model": {"type": ["string", "null"]}},
        "description": "A chat request, which goes upstream with the model table applied.",
    }
    streamed = answer("The response, or its events when `stream` is true.", response)
    streamed["content"]["text/event-stream"] = {
        "schema": {"type": "string", "description": "A frame per event, then `[DONE]`."},
        "x-event": event,
    }
    anything: Schema = {"application/json": {"schema": {}}, "text/event-stream": {"schema": {}}}
    paths: dict[str, Schema] = {
        "/v1/responses": {
            "post": operation("respond", "Create a response.", request, streamed, refusals)
        },
        "/v1/responses/compact": {
            "post": operation(
                "compact",
                "Compact a conversation.",
                request,
                answer("The shorter conversation.", compacted),
                refusals,
            )
        },
        "/v1/responses/input_tokens": {
            "post": operation(
                "countInputTokens",
                "Count the tokens of a request; `x-translator-token-count` says how.",
                request,
                answer("The number of tokens, `exact` or an `estimate`.", counted),
                refusals,
            )
        },
        "/v1/chat/completions": {
            "post": operation(
                "chat",
                "Create a chat completion; the request is passed through.",
                passed_on,
                {"description": "The upstream's answer.", "content": anything},
                refusals | {"default": {"description": "The upstream's answer, unchanged."}},
            )
        },
        "/v1/models": {
            "get": operation(
                "models",
                "List the models.",
                None,
                answer(
                    "The list of models; the upstream's own if no models are configured.",
                    _or_the_upstreams(listing),
                ),
                refusals,
            )
        },
        "/v1/models/{id}": {
            "get": operation(
                "model",
                "Get a model.",
                None,
                answer("The model.", _or_the_upstreams(entry)),
                refusals,
            )
            | {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
                ]
            }
        },
        "/healthz": {
            "get": operation("health", "Liveness.", None, answer("The process is up.", health), {})
        },
        "/readyz": {
            "get": operation(
                "readiness",
                "Readiness.",
                None,
                answer("An upstream is reachable.", ready),
                {"503": answer("None is, or the process is shutting down.", ready)},
            )
        },
        "/openapi.json": {
            "get": operation(
                "describe", "This description.", None, answer("The description.", {}), {}
            )
        },
    }
    if stores:
        from . import openapi_stored

        paths |= openapi_stored.paths(of_stored, response, refusals)
    if accounts:
        from . import openapi_accounts

        openapi_accounts.with_numbers(components)
        paths |= openapi_accounts.paths(account_schemas, refusals)
    if search:
        asked, found = of_search
        paths["/v1/alpha/search"] = {
            "post": operation(
                "search",
                "Search the web, and open pages, with the commands of Codex.",
                asked,
                answer("What was found, as text for the model.", found),
                refusals,
            )
        }
    for path in _PROBES:
        for probe in paths.get(path, {}).values():
            probe["security"] = []
            probe["responses"]["421"] = refusals["421"]
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "translator",
                "version": VERSION,
                "description": "The Responses API, in front of models that speak Chat Completions.",
            },
            "security": [{}, {"key": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _refine(request: Schema, extra: list[Schema]) -> None:
    """Add to the request's schema what its readers check beyond the struct."""
    fields = request["properties"]
    request["required"] = ["model"]
    fields["model"] = {"type": "string", "minLength": 1}
    kinds = {"input": {"anyOf": [*extra, {"type": "object"}]}, "tools": {"type": "object"}}
    for name, kind in kinds.items():
        for form in fields[name]["anyOf"]:
            if form.get("type") == "array":
                form["items"] = kind
    fields["tool_choice"] = {"type": ["string", "object"]}


def _or_the_upstreams(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "object"}]}
