"""Items as the API shows them: what came as input gets the fields that its clients require."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from translator.wire.items import CustomToolCall, FunctionCall, Message, OutputItem, Reasoning
from translator.wire.json_values import NOT_JSON, is_string, objects_in

_fields = msgspec.json.Decoder(dict[str, Any]).decode
raw_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_content = msgspec.json.Decoder(str | list[Raw] | None).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

_LISTS: dict[str, Any] = {"annotations": [], "logprobs": []}
_WITH_STATUS = frozenset(
    "message function_call function_call_output custom_tool_call custom_tool_call_output".split()
)


def item_resource(item_id: str, body: bytes | Raw) -> Raw:
    """A stored item as a resource: with its id, a message with its type and its parts.

    The values of all other fields keep their bytes.
    """
    fields = raw_fields(body)
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
        fields = _fields(body)
        fields.pop("id", None)
        kind: object = fields.setdefault("type", "message")
        if kind in _WITH_STATUS and fields.get("status") is None:
            fields["status"] = "completed"
        content = fields.get("content")
        if kind == "message" and not isinstance(content, str):
            for part in objects_in(content):
                if part.get("type") == "output_text":  # with the lists that a model's text has
                    part.setdefault("annotations", [])
                    part.setdefault("logprobs", [])
        return _encode_sorted(fields)
    except (*NOT_JSON, TypeError, UnicodeEncodeError):  # a type that is no text, half a character
        return None


def canonical_output(item: OutputItem, body: bytes) -> bytes | None:
    """The same of an item that was made here, and is encoded as `body`.

    What most answers have is encoded with nothing missing: it is not decoded for that.
    """
    if isinstance(item, _COMPLETE):
        return _encode_sorted(item).replace(b'"id":"%b",' % item.id.encode(), b"", 1)
    return canonical(body)


_COMPLETE = (Message, Reasoning, FunctionCall, CustomToolCall)
"""The types without raw JSON, whose fields would have to be sorted, too."""


def _parts(content: Raw, *, of_model: bool) -> list[Any]:
    text = "output_text" if of_model else "input_text"
    given: Any = _read_content(content)
    if isinstance(given, str):
        given = [Raw(msgspec.json.encode(given))]
    return [_part(raw, text) for raw in given or ()]


def _part(raw: Raw, text: str) -> Any:  # noqa: ANN401 - JSON
    """A part; text of a model with the lists that clients index into."""
    if is_string(raw):
        fields: dict[str, Any] = {"type": text, "text": raw}
    else:
        fields = raw_fields(raw)
        text = msgspec.json.decode(fields.get("type", b"null"), type=Any)
    return {**fields, **_LISTS, **fields} if text == "output_text" else fields
