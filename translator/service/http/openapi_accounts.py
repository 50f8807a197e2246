"""The OpenAPI description of accounts: what the owner of a key asks, and the API of operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_type_hints

from msgspec import Struct

from translator.service.accounts.meters import (
    CodexUsage,
    Credits,
    KeyAnswer,
    Subscription,
    TotalUsage,
)
from translator.service.accounts.usage_report import (
    DEFAULT_DAYS,
    MAX_DAYS,
    UsagePage,
    UsageRow,
)
from translator.service.provisioning.api import ACTIONS, Action
from translator.service.provisioning.resources import MAX_LIMIT

from .openapi_parts import Schema, answer, operation, path_parameter, query_parameter

METERS: tuple[Any, ...] = (
    KeyAnswer,
    Credits,
    Subscription,
    TotalUsage,
    CodexUsage,
    UsagePage,
    UsageRow,
)
"""What the paths of clients answer, in the order that `paths` takes their schemas in."""


def _answer_of(action: Action) -> type[Struct]:
    found: type[Struct] = get_type_hints(action.work)["return"]
    return found


OPERATORS = [
    (path, method, action)
    for path, actions in ACTIONS.items()
    for method, action in actions.items()
]

STRUCTS: tuple[Any, ...] = (
    *METERS,
    *(_answer_of(action) for _, _, action in OPERATORS),
    *(action.body for _, _, action in OPERATORS if action.body is not None),
)
"""All of them, and what operators' paths answer and are told."""

_DAY: Schema = {"type": "string", "format": "date"}
_REPORT = [
    query_parameter("start", _DAY, f"The first UTC day; by default {DEFAULT_DAYS} before the end."),
    query_parameter("end", _DAY, "The day after the last one; by default tomorrow."),
    query_parameter(
        "group_by",
        {"type": "array", "items": {"enum": ["model", "api_key_id"]}},
        "A result for each model, or key, or both.",
    ),
    query_parameter("model", {"type": "string"}, "Only this model."),
    query_parameter("api_key_id", {"type": "string"}, "Only this key, as in `key_17`."),
    query_parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": DEFAULT_DAYS},
        "Most days of the page.",
    ),
    query_parameter("page", _DAY, "The `next_page` of the page before."),
]


def paths(schemas: Sequence[Schema], refusals: Schema) -> dict[str, Schema]:
    """The paths, for the schemas of STRUCTS."""
    key, credits_, subscription, total, codex, page, row = schemas[: len(METERS)]
    named = {
        "/v1/key": ("getKey", "The key of the request, as OpenRouter describes its own.", key),
        "/v1/credits": ("getCredits", "What was paid in, and what was spent.", credits_),
        "/v1/dashboard/billing/subscription": (
            "getSubscription",
            "What the key may spend in all, as one-api tells it.",
            subscription,
        ),
        "/v1/dashboard/billing/usage": (
            "getTotalUsage",
            "What the key has spent in all its time, in hundredths.",
            total,
        ),
        "/api/codex/usage": ("getCodexUsage", "The balance and the limit, for Codex.", codex),
    }
    found: dict[str, Schema] = {
        path: {"get": operation(name, text, None, answer(text, schema), refusals)}
        for path, (name, text, schema) in named.items()
    }
    found["/v1/usage"] = {
        "get": operation(
            "getUsage",
            "The usage of the account of the key, by UTC days.",
            None,
            answer("A page of days.", page),
            refusals,
            _REPORT,
        )
    }
    found["/v1/usage/{id}"] = {
        "get": operation(
            "getOneUsage",
            "What a request of the account has used and cost.",
            None,
            answer("The newest usage with this id.", row),
            refusals,
        ),
        "parameters": [path_parameter("id")],
    }
    return found | _of_operators(schemas[len(METERS) :], refusals)


def _of_operators(schemas: Sequence[Schema], refusals: Schema) -> dict[str, Schema]:
    """The paths of the API of operators, for the schemas of its answers and bodies."""
    answers, bodies = schemas[: len(OPERATORS)], iter(schemas[len(OPERATORS) :])
    found: dict[str, Schema] = {}
    for (path, method, action), answered in zip(OPERATORS, answers, strict=True):
        name = action.work.__name__
        text = f"{name.replace('_', ' ').capitalize()}."
        parameters = [query_parameter(one, *_QUERY[one]) for one in action.query]
        if action.body is not None:
            parameters.append(_IDEMPOTENCY)
        made = operation(
            "operators." + name,
            text,
            None if action.body is None else next(bodies),
            answer(text, answered),
            refusals,
            parameters,
        )
        if action.status != 200:
            made["responses"][str(action.status)] = made["responses"].pop("200")
        entry = found.setdefault(f"/account/api{path}", {})
        entry[method.lower()] = made
        if "{id}" in path:
            entry["parameters"] = [path_parameter("id")]
    return found


_TEXT: Schema = {"type": "string"}
_QUERY: dict[str, tuple[Schema, str]] = {
    "limit": ({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}, "Most objects of the page."),
    "after": (_TEXT, "The `last_id` of the page before."),
    "name": (_TEXT, "Only the account that is called so."),
    "account": (_TEXT, "Only of this account, as in `acct_3`."),
    "price_list": (_TEXT, "Only of this list."),
    "model": (_TEXT, "Only of this model."),
    "start": (_TEXT, "From this time on."),
    "end": (_TEXT, "Before this time."),
}
_IDEMPOTENCY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A name for this request: sent again with it, it happens once.",
}


def with_numbers(components: dict[str, Any]) -> None:
    """Say of each decimal of a foreign shape that it is written as a number."""
    for component in components.values():
        for field in component.get("properties", {}).values():
            for form in (field, *field.get("anyOf", ())):
                if form.get("format") == "decimal":
                    form["type"] = "number"
                    del form["format"]
