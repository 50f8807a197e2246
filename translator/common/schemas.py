"""JSON Schema rewriting, for upstreams that support only a subset of JSON Schema.

Rules drop or rewrite unsupported keywords and keep the meaning as far as the subset can express it.
A schema that breaks no rule keeps its bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from translator.wire.json_values import as_list, as_object

from .pauses import Pause, no_pause

_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not")
# Conditions on a value that other keywords describe: a type in them could change the meaning.
_CONDITIONS = (
    *("if", "then", "else", "contains", "propertyNames", "contentSchema"),
    *("additionalItems", "unevaluatedItems", "unevaluatedProperties"),
)
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_BESIDE_REF = ("$ref", "$defs", "definitions")
_BOUNDS = frozenset(
    {"maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"}
)
# Without these a schema accepts the same values. `additionalProperties` counts among them: what is
# not named is not written, in any schema that an upstream without it has.
_NO_CONSTRAINTS = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"}
    | {"readOnly", "writeOnly", "additionalProperties"}
)


class SchemaRules(Struct, frozen=True):
    """The limits of one upstream's schemas.

    `dropped`: keywords to leave out. `max_bound`: maxLength, minLength, maxItems, minItems,
    maxProperties and minProperties from this number on (of items: one less) are left out; None:
    none is. `type_lists`: how to write `"type": ["string", "null"]`; `nullable` writes `"type":
    "string", "nullable": true`, `any_of` an `anyOf` of single types, `first` the first type that
    is not null (also beside an `anyOf`). `types_required`: every schema has a type. `bare_refs`: a
    `$ref` has no sibling keywords. `object_root`: the outermost schema is of type object.
    `well_formed`: keywords whose value breaks the rules of JSON Schema, or refers to nothing in the
    schema, are left out; `true` and `false` are written as objects that mean the same.
    """

    dropped: frozenset[str] = frozenset()
    type_lists: Literal["keep", "nullable", "any_of", "first"] = "keep"
    types_required: bool = False
    bare_refs: bool = False
    object_root: bool = False
    max_bound: Annotated[int, Meta(ge=1)] | None = None
    well_formed: bool = False


class Rewritten(Struct, frozen=True):
    """A schema under the rules, and the constraints that it lost, by keyword, sorted."""

    schema: Raw
    lost: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The losses, for a notice."""
        return f"The upstream's schemas lack {', '.join(self.lost)}; left out."


def rewrite(schema: Raw, rules: SchemaRules, pause: Pause = no_pause) -> Rewritten:
    """The schema under the rules; the same bytes where nothing changes.

    `pause` is called before each of the schemas in it.
    """
    decoded = as_object(msgspec.json.decode(schema))
    if decoded is None:
        return Rewritten(schema)
    writer = _Writer(rules, decoded, pause)
    written = writer.schema(decoded, unless_implied="object", types=rules.types_required)
    if rules.object_root and "type" not in written:
        written = {"type": "object", **written}
    if written == decoded:
        return Rewritten(schema)
    return Rewritten(Raw(msgspec.json.encode(written)), tuple(sorted(writer.lost)))


class _Writer:
    """Writes schemas under the rules, and collects the constraints that they lose."""

    def __init__(self, rules: SchemaRules, root: dict[str, Any], pause: Pause) -> None:
        self._rules = rules
        self._pause = pause
        self._root = root
        self.lost: set[str] = set()

    def schema(
        self, schema: dict[str, Any], *, unless_implied: str = "string", types: bool
    ) -> dict[str, Any]:
        """A schema; with `types`, of the type `unless_implied` where nothing in it tells one."""
        self._pause()
        rules = self._rules
        if rules.bare_refs and "$ref" in schema:
            self.lost |= schema.keys() - _NO_CONSTRAINTS - set(_BESIDE_REF)
            schema = {key: value for key, value in schema.items() if key in _BESIDE_REF}
        listed = as_list(schema.get("type"))
        if listed is not None and rules.type_lists != "keep":
            schema = self._with_split_types(schema, [one for one in listed if isinstance(one, str)])
        written: dict[str, Any] = {}
        for key, value in schema.items():
            if (
                key in rules.dropped
                or self._is_too_large(key, value)
                or self._is_malformed(key, value)
            ):
                if key not in _NO_CONSTRAINTS:
                    self.lost.add(key)
                continue
            written[key] = self._value(key, value, types=types)
        if rules.well_formed:
            self._drop_empty_ranges(written)
        if types and "type" not in written:
            if not written.keys() & {"$ref", *_LISTS_OF_SCHEMAS}:
                written["type"] = _implied_type(written) or unless_implied
            elif rules.type_lists == "first":
                written["type"] = self._first_alternative(written) or unless_implied
        return written

    def _first_alternative(self, schema: dict[str, Any]) -> str | None:
        """The type of the first alternative that is not null."""
        alternatives = as_list(schema.get("anyOf")) or as_list(schema.get("oneOf")) or ()
        kinds = [(as_object(one) or {}).get("type") for one in alternatives]
        if len(kinds) > 1:
            self.lost.add("type")
        return next((kind for kind in kinds if isinstance(kind, str) and kind != "null"), None)

    def _is_too_large(self, key: str, value: object) -> bool:
        bound = self._rules.max_bound
        if bound is None or key not in _BOUNDS or not isinstance(value, int | float):
            return False
        # A grammar repeats an item together with the comma before it, and the first one alone.
        return value + key.endswith("Items") >= bound

    def _is_malformed(self, key: str, value: object) -> bool:
        if not self._rules.well_formed:
            return False
        if key in _BOUNDS:
            return not isinstance(value, int) or isinstance(value, bool) or value < 0
        listed = as_list(value)
        match key:
            case "type":
                kinds = [value] if listed is None else listed
                return not kinds or not all(isinstance(k, str) and k in _TYPES for k in kinds)
            case "enum" | "anyOf" | "oneOf" | "allOf":
                return not listed
            case "items":
                return value is None
            case "properties" | "$defs" | "definitions":
                return as_object(value) is None
            case "$ref":
                return not self._leads_somewhere(value)
            case _:
                return False

    def _leads_somewhere(self, ref: object) -> bool:
        """Whether a reference, a JSON pointer, names a part of this schema."""
        if not isinstance(ref, str) or not ref.startswith("#/"):
            return False
        place: object = self._root
        for step in ref[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            listed = as_list(place)
            if listed is not None and name.isdecimal():
                place = listed[int(name)] if int(name) < len(listed) else None
            else:
                place = (as_object(place) or {}).get(name)
        return place is not None

    def _drop_empty_ranges(self, schema: dict[str, Any]) -> None:
        """Leave out both bounds where the least is more than the most: llama.cpp never ends."""
        for of in ("Length", "Items", "Properties"):
            least, most = f"min{of}", f"max{of}"
            if most in schema and schema.get(least, 0) > schema[most]:
                del schema[least], schema[most]
                self.lost |= {least, most}

    def _value(self, key: str, value: object, *, types: bool) -> object:
        """A keyword's value: schemas by name, schemas in a list, one schema, or plain JSON."""
        fields, several = as_object(value), as_list(value)
        if key in _OF_SCHEMAS and fields is not None:
            return {name: self._inner(inner, types=types) for name, inner in fields.items()}
        if key in _LISTS_OF_SCHEMAS:
            return [self._inner(inner, types=types) for inner in several or ()]
        if key in _SCHEMAS and several is not None:  # `items` before JSON Schema 2020
            return [self._inner(inner, types=types) for inner in several]
        if key == "additionalProperties" and isinstance(value, bool):
            return value
        if key in _SCHEMAS:
            return self._inner(value, types=types)
        if key in _CONDITIONS:
            return self._inner(value, types=False)
        return value

    def _inner(self, schema: object, *, types: bool) -> object:
        fields = as_object(schema)
        if fields is not None:
            return self.schema(fields, types=types)
        if self._rules.well_formed and isinstance(schema, bool):
            return self.schema({} if schema else {"not": {}}, types=types)
        return schema

    def _with_split_types(self, schema: dict[str, Any], types: list[str]) -> dict[str, Any]:
        """The schema with a list of types written in another way."""
        others = [one for one in types if one != "null"]
        style = self._rules.type_lists
        if style == "nullable" and len(others) == 1:
            nullable = {"nullable": True} if len(others) < len(types) else {}
            return {**schema, "type": others[0], **nullable}
        rest = {key: value for key, value in schema.items() if key != "type"}
        if style == "first":
            if len(types) > 1:
                self.lost.add("type")
            return {**schema, "type": (others or types)[0]} if types else rest
        any_of: list[object] = []
        for alternative in as_list(schema.get("anyOf")) or [{}]:
            fields = as_object(alternative)
            if fields is None or fields.keys() & {"type", "$ref", *_LISTS_OF_SCHEMAS}:
                any_of.append(alternative)
            else:
                any_of += [{"type": one, **fields} for one in types]
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
