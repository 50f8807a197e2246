"""Decoding errors in OpenAI's words: which field, what is wrong with it, which code."""

from __future__ import annotations

import re

import msgspec

from .errors import InvalidRequest

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`")
_CODES = (
    ("missing required field", "missing_required_parameter"),
    ("Invalid enum value", "invalid_value"),
    ("Invalid value", "invalid_value"),
    ("`object` of length", "object_above_max_properties"),
    ("of length <=", "string_above_max_length"),
    ("of length >=", "string_below_min_length"),
    (" >= ", "integer_below_min_value"),
    (" <= ", "integer_above_max_value"),
)


def invalid_from(error: Exception) -> InvalidRequest:
    """The request error for an error of the decoder.

    A body that is no JSON has no `param`; otherwise `param` is the path of the field, without the
    decoder's `$`.
    """
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
    code = next((code for words, code in _CODES if words in what), "invalid_type")
    return InvalidRequest(f"Invalid '{path or 'body'}': {what}.", param=path or None, code=code)


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
