"""Single facts of a dialect, as an operator corrects them.

    [upstreams.NAME.facts]     for all models of an upstream
    [models."ID".facts]        for one model, over those of its upstream

Every field of `Dialect` can be given, but for those that say which dialect it is. They are checked
against its types, so a new fact needs no word here. A fact that is given stands in place of the
whole of what the dialect says; where None is a value, TOML says `false`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from translator.dialects import DIALECTS, EFFORT_LEVELS, Dialect
from translator.dialects.dialect import IDENTITY_FIELDS
from translator.dialects.think_tags import Tags
from translator.wire.json_values import as_object

from .sections import fields, shown_key, takes_none, unknown

FACTS: Mapping[str, Any] = {
    field.name: field.type
    for field in msgspec.structs.fields(Dialect)
    if field.name not in IDENTITY_FIELDS
}
"""The facts that can be given, with their types."""


def read_facts(table: Mapping[str, object], path: str, problems: list[str]) -> dict[str, Any]:
    """The facts in a table, with every mistake in it added to `problems`."""
    missing = {key for key in table if table[key] is False and takes_none(FACTS.get(key))}
    problems += [f"{path}.{key}: belongs to the dialect" for key in table if key in IDENTITY_FIELDS]
    skipped = missing | IDENTITY_FIELDS
    given = {key: item for key, item in table.items() if key not in skipped}
    facts = fields(FACTS, given, path, problems, noun="fact")
    # What has the right type and would not work:
    problems += [
        f"{path}.efforts.{shown_key(level)}: {unknown(level, EFFORT_LEVELS, 'level')}"
        for level in as_object(table.get("efforts")) or ()
        if level not in EFFORT_LEVELS
    ]
    tags = facts.get("think_tags")
    if isinstance(tags, Tags) and not (tags.pairs and all(map(all, tags.pairs))):
        problems.append(f"{path}.think_tags.pairs: needs a pair of tags, none of them empty")
    return facts | dict.fromkeys(missing)


def resolved(dialect: str, model: str, *given: Mapping[str, Any]) -> Dialect:
    """The facts of one model: the dialect's, those that it has for this model, those given."""
    known = DIALECTS[dialect].for_model(model)
    facts = {name: fact for facts in given for name, fact in facts.items()}
    return msgspec.structs.replace(known, models=(), **facts)
