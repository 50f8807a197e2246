"""Items as the API shows them: what came as input gets the fields that its clients require."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from translator.wire.json_values import NOT_JSON, as_list, as_object, is_string

_LISTS: dict[str, Any] = {"annotations": [], "logprobs": []}
_WITH_STATUS = frozenset(
    "message function_call function_call_output custom_tool_call custom_tool_call_output".split()
)


def item_resource(item_id: str, body: bytes | Raw) -> Raw:
    """A stored item as a resource: with its id, a message with its type and its parts.

    The values of all other fields keep their bytes.
    """
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    kind = "message"
    if "type" in fields:
        kind = msgspec.json.decode(fields["type"], type=str)
    shown: dict[str, Any] = {"id": item_id, "type": kind, **fields}
    shown |= {"id": item_id, "type": kind}
    if kind in _WITH_STATUS and bytes(fields.get("status", b"null")) == b"null":
        shown["status"] = "completed"
    if kind == "message":
        of_model = bytes(fields.get("role", b"")) == b'"assistant"'
        shown["content"] = _parts(fields.get("content", Raw(b"[]")), of_model=of_model)
    return Raw(msgspec.json.encode(shown))


def canonical(body: bytes | Raw) -> bytes | None:
    """What an item means, whatever its id, and however its client writes it; None for a faulty one.

    Items of one meaning are shown alike, but for their ids, and are translated alike.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        fields.pop("id", None)
        kind: object = fields.setdefault("type", "message")
        if kind in _WITH_STATUS and fields.get("status") is None:
            fields["status"] = "completed"
        if kind == "message" and (parts := as_list(fields.get("content"))) is not None:
            fields["content"] = [_with_lists(part) for part in parts]
        return msgspec.json.encode(fields, order="deterministic")
    except (*NOT_JSON, TypeError, UnicodeEncodeError):  # a type that is no text, half a character
        return None


def _with_lists(part: object) -> object:
    """A part of a message, with the lists that the text of a model has."""
    fields = as_object(part)
    if fields is None or fields.get("type") != "output_text":
        return part
    return _LISTS | fields


def _parts(content: Raw, *, of_model: bool) -> list[Any]:
    text = "output_text" if of_model else "input_text"
    given: Any = msgspec.json.decode(content, type=str | list[Raw] | None)
    if isinstance(given, str):
        given = [Raw(msgspec.json.encode(given))]
    return [_part(raw, text) for raw in given or ()]


def _part(raw: Raw, text: str) -> Any:  # noqa: ANN401 - JSON
    """A part; text of a model with the lists that clients index into."""
    if is_string(raw):
        fields: dict[str, Any] = {"type": text, "text": raw}
    else:
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
        text = msgspec.json.decode(fields.get("type", b"null"), type=Any)
    return {**fields, **_LISTS, **fields} if text == "output_text" else fields
