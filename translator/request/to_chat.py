"""A Responses request as a chat request, with notices of what was lost on the way.

One function per group of parameters, each returning the chat fields that it owns. A field of the
request is mapped here, repeated in the response (`echo`), ignored with a notice, or refused; a test
walks the request type and fails on one that is none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct, UnsetType

from translator.common.invalid import at_path, invalid_from, refuse_broken_text
from translator.common.schemas import SchemaRules, rewrite
from translator.common.tools import Toolset
from translator.dialects.dialect import ChoiceKind, Dialect, nearest_effort
from translator.wire import responses
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import (
    NOT_JSON,
    as_list,
    as_object,
    as_string,
    is_null,
    is_object,
    on_one_line,
)
from translator.wire.notices import Notice

from .compaction import free_of_form
from .conversation import Conversation, write_messages
from .input_items import InputReader

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

LOGPROBS_INCLUDE = "message.output_text.logprobs"
REASONING_INCLUDE = "reasoning.encrypted_content"

_IDENTITY = ("user", "safety_identifier", "prompt_cache_key", "service_tier")


class Target(Struct, frozen=True):
    """The model behind a request: its id upstream, its limits.

    `model` None means the id that the client asked for. `max_output_tokens` is in tokens; larger
    requests are clamped to it.
    """

    model: str | None = None
    max_output_tokens: int | None = None
    vision: bool = True


class ChatRequest(Struct, frozen=True):
    """What goes upstream, and what the answer's reader must know of it."""

    body: bytes
    notices: tuple[Notice, ...]
    tools: Toolset
    conversation: Conversation
    allowed: frozenset[str] | None
    """Function names that may be called; None: all."""
    one_call: bool
    """Only the first call of the answer counts."""
    compacts: bool
    """The answer is a summary of the conversation, to be given as a compaction."""


def write_chat_request(
    request: responses.Request,
    unknown: dict[str, Raw],
    *,
    dialect: Dialect,
    target: Target,
    forward: tuple[str, ...] = FORWARDED_BY_DEFAULT,
    reject_hosted_tools: bool = False,
    earlier: Sequence[Raw] | None = None,
) -> ChatRequest:
    """The chat request for `request`; `unknown` are its fields beyond the Responses API.

    `earlier` are the input and output items of its previous response, None where that is unknown.
    Raises InvalidRequest, with the field's path, for what the API does not allow or what cannot be
    done over Chat Completions at all.
    """
    _refuse_what_needs_a_store(request, known=earlier is not None)
    model = target.model or _required_model(request)
    dialect = dialect.for_model(model)
    tools = Toolset(
        strict_functions=dialect.strict_functions,
        reject_hosted=reject_hosted_tools,
        schema_rules=dialect.schema_rules,
    )
    tools.declare(request.tools or [], "tools")
    reader = InputReader(tools)
    input_items = reader.read(request.input or None, earlier or ())
    if not input_items and request.generate is not False:
        raise InvalidRequest(
            "Missing required parameter: 'input'.",
            param="input",
            code="missing_required_parameter",
        )
    if reader.text is not None:
        request = msgspec.structs.replace(request, text=reader.text)
    bent: list[Notice] = []
    if reader.compacts:
        request, bent = free_of_form(request)
    writer = _ParameterWriter(request, dialect, target, tools, compacts=reader.compacts)
    writer.reasoning_config = reader.reasoning or request.reasoning
    effort = writer.effort()
    response_format = writer.response_format()
    said = [text for text in (request.instructions, writer.said) if text]
    conversation = write_messages(
        "\n\n".join(said),
        input_items,
        dialect=dialect,
        vision=target.vision,
        thinking=writer.thinking,
    )
    if not conversation.messages and request.generate is not False:
        raise InvalidRequest(
            "Invalid 'input': nothing is said in it.", param="input", code="invalid_value"
        )
    fields: dict[str, Any] = {
        "model": model,
        "messages": conversation.messages,
        **writer.streaming(),
        **writer.tools(conversation.called),
        **writer.sampling(),
        **writer.limit(),
        **writer.logprobs(),
        **response_format,
        **effort,
        **writer.identity(),
        **dialect.extra,
        **writer.forwarded(unknown, forward),
    }
    return ChatRequest(
        body=msgspec.json.encode(
            {dialect.renamed.get(name, name): value for name, value in fields.items()}
        ),
        notices=(
            *tools.notices,
            *reader.notices,
            *bent,
            *conversation.notices,
            *writer.notices,
            *_ignored(request),
        ),
        tools=tools,
        conversation=conversation,
        allowed=writer.allowed,
        one_call=request.parallel_tool_calls is False,
        compacts=reader.compacts,
    )


class _ParameterWriter:
    """The parameters of one request, group by group."""

    def __init__(
        self,
        request: responses.Request,
        dialect: Dialect,
        target: Target,
        tools: Toolset,
        *,
        compacts: bool,
    ) -> None:
        self._request = request
        self._dialect = dialect
        self._compacts = compacts
        self._target = target
        self._tools = tools
        self.reasoning_config = request.reasoning
        self.text_config = request.text
        self.thinking = dialect.thinks_by_default
        self.allowed: frozenset[str] | None = None
        self.said: str | None = None  # what the model is told, since no field says it
        self.notices: list[Notice] = []

    def streaming(self) -> dict[str, Any]:
        """`stream` as the client has it; usage is always asked for."""
        if not self._request.stream:
            return {"stream": False}
        if not self._dialect.stream_usage:
            return {"stream": True}
        return {"stream": True, "stream_options": {"include_usage": True}}

    def sampling(self) -> dict[str, Any]:
        names = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
        return dict(self._given(names))

    def limit(self) -> dict[str, Any]:
        asked, most = self._request.max_output_tokens, self._target.max_output_tokens
        if asked is None:
            return {}
        if most is not None and asked > most:
            self._notice("max_output_tokens", "clamped", f"The model writes at most {most} tokens.")
            asked = most
        return {self._dialect.max_tokens_field: asked}

    def logprobs(self) -> dict[str, Any]:
        wanted = LOGPROBS_INCLUDE in (self._request.include or ())
        top = self._request.top_logprobs
        if self._compacts or not (wanted or top):
            return {}
        if "logprobs" in self._dialect.refused:
            self._notice("top_logprobs", "ignored", "The upstream gives no log probabilities.")
            return {}
        return {"logprobs": True, "top_logprobs": top or 0}

    def effort(self) -> dict[str, Any]:
        """`reasoning.effort` in the upstream's own words; sets whether it will think."""
        asked = self.reasoning_config.effort if self.reasoning_config else None
        efforts = self._dialect.efforts
        if self._dialect.thinks_only_streaming and not self._request.stream:
            if asked not in (None, "none"):
                self._notice(
                    "reasoning.effort", "weakened", "The upstream thinks only in a stream."
                )
            asked = "none"
        if asked is None:
            return {}
        if not efforts:
            self._notice(
                "reasoning.effort", "ignored", "The upstream's reasoning effort cannot be steered."
            )
            return {}
        level = nearest_effort(efforts, asked)
        if level != asked:
            self._notice("reasoning.effort", "weakened", f"The nearest level is {level}.")
        self.thinking = level != "none"
        return dict(efforts[level])

    def response_format(self) -> dict[str, Any]:
        wanted = self.text_config.format if self.text_config else None
        if wanted is None or isinstance(wanted, responses.TextFormat):
            return {}
        with_tools = self._dialect.response_format_with_tools
        free = with_tools or not self._tools.functions
        known = self._dialect.response_formats if free else frozenset[str]()
        if isinstance(wanted, responses.JsonSchemaFormat) and "json_schema" in known:
            schema = _schema(wanted, self._dialect.schema_rules)
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        if isinstance(wanted, responses.JsonSchemaFormat) or "json_object" not in known:
            self.said = _in_words(wanted)
            where = "The upstream" if free else "Beside tools the upstream"
            self._notice(
                "text.format", "weakened", f"{where} has no such format; the model is told it."
            )
        return {"response_format": {"type": "json_object"}} if "json_object" in known else {}

    def identity(self) -> dict[str, Any]:
        fields = dict(self._given(_IDENTITY, only=self._dialect.forwarded))
        verbosity = self.text_config.verbosity if self.text_config else None
        if verbosity and "verbosity" in self._dialect.forwarded:
            fields["verbosity"] = verbosity
        return fields

    def forwarded(self, unknown: dict[str, Raw], allow: tuple[str, ...]) -> dict[str, Any]:
        for name in unknown:
            if name not in allow:
                self._notice(name, "ignored", f"Unknown parameter: '{name}'.")
        return {name: value for name, value in unknown.items() if name in allow}

    # --- tools --------------------------------------------------------------------------------

    def tools(self, called: frozenset[str]) -> dict[str, Any]:
        """The functions, which of them must be called, and whether several may be at once.

        `called` are the functions that the history calls: they stay declared whatever is allowed,
        because models whose history calls undeclared functions begin to write calls as text.
        """
        choice = self._choice()
        functions = self._tools.functions
        if self.allowed is not None:
            keep = self.allowed | called
            functions = [tool for tool in functions if tool.function.name in keep]
        if not functions:
            if choice not in (None, "auto", "none"):
                self._notice("tool_choice", "ignored", "There is no tool that could be called.")
            return {}
        fields: dict[str, Any] = {"tools": functions}
        if choice is not None:
            fields["tool_choice"] = choice
        parallel = self._request.parallel_tool_calls
        if parallel is not None and self._dialect.parallel_tool_calls:
            fields["parallel_tool_calls"] = parallel
        return fields

    def _choice(self) -> str | dict[str, Any] | None:
        if self._compacts:
            return self._no_call()
        raw = self._request.tool_choice
        value: object = None if isinstance(raw, UnsetType) else msgspec.json.decode(raw)
        choice = as_object(value) or {}
        kind = as_string(choice.get("type"))
        if value is None:
            return None
        if value in ("auto", "none", "required"):
            return self._accepted(value)
        if kind == "allowed_tools":
            self.allowed = frozenset(self._allowed(as_list(choice.get("tools")) or ()))
            mode = choice.get("mode")
            if mode in ("auto", "required"):
                return self._accepted(mode)
        elif kind is not None:
            return self._accepted("named", self._chosen(choice, "tool_choice"))
        raise InvalidRequest(
            "Invalid value: 'tool_choice' has none of the forms that the API knows.",
            param="tool_choice",
            code="invalid_value",
        )

    def _no_call(self) -> str | None:
        """That no tool is called, as far as it can be said; no call of the answer counts."""
        accepted = self._accepted_kinds()
        if "none" in accepted:
            return "none"
        self.allowed = frozenset()
        return "auto" if "auto" in accepted else None

    def _allowed(self, tools: Sequence[object]) -> Iterator[str]:
        for index, tool in enumerate(tools):
            path = f"tool_choice.tools[{index}]"
            if (as_object(tool) or {}).get("type") in self._tools.hosted:
                self._notice(path, "tool_dropped", "The tool cannot run here; it was left out.")
            else:
                yield self._chosen(tool, path)

    def _chosen(self, value: object, path: str) -> str:
        """The function name of a tool that a choice names."""
        choice = as_object(value) or {}
        kind, name = choice.get("type"), as_string(choice.get("name"))
        if kind in ("function", "custom") and name is not None:
            chat_name = self._tools.chat_name(name, as_string(choice.get("namespace")))
        elif kind in ("shell", "apply_patch", "local_shell", "tool_search"):
            chat_name = self._tools.chat_name(kind)
        else:
            raise InvalidRequest(
                "The tool that is chosen cannot run here.", param=path, code="invalid_value"
            )
        if not self._tools.declares(chat_name):
            raise InvalidRequest(
                f"Tool choice '{chat_name}' not found in 'tools' parameter.",
                param=path,
                code="invalid_value",
            )
        return chat_name

    def _accepted(
        self, wanted: Literal["auto", "none", "required", "named"], name: str = ""
    ) -> str | dict[str, Any] | None:
        """The choice as the upstream takes it; weakened, with a notice, where it does not."""
        accepted = self._accepted_kinds()
        if wanted not in accepted and wanted != "auto":
            self._notice("tool_choice", "weakened", f"The upstream does not take '{wanted}' here.")
            if wanted == "none":
                self.allowed = frozenset()
            if wanted == "named":
                self.allowed = frozenset({name})
            wanted = "auto"
        if "auto" not in accepted and wanted == "auto":
            return None
        match wanted:
            case "named":
                return {"type": "function", "function": {"name": name}}
            case "required":
                return self._dialect.required_word
            case _:
                return wanted

    def _accepted_kinds(self) -> frozenset[ChoiceKind]:
        thinking = self._dialect.tool_choices_thinking
        if self.thinking and thinking is not None:
            return thinking
        return self._dialect.tool_choices

    # --- notices ------------------------------------------------------------------------------

    def _given(
        self, names: tuple[str, ...], only: frozenset[str] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Fields that the client gave and the upstream takes, under the same name."""
        for name in names:
            value = getattr(self._request, name)
            if value is None or (only is not None and name not in only):
                continue
            if name in self._dialect.refused:
                self._notice(name, "ignored", f"The upstream does not take '{name}'.")
            else:
                yield name, value

    def _notice(self, path: str, code: str, message: str) -> None:
        self.notices.append(Notice(path, code, message))


def _required_model(request: responses.Request) -> str:
    if not request.model:
        raise InvalidRequest(
            "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        )
    return request.model


def _refuse_what_needs_a_store(request: responses.Request, *, known: bool) -> None:
    """What would need memory, or a server that runs things by itself, is refused plainly.

    `known`: the items of the previous response are there.
    """
    if request.previous_response_id is not None and not known:
        if not isinstance(request.conversation, UnsetType):
            raise InvalidRequest(
                "'previous_response_id' and 'conversation' cannot be given together.",
                param="previous_response_id",
                code="invalid_value",
            )
        raise InvalidRequest(
            f"Previous response with id '{request.previous_response_id}' not found. "
            "Responses are not stored here; send the whole conversation as input.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if not isinstance(request.conversation, UnsetType) and not is_null(request.conversation):
        raise _unsupported("conversation", "Conversations are not stored here.")
    if request.background:
        raise _unsupported("background", "Responses cannot run in the background here.")
    if not isinstance(request.prompt, UnsetType) and not is_null(request.prompt):
        raise _unsupported("prompt", "There are no stored prompts here.")
    if request.n is not None and request.n != 1:
        raise _unsupported("n", "A response has one answer.")
    if request.moderation and _blocks(request.moderation):
        raise _unsupported("moderation", "Nothing here can block what moderation would.")


def _unsupported(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{param}'. {why}", param=param, code="unsupported_parameter"
    )


def _blocks(moderation: responses.Moderation) -> bool:
    return not isinstance(moderation.policy, UnsetType) and b'"block"' in bytes(moderation.policy)


def _in_words(wanted: responses.JsonSchemaFormat | responses.JsonObjectFormat) -> str:
    """The format as the model is told it. DeepSeek also refuses prompts without the word JSON."""
    told = "Your answer is one JSON object and nothing else, without a code fence."
    if isinstance(wanted, responses.JsonSchemaFormat):
        told += f" It fits this JSON schema:\n{bytes(wanted.schema).decode(errors='replace')}"
    return told


def _schema(wanted: responses.JsonSchemaFormat, rules: SchemaRules | None) -> dict[str, Any]:
    schema = rewrite(wanted.schema, rules) if rules else wanted.schema
    fields: dict[str, Any] = {"name": wanted.name, "schema": schema}
    if wanted.description is not None:
        fields["description"] = wanted.description
    if wanted.strict is not None:
        fields["strict"] = wanted.strict
    return fields


_IGNORED = {
    "stream_options": "Events are not padded.",
    "background_options": "Responses do not run in the background here.",
    "context_management": "Nothing is compacted unasked; a compaction_trigger asks for it.",
    "moderation": "Nothing is moderated here.",
    "prompt_cache_options": "The upstream's cache cannot be steered.",
    "access_programs": "There are no access programs here.",
    "image": "Images are passed on as they are.",
    "client_metadata": "It has no meaning upstream.",
}


def _ignored(request: responses.Request) -> Iterator[Notice]:
    """Fields that have no effect and are not repeated in the response."""
    for name, why in _IGNORED.items():
        value = getattr(request, name)
        if value is not None and not isinstance(value, UnsetType):
            yield Notice(name, "ignored", why)
    if request.store:
        yield Notice("store", "ignored", "Responses are not stored here.")
    if request.truncation == "auto":
        yield Notice("truncation", "ignored", "Nothing is dropped from the input.")
    for index, name in enumerate(request.include or ()):
        if name not in (LOGPROBS_INCLUDE, REASONING_INCLUDE):
            yield Notice(f"include[{index}]", "ignored", f"There is no '{name}' here.")


class ParsedRequest(Struct, frozen=True):
    """A decoded and checked request body; `unknown` are its fields beyond the API."""

    request: responses.Request
    unknown: dict[str, Raw]


def read_request(body: bytes) -> ParsedRequest:
    """Decode a request body: the fields of the API, and those beyond it.

    Values that are kept as they came hold no line break afterwards: they go into SSE frames.
    Raises InvalidRequest with OpenAI's codes and the path of the faulty field.
    """
    refuse_broken_text(body)
    try:
        request, unknown = _decoded(on_one_line(body))
    except NOT_JSON as error:
        raise invalid_from(error) from None
    text_format = request.text.format if request.text else None
    if isinstance(text_format, responses.JsonSchemaFormat) and not is_object(text_format.schema):
        raise at_path(
            InvalidRequest(
                "Invalid 'schema': a JSON Schema is an object.", param="schema", code="invalid_type"
            ),
            "text.format",
        )
    return ParsedRequest(request, unknown)


def _decoded(body: bytes) -> tuple[responses.Request, dict[str, Raw]]:
    """A request and its unknown fields; usually there are none, and one look at the body is enough.

    A body is megabytes long: each look at it takes as long as a hundred chunks of the answer.
    """
    try:
        return _known_request_decoder.decode(body), {}
    except msgspec.ValidationError:
        request = _request_decoder.decode(body)
        fields = _fields_decoder.decode(body)
    return request, {name: value for name, value in fields.items() if name not in _KNOWN}


class _KnownRequest(responses.Request, frozen=True, forbid_unknown_fields=True):
    """A request of which every field is known."""


_known_request_decoder = msgspec.json.Decoder(_KnownRequest)
_request_decoder = msgspec.json.Decoder(responses.Request)
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_KNOWN = frozenset(responses.Request.__struct_fields__)
