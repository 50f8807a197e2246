"""The upstream's list of models, with Codex's catalog added.

    { "object": "list", "data": [ { "id", … }, … ] }  ->  the same, and "models": [ entry, … ]

Only for Codex, which requests `models?client_version=…`, and for clients that may use some models
only, and see these: all others get the upstream's bytes. Upstreams describe a model under many
names; only the context window is read. A body that is no such list is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator.service.models.codex_catalog import catalog_entries
from translator.service.models.info import ModelInfo
from translator.service.upstreams.streams import UpstreamStream
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON

from . import responders
from .exchange import JSON, Exchange

MAX_LIST_BYTES = 8 * 1024 * 1024
"""Largest list of models, in bytes."""

MAX_LISTED = 500
"""How many models get a catalog entry: each holds all instructions, and takes 4 KiB."""


class _ListedModel(Struct, frozen=True):
    """A model as upstreams list it; the context window, in tokens, has four names."""

    id: str
    context_length: object = None  # OpenRouter, Fireworks, Together, Moonshot
    context_window: object = None  # Groq
    max_model_len: object = None  # vLLM, SGLang
    max_context_length: object = None  # Mistral

    @property
    def window(self) -> int | None:
        """The context window, if it is stated."""
        names = (
            self.max_model_len,
            self.context_window,
            self.context_length,
            self.max_context_length,
        )
        return next((tokens for tokens in names if isinstance(tokens, int) and tokens > 0), None)


_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_rows = msgspec.json.Decoder(list[Raw]).decode
_read_row = msgspec.json.Decoder(_ListedModel).decode


async def with_catalog(
    exchange: Exchange, stream: UpstreamStream, describe: Callable[[str], ModelInfo]
) -> None:
    """Respond with the models of the upstream's list that the client may use, and their catalog."""
    answer = await stream.answer()
    if answer.status != 200:
        await responders.passthrough(exchange, stream)
        return
    body = bytearray()
    while chunk := await stream.next():
        body += chunk
        if len(body) > MAX_LIST_BYTES:
            raise UpstreamError(f"The upstream's list of models is over {MAX_LIST_BYTES} bytes.")
    headers = {"content-type": answer.content_type()} if "content-type" in answer.headers else JSON
    client = exchange.context.client
    request_id = exchange.record.request_id
    errors = responders.error_filter(answer, streamed=False, request_id=request_id)
    shown = errors.feed(bytes(body)) + errors.end()
    if errors.private is not None:
        raise errors.private
    if client is not None and not client.may_use_any_model:
        shown = _filtered(shown, client.may_use)
    await exchange.whole(200, _with_models(shown, describe), headers)


def _filtered(body: bytes, may_use: Callable[[str], bool]) -> bytes:
    """The list with only the models that may be used; empty for a body that is no list."""
    try:
        rows = _read_rows(_read_fields(body).get("data", b""))
    except NOT_JSON:
        rows = []
    known = [raw for raw in rows if (row := _row(raw)) is not None and may_use(row.id)]
    return msgspec.json.encode({"object": "list", "data": known})


def _with_models(body: bytes, describe: Callable[[str], ModelInfo]) -> bytes:
    """The list with the field `models` added; the other fields keep their bytes."""
    try:
        fields = _read_fields(body)
        rows = _read_rows(fields.get("data", b""))
    except NOT_JSON:
        return body
    if "models" in fields:
        return body
    known = [
        replace(describe(row.id), context_window=row.window)
        for row in map(_row, rows[:MAX_LISTED])
        if row is not None
    ]
    fields["models"] = Raw(msgspec.json.encode(catalog_entries(known)))
    return msgspec.json.encode(fields)


def _row(raw: Raw) -> _ListedModel | None:
    try:
        return _read_row(raw)
    except msgspec.ValidationError:
        return None
