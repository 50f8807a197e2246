"""Missing results: what hosted tools have found, for a client that sends their calls back without.

    call ──► the stored response that made it ──► the sealed reasoning behind it, with the results

Only a client that asks for it is shown sealed reasoning, and many drop reasoning altogether. With
the results in their places, the model reads the same as after `previous_response_id`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec
from msgspec import Raw, Struct

from translator.common.mcp import call_of
from translator.service.database.connection import Connection, Row
from translator.wire.json_values import NOT_JSON

from . import statements as sql
from .removal import listed

MAX_CALLS = 1000
"""Most calls of a request whose results are looked for: the last ones."""

MAX_ROWS = 50_000
"""Most items of the responses that made them."""

MAX_CALL_BYTES = 1024 * 1024
"""Largest item that may be a call of a hosted tool; MCP calls have their output with them."""

_APPROVAL = b"mcp_approval_response"
_MARKS = (b"web_search_call", b'"ws_', b'"mcp')
_CALLS = frozenset({"web_search_call", "mcp_call", "mcp_approval_request"})
_PREFIXES = ("ws_", "mcp_", "mcpr_")

_response, _place = itemgetter(0), itemgetter(1)


class _Head(Struct, frozen=True):
    type: str | None = None
    id: str | None = None
    role: str | None = None
    approval_request_id: str | None = None
    encrypted_content: str | None = None

    @property
    def call(self) -> str | None:
        """The id of the hosted call that it is, refers to, or answers; None for other items."""
        if self.type in _CALLS:
            return self.id
        if self.type == "mcp_approval_response":
            return self.approval_request_id
        refers = self.type == "item_reference" or (self.type is None and self.role is None)
        return self.id if refers and self.id and self.id.startswith(_PREFIXES) else None


_read_head = msgspec.json.Decoder(_Head).decode


class Missing(Struct, frozen=True):
    """Reasoning that an input lacks: its id, and its place.

    `at` is the index of the item which it replaces (`instead`), follows, or precedes (`before`).
    """

    id: str
    at: int
    instead: bool = False
    before: bool = False


def may_lack_results(source: Iterable[Raw]) -> bool:
    """Whether an item of an input may be a call of a hosted tool."""
    for raw in source:
        if len(raw) <= MAX_CALL_BYTES and any(mark in bytes(raw) for mark in _MARKS):
            return True
    return False


def approvals_in(source: Iterable[Raw]) -> list[str]:
    """The ids of the requests that an input answers, and those of the calls that ran for them."""
    heads = (_head(raw) for raw in source if _APPROVAL in bytes(raw))
    answered = [
        head.approval_request_id
        for head in heads
        if head.type == "mcp_approval_response" and head.approval_request_id
    ]
    return [*answered, *map(call_of, answered)][: 2 * MAX_CALLS]


def missing_results(
    connection: Connection,
    owner: str,
    source: Sequence[Raw],
    seen: Collection[str],
    max_bytes: int,
) -> list[Missing]:
    """The sealed reasoning that belongs to the hosted calls of an input, in one query.

    `seen` are the ids of the context before it. What is over `max_bytes` in all is left out, the
    reasoning of the last responses coming first.
    """
    if not may_lack_results(source):
        return []
    heads = [_head(raw) for raw in source]
    calls = {
        head.call: index
        for index, head in enumerate(heads)
        if head.call is not None and head.call not in seen
    }
    if not calls:
        return []
    ids = listed(list(calls)[-MAX_CALLS:])
    rows = connection.execute(sql.MADE_WITH, {"owner": owner, "ids": ids, "rows": MAX_ROWS})
    at = {head.id: index for index, head in enumerate(heads) if head.id is not None}
    found: list[Missing] = []
    left = max_bytes
    for _, output in groupby(rows, _response):
        for missing, size in _of_response(list(output), calls, at, heads):
            if missing.id not in seen and size <= left:
                left -= size
                found.append(missing)
    return found


def _of_response(
    output: Sequence[Row],
    calls: Mapping[str, int],
    at: Mapping[str, int],
    heads: Sequence[_Head],
) -> Iterable[tuple[Missing, int]]:
    """The reasoning that an input lacks of one response, with its bytes.

    `at` are the indexes of the input's items by their ids.
    """
    waits: int | None = None  # the index of a call whose results have not come yet
    last: int | None = None  # that of the last item before
    for _, _, item_id, sealed, size in sorted(output, key=_place):
        index = at.get(item_id)
        if sealed:
            if index is not None:
                head = heads[index]
                if head.type == "reasoning" and head.encrypted_content is None:
                    yield Missing(item_id, index, instead=True), size
            elif waits is not None:
                place = waits if last is None else last
                yield Missing(item_id, place, before=last is None), size
            waits = None
        elif item_id in calls:
            waits = calls[item_id]
        last = last if index is None else index


def _head(raw: Raw) -> _Head:
    """The head of an item; an empty one for a faulty item, which is refused elsewhere."""
    try:
        return _read_head(raw)
    except NOT_JSON:
        return _Head()
