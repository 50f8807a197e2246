"""The request echo: the initial response object, which repeats fields of the request.

It has every field, with OpenAI's default where the client gave none; nothing depends on the
upstream.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from translator.common.pauses import Pause, no_pause, paced
from translator.common.tool_secrets import without_secrets
from translator.wire import responses
from translator.wire.json_values import decode_members, present

if TYPE_CHECKING:
    from .store_context import StoreContext

_NEEDED_IN_FUNCTION: dict[str, Any] = {"description": None, "parameters": None, "strict": None}
"""Keys that every echoed function tool has, null where the client gave none."""


def first_response(
    request: responses.Request,
    *,
    response_id: str,
    created_at: int,
    model: str,
    store: StoreContext | None = None,
    output_limit: int | None = None,
    pause: Pause = no_pause,
) -> responses.Response:
    """The response object of `response.created`; `created_at` is in seconds since 1970.

    `store` is what a store knows of it. A `max_output_tokens` above `output_limit`, which the model
    has, is repeated as that limit: the one that holds. `pause` is called between tools.
    """
    values = zip(_REPEATED, _values_of_repeated(request), strict=True)
    given: dict[str, Any] = {name: value for name, value in values if value is not None}
    if output_limit is not None and given.get("max_output_tokens", 0) > output_limit:
        given["max_output_tokens"] = output_limit
    if given.get("service_tier") == "auto":
        del given["service_tier"]
    if request.reasoning is not None:
        reasoning = request.reasoning
        given["reasoning"] = responses.ReasoningEcho(reasoning.effort, _summary(reasoning))
    if request.text is not None:
        text = request.text
        given["text"] = responses.TextEcho(_format(text.format), text.verbosity or "medium")
    if request.tools:
        given["tools"] = [_tool(raw) for raw in paced(request.tools, pause)]
    if request.tool_choice is not UNSET and present(request.tool_choice):
        given["tool_choice"] = request.tool_choice.copy()
    if store is not None:
        given["store"] = store.keeps
        if store.conversation is not None:
            given["conversation"] = responses.ConversationEcho(store.conversation)
    background = bool(request.background)
    return responses.Response(response_id, created_at, model, background=background, **given)


def _summary(reasoning: responses.ReasoningConfig) -> str | None:
    if reasoning.summary in responses.NO_SUMMARY:
        return None
    return reasoning.summary or reasoning.generate_summary


_REPEATED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "truncation",
    "service_tier",
    "previous_response_id",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
)
_values_of_repeated = attrgetter(*_REPEATED)


def _tool(raw: Raw) -> Raw:
    """A tool without its secrets; function tools get the keys that clients require."""
    fields = decode_members(raw)
    is_function = bytes(fields.get("type", b"")) == b'"function"'
    if not is_function:
        return without_secrets(raw).copy()
    if fields.keys() >= _NEEDED_IN_FUNCTION.keys():
        return raw.copy()
    return Raw(msgspec.json.encode({**_NEEDED_IN_FUNCTION, **fields}))


def _format(given: responses.Format | None) -> responses.Format:
    if isinstance(given, responses.JsonSchemaFormat):
        return msgspec.structs.replace(given, schema=given.schema.copy())
    return given or responses.TextFormat()
