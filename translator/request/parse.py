"""The request parser: decodes and validates the body of a Responses request."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.common.invalid import (
    at_path,
    invalid_from,
    nested_too_deeply,
    refuse_invalid_utf8,
)
from translator.common.pauses import Pause, no_pause
from translator.wire import responses
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON, decode_members, is_object, on_one_line


class ParsedRequest(Struct, frozen=True):
    """A decoded and checked request body.

    `unknown` are the raw values of its fields beyond the Responses API, by name. Raw values hold no
    line break: they go into SSE frames.
    """

    request: responses.Request
    unknown: dict[str, Raw]


def parse_request(body: bytes, pause: Pause = no_pause) -> ParsedRequest:
    """Decode a request body; `pause` is called between the passes over it.

    Raises InvalidRequest with OpenAI's codes and the path of the faulty field.
    """
    refuse_invalid_utf8(body, pause)
    try:
        request, unknown = _decoded(on_one_line(body), pause)
    except NOT_JSON as error:
        raise invalid_from(error, body) from None
    if request.text is not None:
        _check_format(request.text.format)
    return ParsedRequest(request, unknown)


def _check_format(wanted: responses.Format | None) -> None:
    if isinstance(wanted, responses.JsonSchemaFormat) and not is_object(wanted.schema):
        raise at_path(
            InvalidRequest(
                "Invalid 'schema': a JSON Schema is an object.", param="schema", code="invalid_type"
            ),
            "text.format",
        )


def parsed_request(
    request: bytes | dict[str, Any] | ParsedRequest, pause: Pause = no_pause
) -> ParsedRequest:
    """What `parse_request` makes of a body, of its decoded JSON, or has made already."""
    if isinstance(request, ParsedRequest):
        return request
    if isinstance(request, bytes):
        return parse_request(request, pause)
    try:
        body = msgspec.json.encode(request)
    except RecursionError:
        raise nested_too_deeply() from None
    except (UnicodeEncodeError, TypeError, OverflowError) as error:
        message = f"The request cannot be encoded as JSON: {error}."
        raise InvalidRequest(message, param=None) from None
    return parse_request(body, pause)


def _decoded(body: bytes, pause: Pause) -> tuple[responses.Request, dict[str, Raw]]:
    """A request and its unknown fields; without any, the body is decoded only once.

    To decode a body of megabytes takes as long as a hundred chunks of the answer.
    """
    pause()
    try:
        return _known_request_decoder.decode(body), {}
    except msgspec.ValidationError:
        pause()
        request = _request_decoder.decode(body)
        pause()
        fields = decode_members(body)
    return request, {name: value for name, value in fields.items() if name not in _KNOWN}


class _KnownRequest(responses.Request, frozen=True, forbid_unknown_fields=True):
    """A request without unknown fields."""


_known_request_decoder = msgspec.json.Decoder(_KnownRequest)
_request_decoder = msgspec.json.Decoder(responses.Request)
_KNOWN = frozenset(responses.Request.__struct_fields__)
