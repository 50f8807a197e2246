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
from translator.common.schemas import Rewritten, SchemaRules, rewrite
from translator.dialects import DIALECTS

MOONSHOT = DIALECTS["moonshot"].schema_rules
GEMINI = DIALECTS["gemini"].schema_rules
STRINGS = DIALECTS["lm_studio"].schema_rules


def written(schema: Any, rules: SchemaRules | None) -> Any:
    assert rules is not None
    return json.loads(bytes(rewrite(Raw(json.dumps(schema).encode()), rules).schema))


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
        assert bytes(rewrite(Raw(source), SchemaRules(type_lists="nullable")).schema) == source


GRAMMAR = DIALECTS["llama_cpp"].schema_rules
SEED = DIALECTS["llama_cpp"].for_model("Seed-OSS-36B").schema_rules

LARGE = {"type": "string", "maxLength": 2000, "minLength": 5000, "pattern": "a", "title": "t"}
FIT = {"type": "string", "title": "t"}


@pytest.mark.parametrize("rules", [GRAMMAR, STRINGS], ids=["llama_cpp", "lm_studio"])
@pytest.mark.parametrize(
    "place",
    [
        lambda s: s,
        lambda s: properties(a=s, pattern=s, maxLength=s),
        lambda s: {"type": "array", "items": s},
        lambda s: {"type": "array", "items": [s, s]},
        lambda s: {"type": "array", "prefixItems": [s]},
        lambda s: {"type": "array", "contains": s},
        lambda s: {"$ref": "#/$defs/a", "$defs": {"a": s}},
        lambda s: {"$ref": "#/definitions/a", "definitions": {"a": s}},
        lambda s: {"anyOf": [s, {"type": "null"}]},
        lambda s: {"oneOf": [{"allOf": [s]}]},
        lambda s: {"type": "object", "additionalProperties": s},
        lambda s: {"type": "object", "patternProperties": {"x": s}, "propertyNames": s},
        lambda s: {"type": "object", "dependentSchemas": {"x": s}},
        lambda s: {"not": s},
        lambda s: {"if": s, "then": s, "else": s},
        lambda s: properties(a=properties(b={"type": "array", "items": {"anyOf": [s]}})),
    ],
)  # fmt: skip
def test_what_a_grammar_cannot_have_is_left_out_at_any_depth(rules: Any, place: Any) -> None:
    source = Raw(json.dumps(place(LARGE)).encode())
    rewritten = rewrite(source, rules)
    assert json.loads(bytes(rewritten.schema)) == place(FIT)
    assert rewritten.lost == ("maxLength", "minLength", "pattern")


@pytest.mark.parametrize("keyword", ["Length", "Items", "Properties"])
@pytest.mark.parametrize("end", ["max", "min"])
def test_bounds_that_fit_stay(keyword: str, end: str) -> None:
    most = 1998 if keyword == "Items" else 1999
    fit = Raw(json.dumps(properties(a={f"{end}{keyword}": most, "minimum": 5000})).encode())
    assert GRAMMAR is not None
    assert rewrite(fit, GRAMMAR).schema is fit
    assert written({f"{end}{keyword}": most + 1}, GRAMMAR) == {}
    assert written({f"{end}{keyword}": 2000}, GRAMMAR) == {}
    assert written({f"{end}{keyword}": 1e9}, GRAMMAR) == {}
    for kept in ("9999", True):
        assert written({f"{end}{keyword}": kept}, STRINGS) == {f"{end}{keyword}": kept}


def test_values_are_no_schemas() -> None:
    """What looks like a keyword in a value, or is the name of a property, stays."""
    assert GRAMMAR is not None
    source = Raw(
        json.dumps(
            properties(
                pattern={"type": "string", "enum": ["pattern"], "default": {"pattern": "x"}},
                maxItems={"const": {"maxItems": 5000}, "examples": [{"pattern": "x"}]},
            )
            | {"required": ["pattern"]}
        ).encode()
    )
    assert rewrite(source, GRAMMAR) == Rewritten(source)


DEFINED = {"$defs": {"b": {"anyOf": [{"type": "string"}]}, "x/y~": {}}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, {}),
        (False, {"not": {}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        ({"anyOf": [True, {"type": "null"}]}, {"anyOf": [{}, {"type": "null"}]}),
        ({"if": True, "then": False}, {"if": {}, "then": {"not": {}}}),
        ({"additionalProperties": False}, {"additionalProperties": False}),
        ({"const": True, "default": False}, {"const": True, "default": False}),
        ({"maxLength": 0}, {"maxLength": 0}),
        ({"minItems": 3, "maxItems": 3}, {"minItems": 3, "maxItems": 3}),
        ({"$ref": "#/$defs/b"}, {"$ref": "#/$defs/b"}),
        ({"$ref": "#/$defs/b/anyOf/0"}, {"$ref": "#/$defs/b/anyOf/0"}),
        ({"$ref": "#/$defs/x~1y~0"}, {"$ref": "#/$defs/x~1y~0"}),
    ],
)  # fmt: skip
def test_well_formed_schemas_mean_the_same(schema: Any, expected: Any) -> None:
    assert GRAMMAR is not None
    source = {**properties(a=schema), **DEFINED}
    rewritten = rewrite(Raw(json.dumps(source).encode()), GRAMMAR)
    assert json.loads(bytes(rewritten.schema)) == {**properties(a=expected), **DEFINED}
    assert rewritten.lost == ()


@pytest.mark.parametrize(
    "malformed",
    [
        {"type": "any"},
        {"type": ["string", "any"]},
        {"type": []},
        {"type": None},
        {"type": {}},
        {"enum": []},
        {"enum": None},
        {"anyOf": []},
        {"oneOf": {}},
        {"allOf": None},
        {"items": None},
        {"properties": []},
        {"$defs": None},
        {"maxLength": -1},
        {"maxLength": True},
        {"minLength": 1.5},
        {"maxItems": None},
        {"minLength": 2, "maxLength": 1},
        {"minItems": 2, "maxItems": 1},
        {"minProperties": 2, "maxProperties": 1},
        {"$ref": "#"},
        {"$ref": 5},
        {"$ref": "Thing"},
        {"$ref": "https://schemas.test/a.json"},
        {"$ref": "#/$defs/c"},
        {"$ref": "#/$defs/b/anyOf/1"},
        {"$ref": "#/$defs/b/anyOf/first"},
        {"$ref": "#/type/string"},
    ],
)
def test_what_is_no_json_schema_is_left_out_where_it_refuses_the_request(malformed: Any) -> None:
    assert GRAMMAR is not None
    source = {**properties(a={"title": "t", **malformed}), **DEFINED}
    rewritten = rewrite(Raw(json.dumps(source).encode()), GRAMMAR)
    assert json.loads(bytes(rewritten.schema)) == {**properties(a={"title": "t"}), **DEFINED}
    assert rewritten.lost == tuple(sorted(malformed))


@pytest.mark.parametrize(
    ("rules", "schema", "lost"),
    [
        (GRAMMAR, {"pattern": "a"}, ("pattern",)),
        (GEMINI, {"$schema": "x", "additionalProperties": False, "default": 1}, ()),
        (GEMINI, properties(a={"const": 1}), ("const",)),
        (MOONSHOT, {"$schema": "x", "$id": "y"}, ()),
        (MOONSHOT, properties(a={"$ref": "#/$defs/a", "description": "d"}), ()),
        (MOONSHOT, properties(a={"$ref": "#/$defs/a", "minLength": 1}), ("minLength",)),
        (STRINGS, properties(a={"type": ["string", "null"]}), ()),
        (SEED, properties(a={"type": ["string", "null"]}), ("type",)),
        (SEED, properties(a={"type": ["string"]}), ()),
    ],
)
def test_a_constraint_that_is_dropped_is_a_loss(
    rules: SchemaRules | None, schema: Any, lost: tuple[str, ...]
) -> None:
    """Annotations are not; nor is another form that means the same."""
    assert rules is not None
    assert rewrite(Raw(json.dumps(schema).encode()), rules).lost == lost


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": ["null", "integer"]}, "integer"),
        ({"type": ["null"]}, "null"),
        ({"anyOf": [{"type": "null"}, {"type": "array"}]}, "array"),
        ({"oneOf": [{"type": "boolean"}]}, "boolean"),
        ({"anyOf": [True, {"$ref": "#/$defs/a"}]}, "string"),
        ({"$ref": "#/$defs/a"}, "string"),
        ({"enum": [1]}, "integer"),
        ({}, "string"),
        ({"type": []}, "string"),
        (True, "string"),
    ],
)
def test_one_plain_type_for_each_property(schema: Any, kind: str) -> None:
    assert written(properties(a=schema), SEED)["properties"]["a"]["type"] == kind


def test_malformed_schemas_stay_where_the_rule_is_not_set() -> None:
    source = properties(a={"type": "any", "enum": [], "minLength": 2, "maxLength": 1}, b=True)
    assert written(source, STRINGS) == source


def test_conditions_get_no_type() -> None:
    """A type that is only a guess would change which values a condition holds for."""
    schema = properties() | {"if": {"required": ["a"]}, "then": {"required": ["b"]}}
    assert written(schema, MOONSHOT) == schema


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
