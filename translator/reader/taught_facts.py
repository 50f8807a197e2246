"""Taught facts: what an error text teaches of an upstream's dialect, beyond single fields.

    error text ──► taught_facts ──► facts that replace those of the dialect

A chat template or a validator refuses the form of messages, and says what it wants instead. The
table maps what they say to fields of `Dialect`; another attempt is then written under these facts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from translator.common.lazy_pattern import lazy_pattern
from translator.common.schemas import SchemaRules

from .refusal_words import plain, verdicts

Facts = Mapping[str, Any]

_FLAGS = re.IGNORECASE
_REASONING = ("reasoning_content", "reasoning_details", "reasoning_text")
_MAX_BOUND = 2000
"""llama.cpp's grammars repeat nothing more often than this."""

BOUNDS = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)
_EXPRESSIONS = frozenset({"pattern", "format"})

REASONING_REQUIRED: Facts = {
    "reasoning_required": True,
    "thinks_by_default": True,
    "reasoning_replay": "as_it_came",
    "reasoning_field": "reasoning_content",
    "reasoning_details": False,
    "reasoning_not_beside_text_and_calls": False,
}
"""Facts of a dialect whose upstream rejects an assistant message without `reasoning_content`."""

REASONING_REFUSED: Facts = {"reasoning_replay": "drop", "reasoning_required": False}
"""Facts of a dialect whose upstream rejects an assistant message with reasoning."""

_ALTERNATING: Facts = {
    "alternating_roles": True,
    "answer_between_tool_and_user": True,
    "user_message_required": True,
    "system_messages": "demote_later",
}
_NAME = r"[`'\"]?reasoning[_ ](?:content|text)[`'\"]?"
_WANTED = lazy_pattern(
    rf"{_NAME}(?: field| value)?(?: (?:in|of|for|from) [^.;\n]{{0,60}}?)?:?(?:\n\s*)? "
    r"(?:(?:must|should|has to|have to|needs? to) (?:also |always |then )?(?:be )?"
    r"(?:passed|sent|returned|given|included|provided|present|set|preserved|kept|echoed|non-?empty)"
    r"|(?:is|was|are) (?:missing|required|mandatory|absent|expected|needed|not (?:set|provided"
    r"|present|found|given))"
    r"|(?:cannot|can't|must not|may not) be (?:empty|null|missing|omitted|blank|dropped)"
    r"|(?:field )?required|missing)"
    rf"|{_NAME}[^.\n]{{0,60}}\b(?:must|should|has to|needs to) be "
    r"(?:passed|sent|echoed|given|returned) back"
    rf"|\b(?:pass|send|give|return|echo) (?:back )?(?:(?:the|its|all) )?{_NAME} back"
    rf"|\b(?:pass|send|give|echo) back (?:(?:the|its|all) )?{_NAME}"
    r"|(?<!not )(?<!n't )(?<!cannot )\b(?:missing|lacks?|lacking|without|omits|no|absent"
    r"|(?:must|should|has to|have to|needs? to) (?:also )?(?:include|contain|have|carry|provide"
    r"|pass back|send back|preserve|return|keep)|needs?|requires?|expects?|expected)"
    r"(?: (?:an?|the|its|their|required|previous|original|non-?empty|field|value|for|valid"
    rf"|assistant|message))*:? {_NAME}"
    r"(?! (?:is |are |to be )?(?:un|sent|allowed|permitted|accepted|supported|in the request))"
    r"(?! not)",
    _FLAGS,
)


_FORMAT = r"(?:json mode|response[ _]format|json_schema|structured outputs?|response mime type)"


class _Lesson(Struct, frozen=True):
    """What an upstream says, and the facts that its requests then follow."""

    words: re.Pattern[str]
    facts: Facts


def _said(*words: str) -> re.Pattern[str]:
    return lazy_pattern("|".join(words), _FLAGS)


_LESSONS: Sequence[_Lesson] = (
    _Lesson(
        # of a validator that does not say which
        _said(r"\bmessages?[./\[]{1,2}\d+\]?(?:[./]\w+)?['\"]?:? must not have additional propert"),
        REASONING_REFUSED,
    ),
    _Lesson(
        _said(
            r"\broles? (?:must|should|have to|need to) (?:be )?(?:strictly )?alternat",
            r"\balternat\w+ (?:of )?(?:user|roles)",
            r"\bmessages? (?:must|should) (?:strictly )?alternate\b|\bmust alternate between\b",
            r"\b(?:two|consecutive|multiple|adjacent|successive)(?: or more)? "
            r"(?:user|consecutive) messages\b[^.\n]{0,40}(?:not|n't|unsupported)",
            r"\b(?:not|n't)\b[^.\n]{0,30}\bconsecutive (?:user )?(?:messages|roles)",
        ),
        _ALTERNATING,
    ),
    _Lesson(
        _said(
            r"\bsystem (?:message|prompt|role)s? (?:must|should|can|may|has to|needs to)(?: only)?"
            r" (?:be|come|appear|only)[^.\n]{0,30}(?:begin|first|start|position 0|index 0)",
            r"\b(?:only|except) (?:for )?(?:the )?first message (?:can|may|to be)\b"
            r"[^.\n]{0,20}system",
            r"\b(?:got|found|unexpected role:?|unexpected) [`'\"]?system\b",
            r"\bunexpected role [`'\"]?system",
            r"\bsystem (?:message|role)\b[^.\n]{0,40}(?:in the middle|after (?:a |the )?user"
            r"|not (?:at the beginning|first))",
            r"\b(?:other|further|additional|later) system messages?\b[^.\n]{0,20}\bnot\b",
            r"\b(?:only one|a single|multiple|more than one|one) system (?:message|prompt)",
        ),
        {"system_messages": "demote_later"},
    ),
    _Lesson(
        _said(
            r"\btool[ _]?calls?[ _]ids?\b[^\n]{0,120}"
            r"(?:length|long|exactly|of) ?(?:of )?(?:9|nine)\b",
            r"\b(?:9|nine)[ -](?:characters?|alphanumerics?|letters)\b[^\n]{0,60}\btool[ _]?call",
            r"\btool[ _]?call\b[^\n]{0,80}\b(?:9|nine)[ -](?:characters?|alphanumerics?|letters)",
        ),
        {"call_ids": "nine_alphanumerics"},
    ),
    _Lesson(
        _said(
            r"\bonly (?:supports?|accepts?|allows?) (?:a )?(?:single|one) tool[ -]?calls?",
            r"\bonly (?:one|a single) tool[ _-]?call\b",
            r"\b(?:single|one) tool[ -]?calls? (?:at once|at a time|per (?:\w+ )?(?:message|turn))",
            r"\b(?:multiple|parallel|several|more than one) tool[ _-]?calls? (?:in|per|within) "
            r"(?:(?:an?|one|the|single|assistant) )*(?:message|turn)[^.\n]{0,30}(?:not|n't|unsup)",
        ),
        {"one_call_per_message": True},
    ),
    _Lesson(
        _said(
            r"\ba user (?:message|query|prompt|turn) (?:is|was) (?:required|missing|needed)",
            r"\bno user (?:query|message|prompt|turn)s?\b",
            r"\b(?:at least one|needs? an?|requires? an?|must (?:contain|include|have) an?"
            r"|missing(?: an?)?) (?:\w+ )?[`'\"]?user[`'\"]? (?:message|query|prompt|turn|role)",
        ),
        {"user_message_required": True},
    ),
    _Lesson(
        _said(
            r"\bunhashable type",
            r"'type' must be a string",
            r"\btypes?\b[^.\n]{0,30}\b(?:list|array)s?\b[^.\n]{0,20}not (?:supported|allowed)",
        ),
        {"schema_rules": SchemaRules(type_lists="any_of")},
    ),
    _Lesson(
        _said(
            r"cannot pass both content and thinking",
            r"\b(?:both|and) (?:content|text)\b[^.\n]{0,20}\b(?:thinking|reasoning)\b"
            r"[^.\n]{0,60}tool",
        ),
        {"reasoning_not_beside_text_and_calls": True},
    ),
    _Lesson(
        _said(
            rf"\b{_FORMAT}\b[^\n]{{0,60}}\b(?:cannot|can't|not|unsupported)\b[^\n]{{0,40}}"
            r"\b(?:tools?|function)",
            rf"\b(?:tools?|function calling)\b[^.\n]{{0,40}}\bwith (?:a )?{_FORMAT}\b"
            r"[^\n]{0,40}\b(?:not|un)",
        ),
        {"response_format_with_tools": False},
    ),
    _Lesson(
        _said(
            r"\bjson_schema\b[`'\"]? (?:response[ _]format |type )?(?:is |are )?(?:currently )?"
            r"(?:not (?:supported|available|allowed)|unsupported|unavailable)(?![^\n]{0,40}\btool)",
            r"\b(?:not support|unsupported)[^.\n]{0,40}\bjson_schema\b(?![^\n]{0,40}\btool)",
            r"\bresponse_format type is unavailable",
        ),
        {"response_formats": frozenset({"json_object"})},
    ),
    _Lesson(
        _said(
            r"\bunexpected role [`'\"]?user[`'\"]? after (?:role )?[`'\"]?tool",
            r"\buser message\b[^.\n]{0,40}\b(?:directly |immediately )?(?:after|follow\w*) (?:a )?"
            r"tool\b[^.\n]{0,20}",
        ),
        {"answer_between_tool_and_user": True},
    ),
    _Lesson(
        _said(
            r"\b(?:unknown variant|unexpected role|invalid role|invalid message role|not support)"
            r":? ?[`'\"]?developer",
            r"\bdeveloper[`'\"]? (?:is not|role|is an? (?:invalid|unsupported|unknown))",
            r"\brole[s]?\b[^.\n]{0,60}[`'\"]developer[`'\"]",
        ),
        {"developer_role": False},
    ),
    _Lesson(
        _said(
            r"\b(?:pars|compil|build)\w* (?:the |a )?grammar|\binvalid grammar\b",
            r"\bjson schema conversion\b",
            r"\b(?:xgrammar|outlines|guidance|llguidance|schema)\b[^.\n]{0,60}\b(?:not support\w*"
            r"|unsupported)\b(?! (?:by|for|on|in) )",
            r"\bfeatures? (?:that are |which are )?(?:not supported|unsupported) by \w*grammar",
            r"\bgrammar\b[^.\n]{0,40}\b(?:error|invalid|fail|too (?:large|complex|big))",
            r"\b(?:initiali[sz]\w+|creat\w+) (?:the )?(?:samplers?|grammar)",
            r"\bunrecogni[sz]ed (?:json )?schema",
            r"\brepetitions? exceeds?",
            r"\b(?:unable|failed) to generate parser\b",
            r"\b(?:json )?schema\b[^.\n]{0,60}\b(?:to|into) (?:a )?grammar",
            r"\b(?:unsupported|unimplemented|not (?:supported|implemented))\b[^.\n]{0,60}"
            r"\b(?:json )?schema (?:keyword|feature|construct|propert)",
            r"\b(?:pattern|regex\w*|format|min(?:imum)? ?length|max(?:imum)? ?length)\b[^.\n]{0,40}"
            r"\bnot (?:supported|implemented)\b[^.\n]{0,40}\b(?:schema|grammar)",
        ),
        {"schema_rules": SchemaRules(dropped=_EXPRESSIONS, max_bound=_MAX_BOUND)},
    ),
)


def taught_facts(text: str, known: Facts) -> dict[str, Any]:
    """The facts that an error text teaches, beyond `known` ones, which were taught before.

    Where a text repeats what is known of schemas, the next step is taught: all bounds go, or all
    types of a property but one.
    """
    text = plain(text)
    found: dict[str, Any] = {}
    if _WANTED.search(text):
        found |= REASONING_REQUIRED
    else:
        found |= _of_fields(text)
    for lesson in _LESSONS:
        if lesson.words.search(text):
            for name, value in lesson.facts.items():
                found[name] = merged_fact(found.get(name), value)
    rules = found.get("schema_rules")
    known_rules = known.get("schema_rules")
    if rules is not None and merged_fact(known_rules, rules) == known_rules:
        found["schema_rules"] = _next_step(rules)
    return found


def _next_step(rules: SchemaRules) -> SchemaRules:
    if rules.type_lists == "any_of":
        return replace(rules, type_lists="first", types_required=True)  # as Seed-OSS reads them
    return replace(rules, dropped=rules.dropped | BOUNDS)


def _of_fields(text: str) -> dict[str, Any]:
    """The facts of fields of messages and tools that a text rejects."""
    found: dict[str, Any] = {}
    for one in verdicts(text, (*_REASONING, "reasoning", "extra_content", "strict"), _WORDS):
        if one.name in _REASONING or (one.name == "reasoning" and one.place == "messages"):
            found |= REASONING_REFUSED
        elif one.sense == "value":
            continue
        elif one.name == "extra_content":
            found["extra_content"] = False
        elif one.name == "strict" and one.place == "tools":
            found["strict_functions"] = False
    return found


_WORDS = frozenset({"reasoning", "strict"})


def merged_fact(known: object, taught: object) -> object:
    """A fact that was known, and one that is taught: rules for schemas add up, others replace."""
    if not isinstance(known, SchemaRules) or not isinstance(taught, SchemaRules):
        return taught
    bounds = [bound for bound in (known.max_bound, taught.max_bound) if bound is not None]
    keeps = taught.type_lists == "keep" or known.type_lists == "first"  # which leaves no list
    return replace(
        known,
        dropped=known.dropped | taught.dropped,
        type_lists=known.type_lists if keeps else taught.type_lists,
        types_required=known.types_required or taught.types_required,
        max_bound=min(bounds, default=None),
    )
