"""The fields of a chat request that a client may send upstream when its key is for certain models.

Upstreams that are gateways themselves read more than `model`: `fallbacks`, `models`, `route`,
`provider`, `preset`, `user_config`, `api_base`, … So such a client may send what OpenAI documents,
what the dialect names, and what the operator forwards; nothing else, in any spelling.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from translator import Dialect
from translator.service.access.client import ANY_OUTPUT, Charge, Client
from translator.service.access.withheld import check_withheld
from translator.service.models.table import Route
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON

DOCUMENTED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""The fields that OpenAI documents for `POST /v1/chat/completions`."""

LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""The fields that limit an answer, in tokens."""

_TOOLS = frozenset({"function", "custom"})
"""Types of tools that run at the client. Others run upstream, and some of them name a model."""

MAX_NAME_CHARACTERS = 100
"""Longest part of an unknown name in an error."""


def check_fields(route: Route, fields: dict[str, Raw], client: Client) -> None:
    """Refuse fields by which a client could get another model than the one that was checked.

    Those that change what the upstream charges are refused, too, where that is billed. Names that
    stand twice in metadata or in a tool are left once. Raises InvalidRequest.
    """
    known = DOCUMENTED.union(named_by(route.dialect), route.options.forward)
    for name in fields:
        if name not in known:
            raise _unsupported(name[:MAX_NAME_CHARACTERS])
    named = ((name, fields[name]) for name in client.withheld if name in fields)
    check_withheld(client, ((name, msgspec.json.decode(raw)) for name, raw in named))
    if "metadata" in fields:
        fields["metadata"] = _checked_metadata(fields["metadata"])
    if "tools" in fields:
        fields["tools"] = _checked_tools(fields["tools"])


def named_by(dialect: Dialect) -> set[str]:
    """The chat fields that a dialect names as its upstream's own."""
    efforts = {name for fields in dialect.efforts.values() for name in fields}
    return {*efforts, *dialect.forwarded, *dialect.renamed.values(), *dialect.extra}


def number_of_choices(fields: Mapping[str, Raw]) -> int:
    """The number of answers that a chat request asks for, as upstreams read `n`; at least one."""
    try:
        return max(1, int(_read_choices(fields.get("n", b"1"))))
    except (*NOT_JSON, OverflowError, ValueError):
        return 1


def asked_output_tokens(fields: Mapping[str, Raw]) -> int | None:
    """The largest token limit of an answer that a chat request names; None without any."""
    asked: list[int] = []
    for name in LIMIT_FIELDS:
        try:
            asked.append(int(_read_limit(fields.get(name, b"0"))))
        except (*NOT_JSON, OverflowError, ValueError):
            continue
    return max((one for one in asked if one > 0), default=None)


def paid_for(route: Route, fields: dict[str, Raw], charge: Charge | None) -> tuple[Route, bool]:
    """The route with the limit of an answer that was paid for, and whether fields were changed.

    A limit is sent though the client asked for none. The usage of a stream is asked for, even where
    the client does not want it: else anybody chooses to be estimated.
    """
    if charge is None:
        return route, False
    changed = False
    limit = charge.max_output_tokens
    if limit is not None:
        known = route.max_output_tokens
        route = replace(route, max_output_tokens=limit if known is None else min(limit, known))
        if asked_output_tokens(fields) is None:
            for name in LIMIT_FIELDS:
                fields.pop(name, None)
            fields[route.dialect.max_tokens_field] = Raw(b"%d" % ANY_OUTPUT)  # to be limited
            changed = True
    if charge.wants_usage and route.dialect.stream_usage and _is_true(fields.get("stream")):
        changed |= _ask_for_usage(fields)
    return route, changed


def _is_true(raw: Raw | None) -> bool:
    return raw is not None and bytes(raw) == b"true"


def _ask_for_usage(fields: dict[str, Raw]) -> bool:
    """Ask for the usage of a stream; whether that changed the fields. Other options stay."""
    try:
        options = _read_options(fields.get("stream_options", b"null")) or {}
    except NOT_JSON:
        return False  # the upstream says so in its own words
    if _is_true(options.get("include_usage")):
        return False
    options["include_usage"] = Raw(b"true")
    fields["stream_options"] = Raw(msgspec.json.encode(options))
    return True


def _checked_metadata(raw: Raw) -> Raw:
    try:
        metadata = _read_metadata(raw)
    except NOT_JSON:
        raise InvalidRequest(
            "Invalid type for 'metadata': expected an object.",
            param="metadata",
            code="invalid_type",
        ) from None
    for name, value in (metadata or {}).items():
        if not isinstance(value, str):
            path = f"metadata.{name[:MAX_NAME_CHARACTERS]}"
            raise InvalidRequest(
                f"Invalid type for '{path}': expected a string.", param=path, code="invalid_type"
            )
    return Raw(msgspec.json.encode(metadata))


def _checked_tools(raw: Raw) -> Raw:
    try:
        tools = _read_tools(raw)
    except NOT_JSON:
        raise InvalidRequest(
            "Invalid type for 'tools': expected an array of objects.",
            param="tools",
            code="invalid_type",
        ) from None
    for index, tool in enumerate(tools or ()):
        kind = msgspec.json.decode(tool.get("type", b'"function"'))
        if kind not in _TOOLS:
            raise _unsupported(f"tools[{index}].type")
    return Raw(msgspec.json.encode(tools))


def _unsupported(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{path}'. This key is for certain models, and may send only what "
        "cannot name another one.",
        param=path,
        code="unsupported_parameter",
    )


_read_options = msgspec.json.Decoder(dict[str, Raw] | None).decode
_read_choices = msgspec.json.Decoder(float, strict=False).decode
_read_limit = msgspec.json.Decoder(float).decode
_read_metadata = msgspec.json.Decoder(dict[str, object] | None).decode
_read_tools = msgspec.json.Decoder(list[dict[str, Raw]] | None).decode
