"""A provider's books with a month of usage, which the pages are looked at with.

What is drawn by chance has a seed; only keys are other ones each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from translator.service.accounts import books as book
from translator.service.accounts import changes, channel_book, key_book, people, price_book
from translator.service.accounts.bills import Bill, Counts
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.holds import Held, HoldRequest, hold
from translator.service.accounts.keys import Channel
from translator.service.accounts.money import read_amount, read_price
from translator.service.accounts.passwords import hash_password
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.settlements import Settlement, settle
from translator.service.base.keys import new_key, store
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, writing
from translator.service.database.statement import DatabaseTime, Statement

PASSWORD = "correct horse battery"

DAY_S = 86_400

MODELS: dict[str, Any] = {
    "kimi-k2p6": {"upstream": "up", "context_window": 262_144, "max_output_tokens": 65_536},
    "glm-5p1": {
        "upstream": "up",
        "context_window": 202_752,
        "max_output_tokens": 65_536,
        "vision": False,
    },
    "gpt-oss-120b": {
        "upstream": "up",
        "context_window": 131_072,
        "max_output_tokens": 32_768,
        "vision": False,
    },
}

PRICES = {
    "kimi-k2p6": ("0.95", "0.16", "4.00"),
    "glm-5p1": ("1.40", "0.26", "4.40"),
    "gpt-oss-120b": ("0.15", None, "0.60"),
}


@contextmanager
def at(location: Location, offset_s: float) -> Iterator[Connection]:
    """A transaction at another time of the database."""
    with closing(connect(location, DatabaseTime(offset_s))) as connection, writing(connection):
        yield connection


def furnish(
    location: Location, *, days: int = 30, seed: int = 7, now_s: float = 0.0
) -> dict[str, str]:
    """Fill the books with some days until now, which may be another time; the keys by name."""
    draw = random.Random(seed)
    with at(location, now_s - days * DAY_S) as connection:
        for name in ("acme", "lab"):
            book.add_account(connection, name)
        book.set_credit(connection, "lab", read_amount("5"))
        book.top_up(connection, "acme", read_amount("50"), "invoice 2026-117", "olga")
        for model, (input_, cached, output) in PRICES.items():
            price = PriceRow(
                model,
                input=read_price(input_),
                cached_input=None if cached is None else read_price(cached),
                output=read_price(output),
            )
            price_book.set_price(connection, price, "olga")
        channel_book.set_channel(
            connection, Channel("fast", "Fast models", ("gpt-oss-120b",), price_book.STANDARD)
        )
        keys = {
            "laptop": _key(connection, "acme", "laptop"),
            "ci": _key(
                connection,
                "acme",
                "ci",
                requests_per_minute=60,
                limit_amount=read_amount("20"),
                limit_period="month",
            ),
            "notebook": _key(connection, "lab", "notebook", channels=("fast",)),
        }
    hashed = hash_password(PASSWORD)
    with at(location, now_s - days * DAY_S) as connection:
        people.add_user(connection, "anna", "acme", hashed)
        people.add_user(connection, "ben", "lab", hashed)
        people.add_user(connection, "olga", None, hashed)
    for day in range(days - 1, -1, -1):
        weekday = (day + 3) % 7
        count = draw.randint(0, 2) if weekday > 4 else draw.randint(4, 12)
        with at(location, now_s - day * DAY_S - draw.randint(60, 600)) as connection:
            for _ in range(count if day else 6):
                _request(connection, draw)
            _on(connection, day)
    with at(location, now_s - 3600) as connection:
        old = _key(connection, "acme", "old-laptop")
        found = next(one for one in key_book.keys(connection) if one.salt == store(old).salt)
        key_book.revoke(connection, found)
        people.audit(connection, "olga", "revoke key", f"acct_1/key_{found.id}", "old-laptop")
    return keys


def _on(connection: Connection, day: int) -> None:
    """What an operator does so many days before the last one."""
    if day == 9:
        book.top_up(connection, "acme", read_amount("25"), "invoice 2026-131", "olga")
    elif day == 2:
        why = "refunded by the bank"
        book.adjust(connection, "acme", read_amount("-1.5"), why, "bank 77-2", "olga")
        later = PriceRow(
            "kimi-k2p6",
            input=read_price("0.80"),
            cached_input=read_price("0.14"),
            output=read_price("3.50"),
            from_at=changes.now(connection) + 9 * DAY_S * 1_000_000,
        )
        price_book.set_price(connection, later, "olga")


def _key(connection: Connection, account: str, name: str, **limits: Any) -> str:
    text = new_key()
    key_book.add_key(connection, account, name, store(text), Limits(**limits))
    return text


def _request(connection: Connection, draw: random.Random) -> None:
    """One request, from its hold to its bill."""
    key_id = draw.choices((1, 2), (3, 2))[0]
    model = draw.choices(list(PRICES), (6, 2, 3))[0]
    input_ = draw.randint(2_000, 90_000)
    counts = Counts(
        input=input_,
        cached=draw.choice((0, input_ // 2, input_ * 4 // 5)),
        output=draw.randint(80, 6_000),
        reasoning=40,
    )
    estimated = draw.choices(("no", "all"), (20, 1))[0]
    generation = connection.execute(
        Statement("SELECT CAST(value AS BIGINT) FROM acct_meta WHERE key = 'generation'")
    )[0][0]
    held = hold(
        connection,
        HoldRequest(
            token=f"{draw.getrandbits(128):032x}",
            boot="stage",
            account=1,
            key=key_id,
            generation=generation,
            model=model,
            channel=channel_book.EVERYTHING,
            endpoint="/responses",
            request_id=f"req_{draw.getrandbits(48):012x}",
            tokens=0,
            price_list=price_book.STANDARD,
            input_tokens=input_,
            default_limit=8_000,
        ),
        again=False,
    )
    assert isinstance(held, Held), held
    settle(
        connection,
        Settlement(
            id=held.id,
            account=1,
            key=key_id,
            bill=Bill(counts, estimated, billed=True),
            outcome="client_left" if estimated == "all" else "completed",
            response_id=f"resp_{draw.getrandbits(64):016x}",
            tokens=0,
        ),
    )
