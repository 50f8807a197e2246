"""Rejected fields: the fields of a chat request that an error text of the upstream names.

Strict upstreams answer 400 or 422 and name a field that they do not know, or whose value they do
not accept. If the request makes sense without that field, a second attempt is worth it; this module
finds the name and removes the field. It sends nothing.

    error text, body ── find_rejected_fields ──► fields ── without ──► body, removed fields

A field may be removed when the answer is still an answer to the question. The messages, the tools,
the form of the answer, and its limit stay; a limit may only change its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.wire.notices import Notice

MAX_TEXT_CHARACTERS = 64 * 1024
"""How much of an error text is read: some upstreams repeat the whole request in it."""

_PATHS = {
    # ours, or enforced by the translation: nothing is lost without them
    "stream_options": None,
    "parallel_tool_calls": None,
    "tool_choice": None,
    # the reasoning effort, by all its names
    "reasoning_effort": "reasoning.effort",
    "reasoning": "reasoning.effort",
    "thinking": "reasoning.effort",
    "thinking_budget": "reasoning.effort",
    "enable_thinking": "reasoning.effort",
    "disable_reasoning": "reasoning.effort",
    "chat_template_kwargs": "chat_template_kwargs",
    # how reasoning is shown
    "include_reasoning": None,
    "reasoning_format": None,
    "reasoning_split": None,
    "clear_thinking": None,
    "preserve_thinking": None,
    # how tokens are chosen
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repetition_penalty",
    "logprobs": "top_logprobs",
    "top_logprobs": "top_logprobs",
    # the caller, and its tier of service
    "user": "user",
    "safety_identifier": "safety_identifier",
    "prompt_cache_key": "prompt_cache_key",
    "service_tier": "service_tier",
    "verbosity": "text.verbosity",
    "metadata": "metadata",
}
"""Chat fields that may be removed, each with the Responses field that is lost with it."""

_OTHER_NAME = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_GO_TOGETHER = {"logprobs": ("top_logprobs",), "enable_thinking": ("thinking_budget",)}
"""Fields that are rejected in their turn when another one is missing."""

_FIELD_TEXTS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"Extra inputs are not permitted, field: '([^']+)'",  # Fireworks
        # Groq, Cerebras; behind " : " the property is one of a message
        r"(?<! : )property '([^']+)' is unsupported",
        # OpenAI, Azure; with "(s)" NVIDIA Dynamo
        r"(?:Unknown|Unsupported|Unrecognized) parameter(?:\(s\))?: "
        r"((?:['\"`][\w.\[\]]+['\"`](?:, )?)+)",
        r"Unrecognized request arguments? supplied: (\w+(?:, \w+)*)",  # OpenAI, Azure; older
        r"\bbody\.([\w.]+): Extra inputs are not permitted",  # Mistral, FastAPI
        r"'type': 'extra_forbidden', 'loc': \('body', '(\w+)'",  # vLLM
        r"at #/([\w/]+): Extra inputs are not permitted",  # Azure AI, GitHub Models
        r"^([\w.]+)\n *Extra inputs are not permitted",  # pydantic
        r'Unknown name "(\w+)":',  # Gemini; with " at 'tools[0]'" it is no field of the top
        r"Argument not supported on this model: (\w+)",  # xAI
        r"does not support parameter (\w+)",  # xAI
        r"does not support parameters: [\[{]([^\]}]*)[\]}]",  # LiteLLM
        r"['\"`](\w+)['\"`] is not (?:supported|permitted|allowed)",
        r"\b([a-z]+(?:_[a-z]+)+) is not (?:supported|permitted|allowed)",
    )
)
"""Wordings that reject a field with any value."""

_VALUE_TEXTS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"Unsupported value: '([^']+)'",  # OpenAI, Azure
        r"\b[Ii]nvalid ([a-z_]+): only ",  # Moonshot
        r"Invalid (reasoning effort)",  # Fireworks
        r"does not support this (tool_choice)",  # DeepSeek
        r"\b(tool_choice) '\w+' is incompatible with",  # Moonshot
        r"The (tool_choice) parameter does not support being set to",  # DashScope
        r"\bbody\.([\w.]+): Input should be '",  # Mistral, FastAPI
        r"'type': '(?:literal_error|enum)', 'loc': \('body', '(\w+)'",  # vLLM
        r"^([\w.]+)\n *Input should be '",  # Cerebras, pydantic
    )
)
"""Wordings that reject a field's value, and may accept another."""

_REASONING_TEXT = re.compile(
    r"reasoning_(?:content|text)`? in the thinking mode must be passed back"  # DeepSeek
    r"|reasoning_content is missing in assistant"  # Moonshot
    r"|Missing `?reasoning_content`? field in the assistant message"  # DeepSeek, 3.2
)
REASONING_REQUIRED: Mapping[str, Any] = {
    "reasoning_required": True,
    "thinks_by_default": True,
    "reasoning_replay": "as_it_came",
    "reasoning_field": "reasoning_content",
    "reasoning_details": False,
    "reasoning_not_beside_text_and_calls": False,
}
"""Facts of a dialect whose upstream rejects an assistant message without `reasoning_content`."""

_NAME = re.compile(r"[A-Za-z_]\w*")
_CAPITAL = re.compile(r"[A-Z]")


class RejectedField(Struct, frozen=True):
    """A chat field that an upstream does not accept.

    `value` is the JSON of the one value that it rejected; None: it does not know the field.
    `instead` is the name under which it accepts the field.
    """

    field: str
    value: bytes | None = None
    instead: str | None = None

    @property
    def loses(self) -> bool:
        """Whether the client loses something that it asked for."""
        return self.instead is None and _PATHS[self.field] is not None

    def notice(self) -> Notice:
        """The notice for the client, where something is lost."""
        what = f"'{self.field}'" if self.value is None else f"this value of '{self.field}'"
        path = _PATHS[self.field] or self.field
        return Notice(path, "refused_upstream", f"The upstream does not take {what}.")


def find_rejected_fields(text: str, body: bytes) -> list[RejectedField]:
    """The fields of a chat request that an error text rejects, and that may be removed."""
    text = text[:MAX_TEXT_CHARACTERS].replace('\\"', '"')  # an error inside the text of an error
    sent = msgspec.json.decode(body, type=dict[str, Raw])
    found: dict[str, RejectedField] = {}
    for name in _named(_FIELD_TEXTS, text, sent):
        instead = _OTHER_NAME.get(name)
        if instead is not None and re.search(rf"\b{instead}\b", text):
            found[name] = RejectedField(name, instead=instead)
        elif name in _PATHS:
            for field in (name, *_GO_TOGETHER.get(name, ())):
                if field in sent:
                    found[field] = RejectedField(field)
    for name in _named(_VALUE_TEXTS, text, sent):
        if name in _PATHS:
            found.setdefault(name, RejectedField(name, bytes(sent[name])))
    return list(found.values())


def _named(
    patterns: Iterable[re.Pattern[str]], text: str, sent: Mapping[str, Raw]
) -> Iterator[str]:
    """Names of sent fields, found by the patterns of error texts."""
    for pattern in patterns:
        for match in pattern.finditer(text):
            for path in match[1].split(", "):
                name = _NAME.search(path.replace(" ", "_"))  # "reasoning effort"
                field = _CAPITAL.sub(_snake, name[0]) if name else ""
                if field in sent:
                    yield field


def _snake(capital: re.Match[str]) -> str:
    return f"_{capital[0].lower()}"


def without(body: bytes, refused: Iterable[RejectedField]) -> tuple[bytes, list[RejectedField]]:
    """A chat request without the rejected fields, and those of them that it had.

    All other fields keep their bytes and their order.
    """
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    gone = {
        one.field: one
        for one in refused
        if one.field in fields and one.value in (None, bytes(fields[one.field]))
    }
    if not gone:
        return body, []
    kept: dict[str, Raw] = {}
    for field, value in fields.items():
        instead = gone[field].instead if field in gone else field
        if instead is not None:
            kept[instead] = value
    return msgspec.json.encode(kept), list(gone.values())


def wants_reasoning(text: str) -> bool:
    """Whether an error text asks for the reasoning of earlier turns."""
    return _REASONING_TEXT.search(text[:MAX_TEXT_CHARACTERS]) is not None
