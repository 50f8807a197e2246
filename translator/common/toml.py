"""The TOML writer: keys, values and tables of JSON values as TOML text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from translator.wire.json_values import as_list, as_object

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(name: str) -> str:
    """A key, in quotes where TOML needs them."""
    return name if _BARE_KEY.fullmatch(name) else _json(name)


def toml_value(value: object) -> str:
    """A value on one line; None, which TOML lacks, is written as `false`."""
    if value is None:
        return "false"
    table, array = as_object(value), as_list(value)
    if table is not None:
        inside = ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in table.items())
        return f"{{ {inside} }}" if inside else "{}"
    if array is not None:
        return f"[{', '.join(map(toml_value, array))}]"
    return _json(value)


def toml_lines(table: Mapping[str, object]) -> list[str]:
    """A table, one entry per line; the entries of an inner table get dotted keys."""
    lines: list[str] = []
    for name, value in table.items():
        entries = as_object(value)
        if entries:
            lines += [f"{name}.{toml_key(key)} = {toml_value(one)}" for key, one in entries.items()]
        else:
            lines.append(f"{name} = {toml_value(value)}")
    return lines


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")  # TOML wants it escaped
