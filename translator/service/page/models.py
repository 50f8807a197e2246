"""The models that the page lists: those of the table, or of the upstream's own list.

The upstream's list is asked for when somebody looks, with the operator's key or none, and kept for
a minute. A list that fails, or does not come in time, is asked for again after some seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from translator.service.access.client import Client
from translator.service.base.errors import OutOfDescriptors, Stopping
from translator.service.config.settings import Upstream
from translator.service.models.table import ModelTable
from translator.service.turns.bounds import TurnBounds
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON

MAX_MODELS = 200
"""Most models on the page."""

MAX_ID = 200
"""Longest id of a listed model, in characters; longer ones of an upstream are left out."""

MAX_LIST_BYTES = 4 * 1024 * 1024
"""Largest list of an upstream."""

LIST_S = 3.0
"""How long the page waits for an upstream's list, in seconds."""

LASTS_S, FAILURE_LASTS_S = 60.0, 10.0
"""How long a list is kept, and a failure."""


class ListedModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model on the page; None is unknown."""

    id: str
    upstream: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    vision: bool | None = None


class Listed(Struct, frozen=True):
    """The models, and what there is to say about them."""

    models: list[ListedModel]
    total: int
    remark: str = ""


class _Entry(Struct, frozen=True):
    id: str


_read = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_entry = msgspec.json.Decoder(_Entry).decode


class Models:
    """Lists the models."""

    def __init__(
        self, table: ModelTable, bounds: TurnBounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` measures durations."""
        self._table = table
        self._bounds = bounds
        self._clock = clock
        self._asking = asyncio.Lock()
        self._known: tuple[list[str], str] = ([], "")
        self._until = float("-inf")

    async def listed(self, client: Client | None) -> Listed:
        """The models that a client may use; None: all."""
        upstream = self._table.only_upstream
        if upstream is not None:
            ids, remark = await self._of_upstream(upstream)
            if client is not None:
                ids = [one for one in ids if client.may_use_any_model or client.may_use(one)]
            models = [ListedModel(id=one, upstream=upstream.name) for one in ids[:MAX_MODELS]]
            return Listed(models, len(ids), remark)
        entries = self._table.listed(client)
        remark = "Any other name is served, too." if self._table.catches_all else ""
        models = [
            ListedModel(
                id=entry.id,
                upstream=entry.owned_by,
                context_window=entry.context_window or None,
                max_output_tokens=entry.max_output_tokens or None,
                vision=entry.vision,
            )
            for entry in entries[:MAX_MODELS]
        ]
        return Listed(models, len(entries), remark)

    async def _of_upstream(self, upstream: Upstream) -> tuple[list[str], str]:
        """The ids of the upstream's list, and why there are none."""
        async with self._asking:
            if self._clock() >= self._until:
                self._known = await self._ask(upstream)
                lasts_s = FAILURE_LASTS_S if self._known[1] else LASTS_S
                self._until = self._clock() + lasts_s
            return self._known

    async def _ask(self, upstream: Upstream) -> tuple[list[str], str]:
        body = bytearray()
        try:
            async with asyncio.timeout(LIST_S):
                opening = self._bounds.upstreams.open(upstream, "models", authorization=None)
                async with self._bounds.stream(opening) as stream:
                    answer = await stream.answer()
                    if answer.status in (401, 403):
                        return [], "The upstream lists its models only for a key of its own."
                    if answer.status != 200:
                        return [], f"The upstream lists no models (status {answer.status})."
                    answer.decompress()
                    while chunk := await stream.next():
                        body += chunk
                        if len(body) > MAX_LIST_BYTES:
                            return [], "The upstream's list of models is too large for this page."
                    body = bytearray(answer.redaction(bytes(body)))
        except TimeoutError:
            return [], "The upstream has not listed its models in time."
        except (UpstreamError, Stopping, OutOfDescriptors):
            return [], "The upstream cannot be reached."
        try:
            rows = _read_rows(_read(bytes(body)).get("data", b"[]"))
        except NOT_JSON:
            return [], "The upstream's list of models cannot be read."
        ids = [entry for entry in map(_id, rows) if 0 < len(entry) <= MAX_ID]
        return list(dict.fromkeys(ids)), "" if ids else "The upstream lists no models."


def _id(raw: msgspec.Raw) -> str:
    """The id of a row; empty where it has none."""
    try:
        return _read_entry(raw).id
    except msgspec.ValidationError:
        return ""
