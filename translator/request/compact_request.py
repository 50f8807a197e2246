"""`POST /v1/responses/compact`: a conversation goes in, a shorter one comes out.

    request  = model, input, …          as of `POST /v1/responses`
    asked    = request, with a compaction_trigger at the end of its input
    answer   = { message | declaration }, compaction

The messages are those of the user, and the instructions between them, in their order and their
words. What the model said and did is in the compaction, as are earlier compactions. So the output
is whole without anything else, and can be the `input` of the next request as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from translator.wire import items, responses
from translator.wire.errors import InvalidRequest, UpstreamError
from translator.wire.json_values import is_null, is_string
from translator.wire.notices import Notice

from .compaction import head_of, kept_items
from .to_chat import read_request

_TRIGGER = Raw(b'{"type":"compaction_trigger"}')
_NO_USAGE = responses.Usage(
    0, responses.InputTokensDetails(0, 0), 0, responses.OutputTokensDetails(0), 0
)


class CompactedResponse(Struct, frozen=True, kw_only=True):
    """What a client gets: `output` is its next `input`. `created_at` is in seconds since 1970."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Raw | items.OutputItem]
    usage: responses.Usage


class CompactRequest:
    """One request to compact a conversation.

    `body` is the Responses request that asks for it, to be translated like any other; `answer`
    makes what the client gets of its response. `notices` tell which messages do not come back.
    """

    def __init__(self, body: bytes) -> None:
        """Raises InvalidRequest for a body that is no request, or that names no model."""
        request = read_request(body).request
        if not request.model:
            raise InvalidRequest(
                "Missing required parameter: 'model'.",
                param="model",
                code="missing_required_parameter",
            )
        source = request.input or []
        if isinstance(source, str):
            source = [_encoded({"role": "user", "content": source})]
        fields = msgspec.json.decode(body, type=dict[str, Raw])
        for name in ("stream", "generate"):  # the answer is one body, and always asked for
            fields.pop(name, None)
        asks = bool(source) and head_of(source[-1]).type == "compaction_trigger"
        fields["input"] = _encoded(source if asks else [*source, _TRIGGER])
        self.body: bytes = msgspec.json.encode(fields)
        self._kept, left_out = kept_items(source)
        self.notices = [
            Notice(f"input[{index}]", "message_summarised", "Only the summary has it.")
            for index in left_out
        ]

    def answer(
        self, response: responses.Response, *, new_id: Callable[[str], str]
    ) -> CompactedResponse:
        """The shorter conversation. `new_id(prefix)` names the items that came without an id.

        Raises UpstreamError when the response is not whole.
        """
        if response.status != "completed":
            why = response.incomplete_details
            raise UpstreamError(f"The summary was cut{f': {why.reason}' if why else ''}.")
        return CompactedResponse(
            id=response.id,
            created_at=response.created_at,
            output=[*(_as_output(raw, new_id) for raw in self._kept), *response.output],
            usage=response.usage or _NO_USAGE,
        )


def _as_output(raw: Raw, new_id: Callable[[str], str]) -> Raw:
    """An item of the input in the form that it has in an output, its parts as they came."""
    fields = {
        name: value
        for name, value in msgspec.json.decode(raw, type=dict[str, Raw]).items()
        if not is_null(value)
    }
    kind = head_of(raw).type or "message"
    if "id" not in fields:
        fields["id"] = _encoded(new_id(_ID_PREFIXES.get(kind, "msg_")))
    if kind != "message":
        return _encoded(fields)
    content = fields.get("content", Raw(b"[]"))
    parts = [content] if is_string(content) else msgspec.json.decode(content, type=list[Raw])
    usual = {"type": kind, "status": "completed"}
    return _encoded({**usual, **fields, "content": [_as_part(part) for part in parts]})


_ID_PREFIXES = {"additional_tools": "at_", "configuration_update": "cu_"}


def _as_part(part: Raw) -> Raw | dict[str, object]:
    return {"type": "input_text", "text": part} if is_string(part) else part


def _encoded(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
