"""JSON Schema rewriting, for upstreams that support only a subset of JSON Schema.

Rules drop or rewrite unsupported keywords and keep the meaning as far as the subset can express it.
A schema that breaks no rule keeps its bytes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from translator.wire.json_values import as_list, as_object

_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not")
_BESIDE_REF = ("$ref", "$defs", "definitions")


class SchemaRules(Struct, frozen=True):
    """The limits of one upstream's schemas.

    `dropped`: keywords to leave out. `type_lists`: how to write `"type": ["string", "null"]`;
    `nullable` writes `"type": "string", "nullable": true`, `any_of` an `anyOf` of single types.
    `types_required`: every schema has a type. `bare_refs`: a `$ref` has no sibling keywords.
    `object_root`: the outermost schema is of type object. `max_bound`: bounds of lengths and counts
    from this number on are left out.
    """

    dropped: frozenset[str] = frozenset()
    type_lists: Literal["keep", "nullable", "any_of"] = "keep"
    types_required: bool = False
    bare_refs: bool = False
    object_root: bool = False
    max_bound: int | None = None


def rewrite(schema: Raw, rules: SchemaRules) -> Raw:
    """The schema under the rules; the same bytes where nothing changes."""
    decoded = as_object(msgspec.json.decode(schema))
    if decoded is None:
        return schema
    written = _schema(decoded, rules, unless_implied="object")
    if rules.object_root and "type" not in written:
        written = {"type": "object", **written}
    return schema if written == decoded else Raw(msgspec.json.encode(written))


def _schema(
    schema: dict[str, Any], rules: SchemaRules, *, unless_implied: str = "string"
) -> dict[str, Any]:
    """A schema under the rules; its type is `unless_implied` where nothing in it tells another."""
    if rules.bare_refs and "$ref" in schema:
        schema = {key: value for key, value in schema.items() if key in _BESIDE_REF}
    types = as_list(schema.get("type"))
    if types is not None and rules.type_lists != "keep":
        schema = _with_split_types(schema, [one for one in types if isinstance(one, str)], rules)
    written: dict[str, Any] = {}
    for key, value in schema.items():
        if key in rules.dropped:
            continue
        written[key] = _value(key, value, rules)
    if rules.types_required and not written.keys() & {"type", "$ref", *_LISTS_OF_SCHEMAS}:
        written["type"] = _implied_type(written) or unless_implied
    return written


def _value(key: str, value: object, rules: SchemaRules) -> object:
    """A keyword's value: schemas by name, schemas in a list, one schema, or plain JSON."""
    fields = as_object(value)
    if key in _OF_SCHEMAS and fields is not None:
        return {name: _inner(inner, rules) for name, inner in fields.items()}
    if key in _LISTS_OF_SCHEMAS:
        return [_inner(inner, rules) for inner in as_list(value) or ()]
    if key in _SCHEMAS:
        return _inner(value, rules)
    return value


def _inner(schema: object, rules: SchemaRules) -> object:
    fields = as_object(schema)
    return schema if fields is None else _schema(fields, rules)


def _with_split_types(
    schema: dict[str, Any], types: list[str], rules: SchemaRules
) -> dict[str, Any]:
    """The schema with a list of types written in another way."""
    others = [one for one in types if one != "null"]
    if rules.type_lists == "nullable" and len(others) == 1:
        nullable = {"nullable": True} if len(others) < len(types) else {}
        return {**schema, "type": others[0], **nullable}
    any_of: list[object] = []
    for alternative in as_list(schema.get("anyOf")) or [{}]:
        fields = as_object(alternative)
        if fields is None or fields.keys() & {"type", "$ref", *_LISTS_OF_SCHEMAS}:
            any_of.append(alternative)
        else:
            any_of += [{"type": one, **fields} for one in types]
    rest = {key: value for key, value in schema.items() if key != "type"}
    return {**rest, "anyOf": any_of}


def _implied_type(schema: dict[str, Any]) -> str | None:
    """The type that the other keywords imply, if they do."""
    if "properties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    values = as_list(schema.get("enum")) or [schema.get("const")]
    match values[0]:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case _:
            return None
