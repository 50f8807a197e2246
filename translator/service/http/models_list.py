"""An upstream's own list of models, with Codex's catalog put beside it.

    { "object": "list", "data": [ { "id", … }, … ] }  ->  the same, and "models": [ entry, … ]

Only for Codex, which asks for `models?client_version=…`, and for clients that may not use every
model, which see the ones that they may: all others get the upstream's bytes. What an upstream says
of a model besides its id has many names; here only the context window is read. A body that is no
such list goes on as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator.service.models.codex_catalog import catalog_entries
from translator.service.models.info import ModelInfo
from translator.service.upstreams.streams import Reading
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON

from . import responders as relay
from .exchange import JSON, Exchange

MAX_LIST_BYTES = 8 * 1024 * 1024
"""Largest list that is read, in bytes."""

MAX_LISTED = 500
"""How many models get an entry: each of them holds all instructions, and takes 4 KiB."""


class _Listed(Struct, frozen=True):
    """One model as upstreams list it: its context window, in tokens, under all its names."""

    id: str
    context_length: object = None  # OpenRouter, Fireworks, Together, Moonshot
    context_window: object = None  # Groq
    max_model_len: object = None  # vLLM, SGLang
    max_context_length: object = None  # Mistral

    @property
    def window(self) -> int | None:
        """The context window, if it is said."""
        names = (
            self.max_model_len,
            self.context_window,
            self.context_length,
            self.max_context_length,
        )
        return next((tokens for tokens in names if isinstance(tokens, int) and tokens > 0), None)


_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_rows = msgspec.json.Decoder(list[Raw]).decode
_read_row = msgspec.json.Decoder(_Listed).decode


async def with_catalog(
    exchange: Exchange, reading: Reading, describe: Callable[[str], ModelInfo]
) -> None:
    """Answer with the upstream's list, as far as the client may see it, and the catalog of it."""
    answer = await reading.answer()
    if answer.status != 200:
        await relay.verbatim(exchange, reading)
        return
    body = bytearray()
    while piece := await reading.next():
        body += piece
        if len(body) > MAX_LIST_BYTES:
            raise UpstreamError(f"The upstream's list of models is over {MAX_LIST_BYTES} bytes.")
    headers = {"content-type": answer.headers.get("content-type", JSON["content-type"])}
    client = exchange.client
    shown = bytes(body)
    if client is not None and not client.chooses_freely:
        shown = _only(shown, client.may_use)
    await exchange.whole(200, _with_models(shown, describe), headers)


def _only(body: bytes, may_use: Callable[[str], bool]) -> bytes:
    """The list with no other models in it than these; an empty one for what is no list."""
    try:
        rows = _read_rows(_read_fields(body).get("data", b""))
    except NOT_JSON:
        rows = []
    known = [raw for raw in rows if (row := _row(raw)) is not None and may_use(row.id)]
    return msgspec.json.encode({"object": "list", "data": known})


def _with_models(body: bytes, describe: Callable[[str], ModelInfo]) -> bytes:
    """The list with `models` in it; the other fields keep their bytes."""
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


def _row(raw: Raw) -> _Listed | None:
    try:
        return _read_row(raw)
    except msgspec.ValidationError:
        return None
