"""JSON Schemas for upstreams that know only a part of JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests import strategies as draws
from translator.common.schemas import SchemaRules, rewrite
from translator.dialects import DIALECTS

MOONSHOT = DIALECTS["moonshot"].schema_rules
GEMINI = DIALECTS["gemini"].schema_rules
STRINGS = DIALECTS["lm_studio"].schema_rules


def written(schema: Any, rules: SchemaRules | None) -> Any:
    assert rules is not None
    return json.loads(bytes(rewrite(Raw(json.dumps(schema).encode()), rules)))


def properties(**schemas: Any) -> dict[str, Any]:
    return {"type": "object", "properties": schemas}


@pytest.mark.parametrize(
    ("rules", "schema", "expected"),
    [
        (MOONSHOT, {"$schema": "x", **properties()}, properties()),
        (MOONSHOT, {"oneOf": [properties()]}, {"type": "object", "oneOf": [properties()]}),
        (MOONSHOT, properties(a={"type": ["string", "null"]}), properties(a={"anyOf": [{"type": "string"}, {"type": "null"}]})),
        (MOONSHOT, properties(a={"$ref": "#/$defs/a", "description": "d"}), properties(a={"$ref": "#/$defs/a"})),
        (MOONSHOT, {**properties(), "$defs": {"a": {"enum": ["x"]}}}, {**properties(), "$defs": {"a": {"enum": ["x"], "type": "string"}}}),
        (MOONSHOT, properties(a={}), properties(a={"type": "string"})),
        (MOONSHOT, {}, {"type": "object"}),
        (MOONSHOT, {"additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        (MOONSHOT, {"description": "d"}, {"type": "object", "description": "d"}),
        (GEMINI, {"$schema": "x", "additionalProperties": False}, {"type": "object"}),
        (GEMINI, {"enum": ["x"]}, {"type": "string", "enum": ["x"]}),
        (MOONSHOT, properties(a={"type": ["string", "integer"], "anyOf": [{"minLength": 1}, {"minimum": 0, "type": "integer"}]}),
            properties(a={"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minLength": 1}, {"type": "integer", "minimum": 0}]})),
        (MOONSHOT, properties(a={"properties": {}}), properties(a={"type": "object", "properties": {}})),
        (MOONSHOT, properties(a={"items": {"enum": [1]}}), properties(a={"type": "array", "items": {"type": "integer", "enum": [1]}})),
        (MOONSHOT, properties(a={"enum": [True]}), properties(a={"type": "boolean", "enum": [True]})),
        (MOONSHOT, properties(a={"const": 1.5}), properties(a={"type": "number", "const": 1.5})),
        (MOONSHOT, properties(a={"anyOf": [{"type": "string"}]}), properties(a={"anyOf": [{"type": "string"}]})),
        (GEMINI, {**properties(a={"type": ["string", "null"], "default": "x"}), "additionalProperties": False}, properties(a={"type": "string", "nullable": True})),
        (GEMINI, properties(a={"type": ["string"]}), properties(a={"type": "string"})),
        (GEMINI, properties(a={"type": ["string", "integer"]}), properties(a={"anyOf": [{"type": "string"}, {"type": "integer"}]})),
        (GEMINI, properties(default={"type": "string"}), properties(default={"type": "string"})),
        (STRINGS, properties(a={"type": ["string", 5]}), properties(a={"anyOf": [{"type": "string"}]})),
        (STRINGS, properties(a=True, b={"items": {"not": {"type": "string"}}}), properties(a=True, b={"items": {"not": {"type": "string"}}})),
        (STRINGS, {"properties": 5, "anyOf": 5}, {"properties": 5, "anyOf": []}),
    ],
)  # fmt: skip
def test_rules(rules: SchemaRules, schema: Any, expected: Any) -> None:
    assert written(schema, rules) == expected


def test_a_schema_that_breaks_no_rule_keeps_its_bytes() -> None:
    for source in (b'{ "type":  "object" }', b"[]", b"true"):
        assert bytes(rewrite(Raw(source), SchemaRules(type_lists="nullable"))) == source


ALTERNATIVES = [{"maxLength": 1}, {"type": "integer"}, {"minimum": 3, "minLength": 3}, {}]
SIMPLE = st.recursive(
    st.one_of(
        st.sampled_from([{"type": "string"}, {"type": ["string", "null"]}, {"enum": ["a", 1]}, {}]),
        st.lists(st.sampled_from(ALTERNATIVES), min_size=1).map(
            lambda listed: {"type": ["string", "integer"], "anyOf": listed}
        ),
    ),
    lambda inner: st.builds(
        lambda p: properties(**p), st.dictionaries(st.sampled_from("ab"), inner)
    ),
)


@given(SIMPLE, draws.JSON)
def test_type_lists_without_lists_mean_the_same(schema: Any, value: Any) -> None:
    """What a schema accepted, its form with `anyOf` accepts, and nothing else."""
    before = jsonschema.Draft202012Validator(schema).is_valid(value)
    after = jsonschema.Draft202012Validator(written(schema, STRINGS)).is_valid(value)
    assert before == after
