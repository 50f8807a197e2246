"""Rejections: what an error message says of the request that it rejects.

error message, chat body ──► names of unknown fields ; findings that contradict the dialect
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from translator.dialects import Dialect, nearest_effort
from translator.reader.rejected_fields import RejectedField, find_rejected_fields
from translator.reader.taught_facts import taught_facts

from .findings import (
    EffortFieldRejected,
    EffortRejected,
    ExtraFieldRejected,
    FactValue,
    Finding,
    ToolChoice,
)
from .replies import quoted

_UNKNOWN = re.compile(
    r"\b(?:unexpected|unknown|unrecogni[sz]ed|unsupported|extra|additional|disallowed)\s+"
    r"(?:request\s+|input\s+|body\s+|json\s+)?"
    r"(?:fields?|keys?|parameters?|param|arguments?|args?|propert(?:y|ies)|inputs?|names?|members?)\b",
    re.IGNORECASE,
)
"""Wordings that reject fields as unknown, whatever their value."""

_QUOTED = re.compile(r"['\"`“‘]([A-Za-z_]\w*)['\"`”’]")

_SWITCHED_OFF = {"parallel_tool_calls": "parallel_tool_calls", "stream_options": "stream_usage"}
"""Chat fields, each with the fact that leaves it out."""


def rejected_as_unknown(text: str, body: Mapping[str, Any]) -> set[str]:
    """The fields of a chat body that an error message rejects, whatever their value."""
    found = _named(text, body)
    names = {name for name, one in found.items() if one.value is None and one.instead is None}
    if _UNKNOWN.search(text):
        names |= set(_QUOTED.findall(text)) & body.keys()
    return names


def contradictions(
    text: str, body: Mapping[str, Any], dialect: Dialect, effort: str
) -> list[Finding]:
    """The findings of a rejected agent turn that contradict the dialect that wrote it."""
    evidence = f"in an agent turn it was rejected: {quoted(text)}"
    found = [
        *_of_fields(text, body, dialect, effort, evidence),
        *(
            FactValue(name=fact, values=(value,), evidence=evidence)
            for fact, value in taught_facts(text, {}).items()
            if fact != "schema_rules"  # those of a turn's tool are plain
        ),
    ]
    return [finding for finding in found if not finding.agrees(dialect)]


def _of_fields(
    text: str, body: Mapping[str, Any], dialect: Dialect, effort: str, evidence: str
) -> Iterator[Finding]:
    level = nearest_effort(dialect.efforts, effort) if dialect.efforts else effort
    unknown = rejected_as_unknown(text, body)
    named = _named(text, body)
    for name in sorted(unknown | named.keys()):
        instead = named[name].instead if name in named else None
        if instead is not None:
            yield FactValue(name="max_tokens_field", values=(instead,), evidence=evidence)
        elif name in dialect.efforts.get(level, {}):
            if name in unknown:
                yield EffortFieldRejected(name=name, evidence=evidence)
            else:
                fields = {name: body[name]}
                yield EffortRejected(level=level, ways=[fields], evidence=evidence)
        elif name in dialect.extra:
            yield ExtraFieldRejected(name=name, evidence=evidence)
        elif name in _SWITCHED_OFF:
            yield FactValue(name=_SWITCHED_OFF[name], values=(False,), evidence=evidence)
        elif name == "tool_choice":
            yield ToolChoice(kind="auto", accepted=False, when="always", evidence=evidence)


def _named(text: str, body: Mapping[str, Any]) -> dict[str, RejectedField]:
    """What the service makes of the same message, by the fields of the chat body."""
    found = find_rejected_fields(text, msgspec.json.encode(body))
    return {one.field.partition(".")[0]: one for one in found}
