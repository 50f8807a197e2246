"""The OpenAPI description of what the owner of a key asks about it and its account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

from .openapi_parts import Schema, answer, operation, path_parameter, query_parameter

STRUCTS: tuple[Any, ...] = (
    KeyAnswer,
    Credits,
    Subscription,
    TotalUsage,
    CodexUsage,
    UsagePage,
    UsageRow,
)
"""What the paths answer, in the order that `paths` takes their schemas in."""

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
    key, credits_, subscription, total, codex, page, row = schemas
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
    return found


def with_numbers(components: dict[str, Any]) -> None:
    """Say of each decimal of a foreign shape that it is written as a number."""
    for component in components.values():
        for field in component.get("properties", {}).values():
            for form in (field, *field.get("anyOf", ())):
                if form.get("format") == "decimal":
                    form["type"] = "number"
                    del form["format"]
