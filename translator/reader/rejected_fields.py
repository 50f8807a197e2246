"""Rejected fields: the fields of a chat request that an error text of the upstream names.

Strict upstreams refuse a request and name a field that they do not know, or whose value they do
not accept. If the request makes sense without that field, a second attempt is worth it; this module
finds the name and removes the field, or gives it a value that is accepted. It sends nothing.

    error text, body ── find_rejected_fields ──► fields ── without ──► body, removed fields

A field may be removed when the answer is still an answer to the question. The messages, the tools,
the form of the answer, and its limit stay; a limit may change its name, or be lowered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from translator.common.lazy_pattern import lazy_pattern
from translator.dialects.dialect import EFFORT_LEVELS
from translator.wire.json_values import NOT_JSON, decode_members
from translator.wire.notices import Notice

from .error_words import is_output_limit
from .refusal_words import (
    Verdict,
    levels_in,
    plain,
    refuses_thinking,
    requires_thinking,
    snake,
    verdicts,
)

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
    "thinking_token_budget": "reasoning.effort",
    "output_config": "reasoning.effort",
    "chat_template_kwargs": "chat_template_kwargs",
    # how reasoning is shown
    "include_reasoning": None,
    "reasoning_format": None,
    "reasoning_split": None,
    "separate_reasoning": None,
    "reasoning_history": None,
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

_ORDINARY_WORDS = frozenset({"user", "reasoning", "thinking", "metadata"})
_EFFORTS = (
    ("reasoning_effort", ""),
    ("reasoning", "effort"),
    ("chat_template_kwargs", "reasoning_effort"),
    ("output_config", "effort"),
)
"""Where a dialect writes the level of the effort: a field, or a member of one."""

_LEVEL_FIELDS = frozenset({"reasoning_effort", "verbosity"})
"""Fields whose values are levels: in place of a rejected one, the nearest is sent."""

_EFFORT_NAMES = ("reasoning_effort", "thinking_level", "thinking_effort", "effort", "think_value")
_EFFORT_TEXT = lazy_pattern(
    r"\breasoning[ _.-]?effort|\b(?:reasoning|thinking|think)[ _-](?:level|value)|\befforts?\b",
    re.IGNORECASE,
)
_ANY_VALUE = frozenset(
    {"prompt_cache_key", "safety_identifier", "user", "metadata", "stream_options"}
)
"""Fields of which no value is better than another."""

_SWITCHES: Mapping[str, frozenset[bytes]] = {
    "reasoning_effort": frozenset({b'"none"'}),
    "thinking": frozenset({b'{"type":"disabled"}'}),
    "enable_thinking": frozenset({b"false"}),
    "disable_reasoning": frozenset({b"true"}),
    "reasoning": frozenset({b'{"effort":"none"}', b'{"enabled":false}'}),
}
"""Values by which thinking is switched off."""

_LIST_CHARACTERS = 1000
"""How much of a text behind a field is searched for the levels that it accepts."""

MIN_LIMIT = 256
"""The least limit of the output that is worth an attempt, in tokens."""

_LIMITS = (
    # a range
    (lazy_pattern(r"\[\s*\d{1,12}\s*,\s*(\d{1,12})\s*\]|\bbetween \d{1,12} and (\d{1,12})"), 0),
    (lazy_pattern(r"\bto (\d{1,12}) \(exclusive\)"), -1),
    # an upper bound
    (lazy_pattern(r"(?:less|lower|smaller|fewer) than or equal to\W{0,3}(\d{1,12})"), 0),
    (lazy_pattern(r"(?:less|lower|smaller|fewer) than\W{0,3}(\d{1,12})"), -1),
    (
        lazy_pattern(
            r"(?:at most|no (?:more|greater|larger|higher) than|up to|not exceed)\W{0,3}(\d{1,12})"
        ),
        0,
    ),
    (lazy_pattern(r"<=\W{0,3}(\d{1,12})|> (\d{1,12}), which is the max"), 0),
    (
        lazy_pattern(
            r"\b(?:limit|maximum|max)\b(?: \w+){0,6}?(?: of| is| value| allowed|:)+"
            r"\W{0,3}(\d{1,12})"
        ),
        0,
    ),
)
"""How a text states the highest limit of the output: the number, and what to add to it."""

_ROOM = (
    lazy_pattern(r"> (?P<context>\d{1,12}) - (?P<used>\d{1,12})\)"),  # vLLM
    lazy_pattern(r"(?<!\d)(?P<used>\d{1,12}) \+ \d{1,12} > (?P<context>\d{1,12})"),  # Anthropic
    # OpenAI, DeepSeek
    lazy_pattern(
        r"context length is (?P<context>\d{1,12}) tokens"
        r".{0,80}?\((?P<used>\d{1,12}) in the messages,",
        re.DOTALL,
    ),
)
"""How a text states what the input leaves of the context, which is a limit for this request."""


class RejectedField(Struct, frozen=True):
    """A chat field that an upstream does not accept.

    `field` may be a member of an object: "chat_template_kwargs.reasoning_effort". `value` is the
    JSON of the one value that it rejected; None: it does not know the field. `instead` is the name
    under which it accepts the field, `levels` are the levels that it accepts, from the error text,
    `limit` is the highest number that it accepts. `once`: this holds for one request only.
    """

    field: str
    value: bytes | None = None
    instead: str | None = None
    levels: tuple[str, ...] = ()
    limit: int | None = None
    once: bool = False

    @property
    def loses(self) -> bool:
        """Whether the client loses something that it asked for."""
        return self.limit is not None or (self.instead is None and self._path is not None)

    @property
    def _path(self) -> str | None:
        return _PATHS.get(self.field.partition(".")[0])

    def notice(self) -> Notice:
        """The notice for the client, where something is lost."""
        if self.limit is not None:
            message = f"The upstream generates at most {self.limit} tokens."
            return Notice("max_output_tokens", "clamped", message)
        what = f"'{self.field}'" if self.value is None else f"this value of '{self.field}'"
        message = f"The upstream does not take {what}."
        if self.levels:
            message = f"{message} It takes {', '.join(self.levels)}."
        return Notice(self._path or self.field, "refused_upstream", message)


def find_rejected_fields(
    text: str, body: bytes, *, efforts_only: bool = False
) -> list[RejectedField]:
    """The fields of a chat request that an error text rejects, and that may be changed.

    `efforts_only`: the error says that the server is at fault; what it says of an effort counts
    even so, since chat templates of servers are what refuses one.
    """
    text = plain(text)
    sent = decode_members(body)
    found: dict[str, RejectedField] = {}
    efforts = _effort_fields(sent)
    for one in _rejected(text, sent, efforts):
        if efforts_only and one.field not in efforts:
            continue
        earlier = found.get(one.field)
        if earlier is None or (one.value is None and not one.once):
            found[one.field] = one
    if not efforts_only:
        for one in _lowered(text, sent):
            found[one.field] = one
    return list(found.values())


def _rejected(
    text: str, sent: Mapping[str, Raw], efforts: Mapping[str, Raw]
) -> Iterator[RejectedField]:
    names = [name for name in sent if name in _PATHS or name in _OTHER_NAME]
    names += [name for name in _EFFORT_NAMES if efforts and name not in sent]
    if "reasoning" in sent:
        names = [name for name in names if name != "effort"]  # it is written behind its object
    levels = levels_in(text)
    said = False
    for verdict in verdicts(text, names, _ORDINARY_WORDS):
        if verdict.place != "request":
            continue
        if verdict.name in _EFFORT_NAMES or (verdict.inside, verdict.sense) == ("effort", "value"):
            path = f"{verdict.name}.{verdict.inside}".rstrip(".")
            meant = {path: efforts[path]} if path in efforts else efforts
            yield from _rejected_effort(verdict, levels, meant)
            said = True
        else:
            yield from _rejected_field(verdict, text, sent)
    if not said and _EFFORT_TEXT.search(text):
        yield from _unlisted_efforts(levels, efforts)
    if refuses_thinking(text):
        for name in efforts:
            yield RejectedField(name)
        for name in ("thinking", "enable_thinking", "thinking_budget", "thinking_token_budget"):
            if name in sent:
                yield RejectedField(name)
    elif requires_thinking(text):
        for name, values in _SWITCHES.items():
            if name in sent and _minified(sent[name]) in values:
                yield RejectedField(name, bytes(sent[name]))
        template = _members(sent.get("chat_template_kwargs", Raw(b"{}")))
        for name in ("enable_thinking", "thinking"):
            if name in template and _minified(template[name]) == b"false":
                yield RejectedField(f"chat_template_kwargs.{name}", bytes(template[name]))


def _rejected_field(
    verdict: Verdict, text: str, sent: Mapping[str, Raw]
) -> Iterator[RejectedField]:
    name, once = verdict.name, verdict.once
    other = _OTHER_NAME.get(name)
    if other is not None:
        if verdict.sense == "field" and re.search(rf"\b{other}\b", text) and other not in sent:
            yield RejectedField(name, instead=other)
        return
    if verdict.sense == "value":
        behind = text[verdict.start : verdict.start + _LIST_CHARACTERS]
        levels = levels_in(behind) if name in _LEVEL_FIELDS else ()
        value = None if name in _ANY_VALUE else bytes(sent[name])
        yield RejectedField(name, value, levels=levels, once=once)
        return
    member = snake(verdict.inside.partition(".")[0])
    if name == "chat_template_kwargs" and member:
        yield RejectedField(f"{name}.{member}", once=once)
        return
    for field in (name, *_GO_TOGETHER.get(name, ())):
        if field in sent:
            yield RejectedField(field, once=once)


def _unlisted_efforts(
    levels: tuple[str, ...], efforts: Mapping[str, Raw]
) -> Iterator[RejectedField]:
    """The efforts that are not among the levels that an error lists, whatever its sentence is."""
    for field, value in efforts.items() if levels else ():
        if _level(value) not in levels:
            yield RejectedField(field, bytes(value), levels=levels)


def _rejected_effort(
    verdict: Verdict, levels: tuple[str, ...], efforts: Mapping[str, Raw]
) -> Iterator[RejectedField]:
    for field, value in efforts.items():
        if levels and _level(value) not in levels:
            yield RejectedField(field, bytes(value), levels=levels)
        elif verdict.sense == "value":
            yield RejectedField(field, bytes(value), once=verdict.once)
        else:
            yield RejectedField(field, once=verdict.once)


def _effort_fields(sent: Mapping[str, Raw]) -> dict[str, Raw]:
    """The fields that hold the level of the effort, with their values."""
    found: dict[str, Raw] = {}
    for field, member in _EFFORTS:
        if field not in sent:
            continue
        if not member:
            found[field] = sent[field]
            continue
        members = _members(sent[field])
        if member in members:
            found[f"{field}.{member}"] = members[member]
    return found


def _lowered(text: str, sent: Mapping[str, Raw]) -> Iterator[RejectedField]:
    """A limit of the output that is too high, where the text says what is possible."""
    for field in _OTHER_NAME:
        if field not in sent:
            continue
        limit = _integer(sent[field])
        room = [
            int(found["context"]) - int(found["used"])
            for words in _ROOM
            if (found := words.search(text))
        ]
        if room and MIN_LIMIT <= room[0] < limit:
            yield RejectedField(field, limit=room[0], once=True)
        if room or not is_output_limit(text):
            continue
        stated = [
            int(number) + more
            for words, more in _LIMITS
            for found in words.finditer(text)
            for number in found.groups()
            if number
        ]
        possible = [number for number in stated if MIN_LIMIT <= number < limit]
        if possible:
            yield RejectedField(field, limit=min(possible))


def without(body: bytes, refused: Iterable[RejectedField]) -> tuple[bytes, list[RejectedField]]:
    """A chat request without the rejected fields, and those of them that it had.

    All other fields keep their bytes and their order.
    """
    fields = decode_members(body)
    gone: dict[str, RejectedField] = {}
    for one in refused:
        root, _, member = one.field.partition(".")
        if root not in fields:
            continue
        changed = (
            _without_member(fields, root, member, one) if member else _changed(fields, root, one)
        )
        if changed is not None:
            fields = changed
            gone[one.field] = one
    return (msgspec.json.encode(fields), list(gone.values())) if gone else (body, [])


def _changed(
    fields: Mapping[str, Raw], field: str, refused: RejectedField
) -> dict[str, Raw] | None:
    """The members of an object with a rejected one changed; None where it is not rejected."""
    sent = bytes(fields[field])
    value: Raw | None = None
    if refused.limit is not None:
        if _integer(sent) <= refused.limit:
            return None
        value = Raw(b"%d" % refused.limit)
    elif refused.levels:
        level = _level(sent)
        if level in refused.levels:
            return None
        nearest = _nearest(level, refused.levels, switched_off=_is_switched_off(fields))
        value = None if nearest is None else Raw(msgspec.json.encode(nearest))
    elif refused.value not in (None, sent):
        return None
    changed: dict[str, Raw] = {}
    for name, kept in fields.items():
        if name != field:
            changed[name] = kept
        elif refused.instead is not None:
            changed[refused.instead] = kept
        elif value is not None:
            changed[name] = value
    return changed


def _without_member(
    fields: dict[str, Raw], root: str, member: str, refused: RejectedField
) -> dict[str, Raw] | None:
    members = _members(fields[root])
    changed = _changed(members, member, refused) if member in members else None
    if changed is None:
        return None
    kept = dict(fields)
    if changed:
        kept[root] = Raw(msgspec.json.encode(changed))
    else:
        del kept[root]
    return kept


def _nearest(level: str, levels: Sequence[str], *, switched_off: bool) -> str | None:
    """The accepted level nearest to another one, of two the higher one; None: send none.

    `switched_off`: the request has another field by which thinking is off.
    """
    if level == "none" and switched_off:
        return None
    ranks = {one: EFFORT_LEVELS.index(one) for one in levels if one in EFFORT_LEVELS}
    thinking = {one: rank for one, rank in ranks.items() if one != "none"}
    if level not in EFFORT_LEVELS or not thinking:
        return "default" if "default" in levels and level != "none" else None
    rank = EFFORT_LEVELS.index(level)
    return min(thinking, key=lambda one: (abs(thinking[one] - rank), -thinking[one]))


def _is_switched_off(fields: Mapping[str, Raw]) -> bool:
    template = _members(fields.get("chat_template_kwargs", Raw(b"{}")))
    return any(
        name in values and _minified(values[name]) in _SWITCHES["enable_thinking"]
        for values in (fields, template)
        for name in ("enable_thinking", "thinking")
    ) or ("thinking" in fields and _minified(fields["thinking"]) in _SWITCHES["thinking"])


def _level(value: bytes | Raw) -> str:
    return bytes(value).strip(b'"').decode(errors="replace")


def _members(value: Raw) -> dict[str, Raw]:
    try:
        return decode_members(value)
    except NOT_JSON:
        return {}


def _minified(value: Raw) -> bytes:
    return bytes(msgspec.json.format(value, indent=-1)).replace(b": ", b":")


def _integer(value: bytes | Raw) -> int:
    try:
        return msgspec.json.decode(value, type=int)
    except NOT_JSON:
        return 0
