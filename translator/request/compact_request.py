"""The compact request: `POST /v1/responses/compact`, which shortens a conversation.

    request  = model, input, …          as of `POST /v1/responses`
    body     = request, with a compaction_trigger at the end of its input
    answer   = { message | declaration }, compaction

The messages are those of the user and the instructions between them, verbatim and in order. The
compaction covers the model's output and earlier compactions. So the output is a complete `input`
for the next request: where the request goes on from a stored response, also what precedes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Raw, Struct

from translator.common.invalid import missing_parameter
from translator.common.pauses import Pause, no_pause
from translator.wire import items, responses
from translator.wire.errors import UpstreamError
from translator.wire.json_values import decode_elements, decode_members, is_null, is_string
from translator.wire.notices import Notice

from .compaction import after_compaction, ends_in_trigger, head_of, kept_items
from .parse import parse_request
from .references import reference_of

if TYPE_CHECKING:
    from .store_context import StoreContext

_TRIGGER = Raw(b'{"type":"compaction_trigger"}')
_NO_USAGE = responses.Usage(
    0, responses.InputTokensDetails(0, 0), 0, responses.OutputTokensDetails(0), 0
)


class CompactedResponse(Struct, frozen=True, kw_only=True):
    """The answer: `output` is the client's next `input`. `created_at` is in seconds since 1970."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Raw | items.OutputItem]
    usage: responses.Usage


class CompactRequest:
    """One request to compact a conversation.

    `body` is the Responses request for the summary, to be translated like any other; `answer`
    turns its response into the client's. `notices` lists the messages that are left out.
    """

    def __init__(self, body: bytes, pause: Pause = no_pause) -> None:
        """Raises InvalidRequest for a body that is not a request, or that names no model.

        `pause` is called between items, and between passes over the body.
        """
        request = parse_request(body, pause).request
        if not request.model:
            raise missing_parameter("model")
        source = request.input or []
        if isinstance(source, str):
            source = [_encoded({"role": "user", "content": source})]
        pause()
        fields = decode_members(body)
        pause()
        for name in ("stream", "generate"):  # the answer is one body, and is always generated
            fields.pop(name, None)
        fields["input"] = _encoded(source if ends_in_trigger(source) else [*source, _TRIGGER])
        self.body: bytes = msgspec.json.encode(fields)
        self._source = source
        self._kept, left_out = kept_items(source, pause)
        self.notices = [_summarised(f"input[{index}]") for index in left_out]

    def precede(self, earlier: Sequence[Raw], store: StoreContext, pause: Pause = no_pause) -> None:
        """The request goes on from the items `earlier`, or refers to what a store has.

        `pause` is called between items.
        """
        before = after_compaction(earlier, pause)
        pairs = [one for one in enumerate(self._source) if one[0] not in store.duplicates]
        own = [store.resolved.get(reference_of(raw) or "", raw) for _, raw in pairs]
        self._kept, left_out = kept_items([*before, *own], pause)
        paths = [store.precedes] * len(before) + [f"input[{index}]" for index, _ in pairs]
        self.notices = [_summarised(paths[at]) for at in left_out]

    def answer(
        self, response: responses.Response, *, new_id: Callable[[str], str]
    ) -> CompactedResponse:
        """The shorter conversation. `new_id(prefix)` generates the ids of items without one.

        Raises UpstreamError where the response is incomplete.
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


def _summarised(path: str) -> Notice:
    """The notice for a message that is left out."""
    return Notice(path, "message_summarised", "Only the summary covers this message.")


def _as_output(raw: Raw, new_id: Callable[[str], str]) -> Raw:
    """An input item in the form of an output item; its parts stay unchanged."""
    fields = {name: value for name, value in decode_members(raw).items() if not is_null(value)}
    kind = head_of(raw).type or "message"
    if "id" not in fields:
        fields["id"] = _encoded(new_id(_ID_PREFIXES.get(kind, "msg_")))
    if kind != "message":
        return _encoded(fields)
    content = fields.get("content", Raw(b"[]"))
    parts = [content] if is_string(content) else decode_elements(content)
    defaults = {"type": kind, "status": "completed"}
    return _encoded({**defaults, **fields, "content": [_as_part(part) for part in parts]})


_ID_PREFIXES = {"additional_tools": "at_", "configuration_update": "cu_"}


def _as_part(part: Raw) -> Raw | dict[str, object]:
    return {"type": "input_text", "text": part} if is_string(part) else part


def _encoded(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
