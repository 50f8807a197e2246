"""Decoding errors in OpenAI's words: which field, what is wrong with it, which code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from translator.wire.errors import InvalidRequest
from translator.wire.json_values import as_list, as_object, replace_lone_surrogates

MAX_SEARCHED_BYTES = 1024 * 1024
"""Largest body that is searched for the path of a broken text, in bytes."""

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`")
CODES = (
    ("missing required field", "missing_required_parameter"),
    ("Invalid enum value", "invalid_value"),
    ("Invalid value", "invalid_value"),
    ("`object` of length", "object_above_max_properties"),
    ("of length <=", "string_above_max_length"),
    ("of length >=", "string_below_min_length"),
    (" >= ", "integer_below_min_value"),
    (" <= ", "integer_above_max_value"),
)
"""Words in the decoder's message, and OpenAI's code for such a mistake; the first row that fits."""


def invalid_from(error: Exception) -> InvalidRequest:
    """The request error for an error of the decoder.

    A body that is no JSON has no `param`; otherwise `param` is the path of the field, without the
    decoder's `$`.
    """
    if isinstance(error, RecursionError):
        return nested_too_deeply()
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"The request body is not valid JSON: {error}.", param=None)
    found = _MESSAGE.match(str(error))
    what, path = (found["what"], found["path"] or "") if found else (str(error), "")
    path = path.replace("[...]", "").lstrip(".")
    missing = _MISSING.search(what)
    if missing:
        path = f"{path}.{missing[1]}".lstrip(".")
        return InvalidRequest(
            f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
        )
    code = next((code for words, code in CODES if words in what), "invalid_type")
    return InvalidRequest(f"Invalid '{path or 'body'}': {what}.", param=path or None, code=code)


def nested_too_deeply() -> InvalidRequest:
    """JSON of more levels than the interpreter goes down: some 900, more than any tool's schema."""
    return InvalidRequest(
        "The request body is nested too deeply.", param=None, code="json_too_deep"
    )


def refuse_broken_text(body: bytes) -> None:
    """Raise InvalidRequest where a body is not UTF-8.

    The decoder sees that only of the texts that it reads, and raw parts go upstream as they are.
    """
    if body.isascii():  # most are, and this looks at a gigabyte in less than a tenth of a second
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        path = _path_of_broken_text(body)
        where = f"Invalid '{path}'" if path else "The request body is not valid JSON"
        raise InvalidRequest(
            f"{where}: no UTF-8 at byte {error.start} of the body.",
            param=path,
            code="invalid_value" if path else None,
        ) from None


def _path_of_broken_text(body: bytes) -> str | None:
    """The path of the first text that is not UTF-8; None where the body is no JSON, or a key is."""
    if len(body) > MAX_SEARCHED_BYTES:
        return None
    try:
        value = json.loads(body.decode("utf-8", "surrogateescape"))
        found = (where for where, text in _texts(value) if _BROKEN.search(text))
        path = next(found, "").lstrip(".")
        return replace_lone_surrogates(path) or None  # a key may be broken, too
    except (ValueError, RecursionError):
        return None


_BROKEN = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` makes of bytes that are not UTF-8."""


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Every text in a JSON value, with its path."""
    if isinstance(value, str):
        yield path, value
    for key, inner in (as_object(value) or {}).items():
        yield from _texts(inner, f"{path}.{key}")
    for index, inner in enumerate(as_list(value) or ()):
        yield from _texts(inner, f"{path}[{index}]")


def at_path(error: InvalidRequest, prefix: str) -> InvalidRequest:
    """The same error seen from further out: its path begins with `prefix`."""
    inner = error.param or ""
    path = prefix + (f".{inner}" if inner and not inner.startswith("[") else inner)
    message = error.message
    if inner:
        message = message.replace(f"'{inner}'", f"'{path}'", 1)
    else:
        message = message.replace("'body'", f"'{path}'", 1)
    return InvalidRequest(message, param=path, code=error.code)
