"""The request translator: a Responses request as a chat request, with notices of every loss.

A request field is translated (`parameters`, `tool_choice`, `conversation`), repeated in the
response (`echo`), or refused or ignored with a notice (`unsupported`); a test fails on a field of
the request type that is none of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from translator.common.hosted import Hosted
from translator.common.invalid import missing_parameter
from translator.common.pauses import Pause, no_pause, paced
from translator.common.sealed import Thought
from translator.common.tools import Toolset
from translator.dialects import Dialect
from translator.wire import responses
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import as_list
from translator.wire.notices import Notice

from . import parameters
from .advice import with_known_words
from .compaction import without_output_format
from .content import UndescribedImage
from .conversation import Conversation, write_messages
from .input_items import InputReader
from .tool_choice import resolve_tool_choice, tool_fields
from .unsupported import ignored, refuse_unsupported

if TYPE_CHECKING:
    from .store_context import StoreContext

FORWARDED_BY_DEFAULT = (
    "seed",
    "stop",
    "top_k",
    "min_p",
    "logit_bias",
    "repetition_penalty",
    "chat_template_kwargs",
)
"""Fields beyond the Responses API that go upstream unchanged when a client sends them."""


class Target(Struct, frozen=True):
    """The upstream model of a request, and its limits.

    `model` is its id upstream; None means the requested id. `max_output_tokens` is in tokens; a
    larger request is clamped to it. `vision`: the model accepts images. `context_window` is in
    tokens; it bounds the limit that a dialect sends where a request has none. `origin` names what
    answers, where a conversation may go to several: opaque reasoning goes back only to its own.
    `descriptions` are texts of images for a model that accepts none, by the SHA-256 of the image's
    URL (of a data URL: all of it) in hexadecimal digits; those that are missing are in
    `undescribed`. None: images become a placeholder, and nobody is asked for more.
    """

    model: str | None = None
    max_output_tokens: int | None = None
    vision: bool = True
    context_window: int | None = None
    origin: str | None = None
    descriptions: Mapping[str, str] | None = None


class ChatRequest(Struct, frozen=True):
    """The body that goes upstream, and what the reader of its answer needs."""

    body: bytes
    notices: tuple[Notice, ...]
    tools: Toolset
    call_ids: frozenset[str]
    """Ids of the calls in the history, as the client knows them."""
    allowed: frozenset[str] | None
    """Function names that may be called; None: all."""
    one_call: bool
    """Only the first call of the answer counts."""
    compacts: bool
    """The answer is a summary of the conversation, and is returned as a compaction."""
    prefill: str
    """The text of the last message, where that is the assistant's."""
    output_limit: int | None
    """The number of tokens after which the upstream ends the answer; None: it is not known."""
    undescribed: tuple[UndescribedImage, ...]
    """The images that `target.descriptions` lack, in the order of the conversation."""
    last_source: int
    """The number of the last source that the history tells the model; 0 without any."""


_FOR_CHAT = (
    "'messages' is a field of Chat Completions: send them as 'input', or this request to"
    " /v1/chat/completions."
)


def write_chat_request(
    request: responses.Request,
    unknown: dict[str, Raw],
    *,
    dialect: Dialect,
    target: Target,
    forward: tuple[str, ...] = FORWARDED_BY_DEFAULT,
    reject_hosted_tools: bool = False,
    hosted: Hosted | None = None,
    history: Sequence[Raw | Thought] = (),
    earlier: Sequence[Raw] | None = None,
    store: StoreContext | None = None,
    pause: Pause = no_pause,
) -> ChatRequest:
    """The chat request for `request`; `unknown` are its fields beyond the Responses API.

    `earlier` are the input and output items of the previous response, or those of the conversation;
    None where they are unknown.
    `hosted` are the hosted tools that run here; `history` is what the response holds by now, in a
    later round. `store` is what a store knows of the request, None where there is none.
    `pause` is called between steps, none of which takes long (`common.pauses`).
    Raises InvalidRequest, with the field's path, for what the API does not allow or Chat
    Completions cannot express.
    """
    in_background = store is not None and store.runs_in_background
    refuse_unsupported(
        request,
        previous_known=earlier is not None,
        runs_in_background=in_background,
        conversation_known=store is not None and store.conversation is not None,
    )
    model = target.model or request.model
    if not model:
        raise missing_parameter("model")
    dialect = dialect.for_model(model)
    if hosted is not None:
        hosted = hosted.with_short_approved(seals=returns_reasoning(request))
    tools = Toolset(
        strict_functions=dialect.strict_functions,
        reject_hosted=reject_hosted_tools,
        hosted=hosted,
        schema_rules=dialect.schema_rules,
        pause=pause,
    )
    if request.tools:
        tools.declare(request.tools, "tools")
    reader = InputReader(tools, pause, store, origin=target.origin)
    input_items = reader.read(request.input or None, earlier or (), history)
    if not input_items and request.generate is not False:
        raise missing_parameter("input", _FOR_CHAT if "messages" in unknown else "")
    advice_notices: list[Notice] = []
    request = with_known_words(request, advice_notices)
    if reader.text or reader.reasoning:
        request = msgspec.structs.replace(
            request,
            text=reader.text or request.text,
            reasoning=reader.reasoning or request.reasoning,
        )
    format_notices: list[Notice] = []
    if reader.compacts:
        request, format_notices = without_output_format(request)
    notices: list[Notice] = []  # of the parameters
    reasoning = parameters.reasoning(request, dialect, notices)
    limit = parameters.token_limit(
        request, dialect, target.max_output_tokens, target.context_window, notices
    )
    choice = resolve_tool_choice(
        request.tool_choice,
        tools,
        dialect,
        notices,
        thinking=reasoning.thinking,
        compacts=reader.compacts,
    )
    response_format = parameters.response_format(
        request, dialect, notices, with_tools=bool(tools.functions) and not choice.without_tools
    )
    instructions = [text for text in (request.instructions, response_format.instruction) if text]
    conversation = write_messages(
        "\n\n".join(instructions),
        input_items,
        dialect=dialect,
        vision=target.vision,
        descriptions=target.descriptions,
        thinking=reasoning.thinking,
        pause=pause,
    )
    if not conversation.messages and request.generate is not False:
        raise InvalidRequest(
            "Invalid 'input': it contains no message.", param="input", code="invalid_value"
        )
    fields: dict[str, Any] = {
        "model": model,
        "messages": conversation.messages,
        **parameters.streaming(request, dialect),
        **tool_fields(
            choice,
            tools,
            dialect,
            notices,
            called=conversation.called,
            parallel=request.parallel_tool_calls,
        ),
        **parameters.sampling(request, dialect, notices),
        **limit,
        **({} if reader.compacts else parameters.logprobs(request, dialect, notices)),
        **response_format.fields,
        **parameters.fitting_budget(reasoning.fields, limit.get(dialect.max_tokens_field), notices),
        **parameters.identity(request, dialect, notices),
    }
    if dialect.extra:
        parameters.extend(fields, dialect.extra)
    if unknown:
        parameters.extend(fields, parameters.forwarded(unknown, forward, notices))
    renamed = dialect.renamed
    return ChatRequest(
        body=_encoded({renamed.get(name, name): value for name, value in fields.items()}, pause),
        notices=(
            *advice_notices,
            *tools.notices,
            *reader.notices,
            *format_notices,
            *conversation.notices,
            *notices,
            *ignored(request, has_store=store is not None, searches=tools.web_search is not None),
            *(() if store is None else store.notices),
        ),
        tools=tools,
        call_ids=conversation.call_ids,
        allowed=tools.own_names()
        if choice.kind == "none" and tools.uses_hosted
        else choice.allowed,
        one_call=request.parallel_tool_calls is False,
        compacts=reader.compacts,
        prefill=_prefill(conversation),
        output_limit=parameters.output_limit(fields, target.max_output_tokens),
        undescribed=tuple(conversation.undescribed),
        last_source=reader.last_source,
    )


def returns_reasoning(request: responses.Request) -> bool:
    """Whether the client sends reasoning back only when it is sealed.

    It asks for that, or it keeps the conversation itself: the AI SDK and OpenCode drop what is not
    sealed then, and ask only for models whose names they know.
    """
    return request.store is False or responses.INCLUDE_REASONING in (request.include or ())


def _encoded(fields: dict[str, Any], pause: Pause) -> bytes:
    """The fields as JSON; where the caller pauses, elements of lists are encoded one by one."""
    if pause is no_pause:
        return msgspec.json.encode(fields)
    pieces: list[bytes] = []
    for name, value in fields.items():
        pieces += (b"," if pieces else b"{", msgspec.json.encode(name), b":")
        listed = as_list(value)
        if not listed:
            pieces.append(msgspec.json.encode(value))
            continue
        before = b"["
        for one in paced(listed, pause):
            pieces += (before, msgspec.json.encode(one))
            before = b","
        pieces.append(b"]")
    pause()
    return b"".join((*pieces, b"}"))


def _prefill(conversation: Conversation) -> str:
    last = conversation.messages[-1] if conversation.messages else None
    if last is None or last.role != "assistant" or not isinstance(last.content, str):
        return ""
    return last.content
