"""Facts of a dialect that the settings override.

    [upstreams.NAME.facts]     for all models of an upstream
    [models."ID".facts]        for one model, over those of its upstream

Every field of `Dialect` can be overridden, except those that identify it. Values are checked
against the field's type, so a new fact needs no code here. A fact replaces the dialect's value as a
whole; `false` stands for None, which TOML does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from translator.common.toml import toml_key
from translator.dialects import DIALECTS, EFFORT_LEVELS, Dialect
from translator.dialects.dialect import IDENTITY_FIELDS
from translator.dialects.think_tags import Tags
from translator.wire.json_values import as_object

from .sections import read_fields, takes_none, unknown
from .settings import CatchAll

FACTS: Mapping[str, Any] = {
    field.name: field.type
    for field in msgspec.structs.fields(Dialect)
    if field.name not in IDENTITY_FIELDS
}
"""The facts that settings can override, with their types."""


def read_facts(table: Mapping[str, object], path: str, problems: list[str]) -> dict[str, Any]:
    """The facts in a table; every mistake in it is added to `problems`."""
    absent = {key for key in table if table[key] is False and takes_none(FACTS.get(key))}
    problems += [
        f"{path}.{key}: identifies the dialect and cannot be overridden"
        for key in table
        if key in IDENTITY_FIELDS
    ]
    skipped = absent | IDENTITY_FIELDS
    given = {key: item for key, item in table.items() if key not in skipped}
    facts = read_fields(FACTS, given, path, problems, noun="fact")
    # Values of the right type that would not work:
    problems += [
        f"{path}.efforts.{toml_key(level)}: {unknown(level, EFFORT_LEVELS, 'level')}"
        for level in as_object(table.get("efforts")) or ()
        if level not in EFFORT_LEVELS
    ]
    tags = facts.get("think_tags")
    if isinstance(tags, Tags) and not (tags.pairs and all(map(all, tags.pairs))):
        problems.append(f"{path}.think_tags.pairs: needs a pair of tags, none of them empty")
    return facts | dict.fromkeys(absent)


def resolve_dialect(dialect: str, model: str, *overrides: Mapping[str, Any]) -> Dialect:
    """The dialect of one model: its facts for that model, with the overrides in their order."""
    of_model = DIALECTS[dialect].for_model(model)
    facts = {name: fact for facts in overrides for name, fact in facts.items()}
    return msgspec.structs.replace(of_model, models=(), **facts)


def catch_all_dialect(row: CatchAll, model: str) -> Dialect:
    """The dialect of a model that the catch-all serves under this name."""
    name = row.upstream_model or model
    return resolve_dialect(row.dialect, name, row.upstream.facts, row.facts)
