"""A table of TOML as a struct, and every mistake in it at once.

msgspec stops at the first mistake, so tables are walked here and only what is no table is given to
it. A mistake is a sentence behind its path, as in `server.port: expected int <= 65535`.
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


def read_section(
    kind: type[T], value: object, path: str, problems: list[str], *, required: str = ""
) -> T:
    """A section as its struct, with the default in place of each value that is wrong.

    Each field of `kind` has a default; `required` names one that must be given all the same.
    """
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table, as in [{path}]")
        return kind()
    table = cast("dict[str, object]", value)
    good = fields(_field_types(kind), table, path, problems)
    if required and table.get(required, "") == "":
        problems.append(f"{path}.{required}: is missing")
    return kind(**good)


def fields(
    kinds: Mapping[str, Any],
    table: Mapping[str, object],
    path: str,
    problems: list[str],
    *,
    noun: str = "setting",
) -> dict[str, Any]:
    """The entries of a table that are known by name and right in type."""
    good: dict[str, Any] = {}
    for key, item in table.items():
        if key not in kinds:
            problems.append(f"{path}.{shown_key(key)}: {unknown(key, kinds, noun)}")
            continue
        before = len(problems)
        read = _value(kinds[key], item, f"{path}.{key}", problems)
        if len(problems) == before:
            good[key] = read
    return good


def _field_types(kind: type[Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def _value(kind: Any, value: object, path: str, problems: list[str]) -> Any:  # noqa: ANN401 - any
    """The value as its type; what is returned counts only when no problem was added."""
    inner = _without_none(kind)
    origin = get_origin(inner)
    if isinstance(inner, type) and issubclass(inner, Struct) and isinstance(value, dict):
        table = cast("dict[str, object]", value)
        good = fields(_field_types(inner), table, path, problems)
        missing = [
            field.name
            for field in msgspec.structs.fields(inner)
            if field.required and field.name not in table
        ]
        problems += [f"{path}.{name}: is missing" for name in missing]
        return None if missing else inner(**good)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        _, item = get_args(inner)
        return {
            key: _value(item, entry, f"{path}.{shown_key(key)}", problems)
            for key, entry in cast("dict[str, object]", value).items()
        }
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        inside, text = _sentence(error, kind)
        problems.append(f"{path}{inside}: {text}")


def takes_none(kind: Any) -> bool:  # noqa: ANN401 - a type, which may be a union
    """Whether None is a value of the type."""
    return get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)


def _without_none(kind: Any) -> Any:  # noqa: ANN401 - a type, which may be a union
    if not takes_none(kind):
        return kind
    rest = [one for one in get_args(kind) if one is not NoneType]
    return rest[0] if len(rest) == 1 else kind


def _sentence(error: msgspec.ValidationError, kind: object) -> tuple[str, str]:
    """Where inside the value the mistake is, and msgspec's sentence in the voice of the others."""
    text, _, inside = str(error).partition(" - at ")
    text = text[:1].lower() + text[1:].replace("`object`", "table").replace("`", "")
    if text.startswith("invalid enum value"):
        text = f"{text}; known: {', '.join(_words(kind))}"
    return inside.strip("`").removeprefix("$").replace("[...]", ""), text


def _words(kind: object) -> list[str]:
    """The words that a type consists of, wherever in it they stand."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    return [word for part in get_args(kind) for word in _words(part)]


def named_sections(table: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    """A section that is itself a table of sections."""
    value = table.get(key, {})
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    problems.append(f"{key}: expected a table, as in [{key}.NAME]")
    return {}


def unknown(key: str, known: Iterable[str], noun: str = "setting") -> str:
    """What to say of a name that is not known."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"there is no such {noun}; did you mean {near[0]}?"
    return f"there is no such {noun}; known: {', '.join(known)}"


shown_key = toml_key
"""A key as TOML writes it."""
