"""Decoding errors as OpenAI reports them: the path of the field, the reason, the code."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON, as_list, as_object, replace_lone_surrogates

from .pauses import Pause, no_pause, paced

_T = TypeVar("_T")

MAX_SEARCHED_BYTES = 1024 * 1024
"""Largest body that is searched for the path of a text that cannot be decoded, in bytes."""

_DECODED_BYTES = 256 * 1024
"""Part of a body that is checked at once, where its caller pauses: UTF-8 is decoded slowly."""

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`")
CODES = (
    ("missing required field", "missing_required_parameter"),
    ("Invalid enum value", "invalid_value"),
    ("Invalid value", "invalid_value"),
    ("`object` of length", "object_above_max_properties"),
    ("`array` of length <=", "array_above_max_length"),
    ("`array` of length >=", "array_below_min_length"),
    ("of length <=", "string_above_max_length"),
    ("of length >=", "string_below_min_length"),
    (" >= ", "integer_below_min_value"),
    (" <= ", "integer_above_max_value"),
)
"""Words in the decoder's message, and OpenAI's code for such an error; the first match counts."""


def invalid_from(error: Exception, body: bytes | Raw = b"") -> InvalidRequest:
    """The InvalidRequest for an error of the decoder.

    `param` is the path of the field, without the decoder's `$`; None for a body that is not JSON.
    With the `body`, a text with half of a surrogate pair is found, which the decoder calls
    truncated.
    """
    if isinstance(error, RecursionError):
        return nested_too_deeply()
    if not isinstance(error, msgspec.ValidationError):
        where = _path_of(_LONE_SURROGATE, bytes(body)) if body else None
        if where is not None:
            return InvalidRequest(
                f"Invalid '{where or 'body'}': a text has one half of a surrogate pair alone.",
                param=where or None,
                code="invalid_value",
            )
        return InvalidRequest(f"The request body is not valid JSON: {error}.", param=None)
    found = _MESSAGE.match(str(error))
    what, path = (found["what"], found["path"] or "") if found else (str(error), "")
    path = path.replace("[...]", "").lstrip(".")
    missing = _MISSING.search(what)
    if missing:
        return missing_parameter(f"{path}.{missing[1]}".lstrip("."))
    code = next((code for words, code in CODES if words in what), "invalid_type")
    return InvalidRequest(f"Invalid '{path or 'body'}': {what}.", param=path or None, code=code)


def missing_parameter(path: str, hint: str = "") -> InvalidRequest:
    """The error for a required field that is missing or empty; `hint` is what to do about it."""
    message = f"Missing required parameter: '{path}'."
    return InvalidRequest(
        f"{message} {hint}" if hint else message, param=path, code="missing_required_parameter"
    )


def nested_too_deeply() -> InvalidRequest:
    """The error for JSON over the recursion limit, some 900 levels: more than any tool's schema."""
    return InvalidRequest(
        "The request body is nested too deeply.", param=None, code="json_too_deep"
    )


def refuse_invalid_utf8(body: bytes, pause: Pause = no_pause) -> None:
    """Raise InvalidRequest for a body that is not UTF-8.

    The decoder checks only the strings that it decodes, and raw values go upstream unchanged.
    """
    if body.isascii():  # the usual case, and much faster than decoding
        return
    if pause is not no_pause and _is_utf8(body, pause):
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        path = _path_of(_INVALID_UTF8, body) or None
        where = f"Invalid '{path}'" if path else "The request body is not valid JSON"
        raise InvalidRequest(
            f"{where}: invalid UTF-8 at byte {error.start} of the body.",
            param=path,
            code="invalid_value" if path else None,
        ) from None


def _is_utf8(body: bytes, pause: Pause) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in paced(range(0, len(body), _DECODED_BYTES), pause):
            decoder.decode(body[start : start + _DECODED_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _path_of(faulty: re.Pattern[str], body: bytes) -> str | None:
    """The path of the first string with a faulty character; None without valid JSON, or any.

    It is empty for a body that is that string; that of an object stands for its keys.
    """
    if len(body) > MAX_SEARCHED_BYTES:
        return None
    try:
        value = json.loads(body.decode("utf-8", "surrogateescape"))
        path = next((where for where, text in _strings(value) if faulty.search(text)), None)
    except (ValueError, RecursionError):
        return None
    # a key may be faulty, too
    return None if path is None else replace_lone_surrogates(path.lstrip("."))


_INVALID_UTF8 = re.compile("[\udc80-\udcff]")
"""The characters that `surrogateescape` decodes invalid bytes to."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""The same, and what JSON's escapes of one half of a pair stand for."""


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Every string in a JSON value, with its path: a key has that of its object."""
    if isinstance(value, str):
        yield path, value
    for key, inner in (as_object(value) or {}).items():
        yield path, key
        yield from _strings(inner, f"{path}.{key}")
    for index, inner in enumerate(as_list(value) or ()):
        yield from _strings(inner, f"{path}[{index}]")


def decode_at(raw: Raw, type: type[_T], path: str) -> _T:
    """The raw value at `path` as a struct; raises InvalidRequest, with the path of the field."""
    try:
        return msgspec.json.decode(raw, type=type)
    except NOT_JSON as error:
        raise at_path(invalid_from(error, raw), path) from None


def at_path(error: InvalidRequest, prefix: str) -> InvalidRequest:
    """The same error with `prefix` put in front of its path."""
    inner = error.param or ""
    path = prefix + (f".{inner}" if inner and not inner.startswith("[") else inner)
    message = error.message
    if inner:
        message = message.replace(f"'{inner}'", f"'{path}'", 1)
    else:
        message = message.replace("'body'", f"'{path}'", 1)
    return InvalidRequest(message, param=path, code=error.code)
