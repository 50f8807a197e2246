"""Parameter mapping: the chat fields of each parameter group of a request.

One function per group. Each returns the chat fields that the group owns, and adds a notice to
`notices` for everything that the dialect cannot express.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.common.schemas import SchemaRules, rewrite
from translator.dialects import Dialect, nearest_effort
from translator.wire import responses
from translator.wire.json_values import as_object
from translator.wire.notices import Notice, clamped

_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_values_of_sampling = attrgetter(*_SAMPLING)
_NOT_GIVEN = (None,) * len(_SAMPLING)
_IDENTITY = ("user", "safety_identifier", "prompt_cache_key", "service_tier")

MIN_THINKING_BUDGET = 1024
"""Smallest `thinking.budget_tokens` that Claude's API accepts (documentation, 2026-11)."""

_LIMITS = frozenset(
    {
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "max_new_tokens",
        "n_predict",
        "num_predict",
    }
)
"""The names of the token limit in chat requests, of every upstream."""

_decode_members = msgspec.json.Decoder(dict[str, Raw] | None).decode


class ReasoningFields(Struct, frozen=True):
    """The chat fields that set the reasoning effort, and whether the model will think."""

    fields: dict[str, Any]
    thinking: bool


class FormatFields(Struct, frozen=True):
    """The chat fields of an output format; the instruction that replaces a missing one."""

    fields: dict[str, Any]
    instruction: str | None = None


def streaming(request: responses.Request, dialect: Dialect) -> dict[str, Any]:
    """`stream` as in the request; usage is always requested."""
    if not request.stream:
        return {"stream": False}
    if not dialect.stream_usage:
        return {"stream": True}
    return {"stream": True, "stream_options": {"include_usage": True}}


def sampling(request: responses.Request, dialect: Dialect, notices: list[Notice]) -> dict[str, Any]:
    """Temperature, `top_p` and penalties."""
    if _values_of_sampling(request) == _NOT_GIVEN:
        return {}
    return _accepted(_SAMPLING, request, dialect, notices)


def token_limit(
    request: responses.Request,
    dialect: Dialect,
    limit: int | None,
    context: int | None,
    notices: list[Notice],
) -> dict[str, Any]:
    """`max_output_tokens`, clamped to the model's own `limit`; or the dialect's default.

    `context` is the model's window. All are in tokens, None where they are not known.
    """
    requested = request.max_output_tokens
    if requested is None:
        default = dialect.default_output_tokens
        if default is None:
            return {}
        if context is not None:
            default = min(default, max(context // 4, 1))
        return {dialect.max_tokens_field: default if limit is None else min(default, limit)}
    if limit is not None and requested > limit:
        notices.append(clamped("max_output_tokens", limit))
        requested = limit
    return {dialect.max_tokens_field: requested}


def fitting_budget(
    fields: dict[str, Any], limit: int | None, notices: list[Notice]
) -> dict[str, Any]:
    """The fields of an effort, with a thinking budget that is below the token limit.

    Claude's API refuses a budget below MIN_THINKING_BUDGET, and one that is not below the limit:
    there it does not think.
    """
    thinking = as_object(fields.get("thinking"))
    if thinking is None:
        return fields
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or limit is None or budget < limit:
        return fields
    if limit <= MIN_THINKING_BUDGET:
        message = f"The upstream thinks only with more than {MIN_THINKING_BUDGET} output tokens."
        notices.append(Notice("reasoning.effort", "ignored", message))
        return {name: value for name, value in fields.items() if name != "thinking"}
    fitting = max(MIN_THINKING_BUDGET, limit // 2)
    return {**fields, "thinking": {**thinking, "budget_tokens": fitting}}


def output_limit(fields: Mapping[str, Any], model_limit: int | None) -> int | None:
    """The least token limit of an answer: of the chat request, whatever its name, or the model's.

    A client or a dialect may have set it under another name than `max_output_tokens`. None: there
    is none that we know of.
    """
    least = model_limit if model_limit is not None and model_limit > 0 else None
    for name in _LIMITS.intersection(fields):
        limit = _number(fields[name])
        if limit and (least is None or limit < least):
            least = limit
    return least


def logprobs(request: responses.Request, dialect: Dialect, notices: list[Notice]) -> dict[str, Any]:
    """Log probabilities, requested by `include` or by `top_logprobs`."""
    wanted = responses.INCLUDE_LOGPROBS in (request.include or ())
    top = request.top_logprobs
    if not (wanted or top):
        return {}
    if "logprobs" in dialect.refused:
        message = "The upstream returns no log probabilities."
        notices.append(Notice("top_logprobs", "ignored", message))
        return {}
    return {"logprobs": True, "top_logprobs": top or 0}


def reasoning(
    request: responses.Request, dialect: Dialect, notices: list[Notice]
) -> ReasoningFields:
    """`reasoning.effort` as the dialect's own fields; the nearest level where it lacks one."""
    effort = request.reasoning.effort if request.reasoning else None
    if dialect.thinks_only_streaming and not request.stream:
        if effort not in (None, "none"):
            message = "The upstream thinks only in a streamed answer."
            notices.append(Notice("reasoning.effort", "weakened", message))
        effort = "none"
    if effort is None:
        return ReasoningFields({}, dialect.thinks_by_default)
    if not dialect.efforts:
        message = "The upstream's reasoning effort cannot be set."
        notices.append(Notice("reasoning.effort", "ignored", message))
        return ReasoningFields({}, dialect.thinks_by_default)
    level = nearest_effort(dialect.efforts, effort)
    if level != effort:
        notices.append(Notice("reasoning.effort", "weakened", f"The nearest level is {level}."))
    return ReasoningFields(dict(dialect.efforts[level]), level != "none")


def response_format(
    request: responses.Request, dialect: Dialect, notices: list[Notice], *, with_tools: bool
) -> FormatFields:
    """`text.format`; where the dialect lacks the format, an instruction describes it.

    `with_tools`: the chat request declares functions, which some upstreams refuse beside a format.
    """
    wanted = request.text.format if request.text else None
    if wanted is None or isinstance(wanted, responses.TextFormat):
        return FormatFields({})
    possible = dialect.response_format_with_tools or not with_tools
    known = dialect.response_formats if possible else frozenset[str]()
    if isinstance(wanted, responses.JsonSchemaFormat) and "json_schema" in known:
        schema = _schema(wanted, dialect.schema_rules, notices)
        return FormatFields({"response_format": {"type": "json_schema", "json_schema": schema}})
    instruction = None
    if isinstance(wanted, responses.JsonSchemaFormat) or "json_object" not in known:
        instruction = _format_instruction(wanted)
        lacks = "lacks this format" if possible else "refuses this format beside tools"
        message = f"The upstream {lacks}; an instruction describes it instead."
        notices.append(Notice("text.format", "weakened", message))
    fields = {"response_format": {"type": "json_object"}} if "json_object" in known else {}
    return FormatFields(fields, instruction)


def identity(request: responses.Request, dialect: Dialect, notices: list[Notice]) -> dict[str, Any]:
    """End user, cache key, service tier and verbosity, where the dialect knows them."""
    if not dialect.forwarded:
        return {}
    names = [name for name in _IDENTITY if name in dialect.forwarded]
    fields = _accepted(names, request, dialect, notices)
    verbosity = request.text.verbosity if request.text else None
    if verbosity and "verbosity" in dialect.forwarded:
        fields["verbosity"] = verbosity
    return fields


def forwarded(
    unknown: dict[str, Raw], allowed: tuple[str, ...], notices: list[Notice]
) -> dict[str, Any]:
    """The fields beyond the Responses API that go upstream unchanged."""
    notices += [
        Notice(name, "ignored", f"Unknown parameter: '{name}'.")
        for name in unknown
        if name not in allowed
    ]
    return {name: value for name, value in unknown.items() if name in allowed}


def extend(fields: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add fields to a chat request, the members of an object one by one.

    So `chat_template_kwargs` of a client do not cancel the effort, which may be in there.
    """
    for name, value in more.items():
        ours, theirs = as_object(fields.get(name)), _members(value)
        fields[name] = value if ours is None or theirs is None else {**ours, **theirs}


def _members(value: object) -> dict[str, Any] | None:
    """The members of an object; none in null, and None for any other value."""
    if not isinstance(value, Raw):
        return as_object(value)
    try:
        return _decode_members(value) or {}
    except msgspec.ValidationError:
        return None


def _number(value: object) -> int | None:
    """An integer, or the JSON of one; None for any other value."""
    text = (
        bytes(value) if isinstance(value, Raw) else b"%d" % value if isinstance(value, int) else b""
    )
    return int(text) if text.isdigit() and len(text) < 19 else None


def _accepted(
    names: Iterable[str],
    request: responses.Request,
    dialect: Dialect,
    notices: list[Notice],
) -> dict[str, Any]:
    """The request's fields of these names that the upstream accepts under the same name."""
    fields: dict[str, Any] = {}
    for name in names:
        value = getattr(request, name)
        if value is None:
            continue
        if name in dialect.refused:
            notices.append(Notice(name, "ignored", f"The upstream does not accept '{name}'."))
        else:
            fields[name] = value
    return fields


def _format_instruction(wanted: responses.JsonSchemaFormat | responses.JsonObjectFormat) -> str:
    """A format as an instruction. DeepSeek also refuses prompts without the word JSON."""
    text = "Your answer is one JSON object and nothing else, without a code fence."
    if isinstance(wanted, responses.JsonSchemaFormat):
        text += f" It fits this JSON schema:\n{bytes(wanted.schema).decode(errors='replace')}"
    return text


def _schema(
    wanted: responses.JsonSchemaFormat, rules: SchemaRules | None, notices: list[Notice]
) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": wanted.name, "schema": wanted.schema}
    if rules is not None:
        rewritten = rewrite(wanted.schema, rules)
        fields["schema"] = rewritten.schema
        if rewritten.lost:
            notices.append(Notice("text.format", "weakened", rewritten.message))
    if wanted.description is not None:
        fields["description"] = wanted.description
    if wanted.strict is not None:
        fields["strict"] = wanted.strict
    return fields
