"""The conversation that a request names."""

from __future__ import annotations

import msgspec
from msgspec import Struct, UnsetType

from translator.wire.errors import InvalidRequest
from translator.wire.json_values import present
from translator.wire.responses import Request


class _Named(Struct, frozen=True):
    id: str


_read_named = msgspec.json.Decoder(str | _Named).decode


def named_conversation(request: Request) -> str | None:
    """The id of the conversation of a request; None without one. Raises InvalidRequest."""
    raw = request.conversation
    if isinstance(raw, UnsetType) or not present(raw):
        return None
    try:
        named = _read_named(raw)
    except msgspec.ValidationError:
        raise InvalidRequest(
            "Invalid 'conversation': expected an id, or an object with one.",
            param="conversation",
            code="invalid_type",
        ) from None
    conversation_id = named if isinstance(named, str) else named.id
    if not conversation_id:
        raise InvalidRequest(
            "Invalid 'conversation': it is empty.", param="conversation", code="invalid_value"
        )
    if request.previous_response_id is not None:
        raise InvalidRequest(
            "'previous_response_id' and 'conversation' cannot be given together.",
            param="previous_response_id",
            code="invalid_value",
        )
    return conversation_id
