"""Requests that have ended, written into the database as the service writes them, at any time."""

from __future__ import annotations

import secrets
from typing import Any

from translator.service.accounts.bills import Bill, Counts, Estimated
from translator.service.accounts.changes import Mistake
from translator.service.accounts.holds import Held, HoldRequest, hold
from translator.service.accounts.key_book import KeyRow
from translator.service.accounts.keys import read_key
from translator.service.accounts.settlements import Settled, Settlement, settle
from translator.service.database.connection import writing

from .paying import Books


def spend(
    books: Books,
    key: KeyRow,
    counts: Counts,
    *,
    model: str = "m",
    estimated: Estimated = "no",
    at_s: float = 0.0,
    **more: Any,
) -> int:
    """A request of a key that used so much, `at_s` from now; the id of its usage."""
    connection = books.connection
    before = connection.time.offset_s
    connection.time.offset_s = at_s
    try:
        with writing(connection):
            known = read_key(connection, key.salt, billing=True)
            if known is None:
                raise Mistake("there is no such key")
            ask = HoldRequest(
                token=secrets.token_hex(16),
                boot="tests",
                account=known.account,
                key=key.id,
                generation=known.generation,
                model=model,
                channel="all",
                endpoint="/responses",
                request_id=more.get("request_id", "req_1"),
                tokens=1,
                price_list="standard",
                input_tokens=1,
                asked=1,
            )
            held = hold(connection, ask, again=False)
            assert isinstance(held, Held), held
            end = Settlement(
                id=held.id,
                account=known.account,
                key=key.id,
                bill=Bill(counts, estimated, billed=True),
                outcome="completed",
                response_id=more.get("response_id", ""),
            )
            assert isinstance(settle(connection, end), Settled)
    finally:
        connection.time.offset_s = before
    return held.id
