"""Decoder of TOML tables into structs that collects every mistake.

msgspec stops at the first mistake, so tables are walked here, and msgspec only converts the values
in them. A mistake is a sentence after its path, as in `server.port: expected int <= 65535`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Struct

from translator.common.toml import toml_key

T = TypeVar("T", bound=Struct)

CATCH_ALL = "*"
"""The name of the section of `[models]` that serves every name without one."""


def read_section(
    struct: type[T], value: object, path: str, problems: list[str], *, required: str = ""
) -> T:
    """A section as its struct, with the default in place of each wrong value.

    Each field of `struct` has a default; `required` names one that must be given all the same.
    """
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table, as in [{path}]")
        return struct()
    table = cast("dict[str, object]", value)
    valid = read_fields(_field_types(struct), table, path, problems)
    if required and table.get(required, "") == "":
        problems.append(f"{path}.{required}: is missing")
    return struct(**valid)


def read_fields(
    types: Mapping[str, Any],
    table: Mapping[str, object],
    path: str,
    problems: list[str],
    *,
    noun: str = "setting",
) -> dict[str, Any]:
    """The valid entries of a table: those with a known name and a value of its type."""
    valid: dict[str, Any] = {}
    for key, item in table.items():
        if key not in types:
            problems.append(f"{path}.{toml_key(key)}: {unknown(key, types, noun)}")
            continue
        before = len(problems)
        converted = _convert(item, types[key], f"{path}.{key}", problems)
        if len(problems) == before:
            valid[key] = converted
    return valid


def _field_types(struct: type[Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def _convert(value: object, type_: Any, path: str, problems: list[str]) -> Any:  # noqa: ANN401 - any
    """The value as its type; the result is meaningless when a problem was added."""
    inner = _without_none(type_)
    origin = get_origin(inner)
    if isinstance(inner, type) and issubclass(inner, Struct) and isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return inner(**read_fields(_field_types(inner), table, path, problems))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        _, item = get_args(inner)
        return {
            key: _convert(entry, item, f"{path}.{toml_key(key)}", problems)
            for key, entry in cast("dict[str, object]", value).items()
        }
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        inside, text = _sentence(error, type_)
        problems.append(f"{path}{inside}: {text}")


def takes_none(type_: Any) -> bool:  # noqa: ANN401 - a type, which may be a union
    """Whether None is a value of the type."""
    return get_origin(type_) in (Union, UnionType) and NoneType in get_args(type_)


def _without_none(type_: Any) -> Any:  # noqa: ANN401 - a type, which may be a union
    if not takes_none(type_):
        return type_
    rest = [member for member in get_args(type_) if member is not NoneType]
    return rest[0] if len(rest) == 1 else type_


def _sentence(error: msgspec.ValidationError, type_: object) -> tuple[str, str]:
    """The path inside the value, and msgspec's message in the wording of the other mistakes."""
    text, _, inside = str(error).partition(" - at ")
    text = text[:1].lower() + text[1:].replace("`object`", "table").replace("`", "")
    if text.startswith("invalid enum value"):
        text = f"{text}; known: {', '.join(_literals(type_))}"
    return inside.strip("`").removeprefix("$").replace("[...]", ""), text


def _literals(type_: object) -> list[str]:
    """The values of all Literals in a type."""
    if get_origin(type_) is Literal:
        return [str(value) for value in get_args(type_)]
    return [value for argument in get_args(type_) for value in _literals(argument)]


def named_sections(table: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    """The sections of a table of sections, such as `[upstreams.NAME]`, by name."""
    value = table.get(key, {})
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    problems.append(f"{key}: expected a table, as in [{key}.NAME]")
    return {}


def unknown(key: str, known: Iterable[str], noun: str = "setting") -> str:
    """The message for an unknown name, with the nearest known name, else all of them."""
    known = list(known)
    if not known:
        return f"there is no such {noun}, nor any other"
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"there is no such {noun}; did you mean {near[0]}?"
    return f"there is no such {noun}; known: {', '.join(known)}"
