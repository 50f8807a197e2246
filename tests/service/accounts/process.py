"""A process with accounts, without HTTP, that a test can stop or kill where it wants.

    python -m tests.service.accounts.process SETTINGS KEY MODE [ARGUMENT]

It reads a line of its standard input wherever it waits to be told to go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from translator.service.access.client import Ask, Charge, Ended
from translator.service.access.cost import Answered, StatedUsage
from translator.service.accounts import directory, people
from translator.service.accounts.directory import Accounts
from translator.service.accounts.keys import Offer
from translator.service.base.errors import LimitReached, QuotaExceeded
from translator.service.config.loading import read_table
from translator.service.database import connection

BODY = b"x" * 3000
TEXT = 1000
"""Input tokens that the upstream counts of it."""


def say(*words: object) -> None:
    print(*words, flush=True)


async def told() -> None:
    """Wait for a line."""
    await asyncio.to_thread(sys.stdin.readline)


class Request:
    """One request, whose upstream counts as it goes."""

    def __init__(self, charge: Charge | None = None) -> None:
        self.charge = charge
        self.output = 0

    def so_far(self) -> Answered | None:
        if not self.output:
            return None
        usage = StatedUsage(TEXT, self.output, TEXT + self.output)
        return Answered(4 * self.output, 0, usage)

    def end(self) -> None:
        assert self.charge is not None
        answered = self.so_far() or Answered()
        self.charge.end(Ended(result="completed", answered=answered, went_upstream=True))


class Process:
    """What it can do."""

    def __init__(self, accounts: Accounts, key: str) -> None:
        self.accounts = accounts
        self.key = key

    async def begin(self, request_id: str = "r", most: int = 1000) -> Request:
        client = await self.accounts.find(f"Bearer {self.key}", fresh=False)
        request = Request()
        ask = Ask(
            size=len(BODY),
            body=BODY,
            model="m",
            path="/v1/responses",
            request_id=request_id,
            max_output_tokens=most,
        )
        request.charge = await client.hold(ask, request.so_far)
        return request

    async def one(self, point: str) -> None:
        """A request that goes on until a point, and no further."""
        _stop_at(point)
        request = await self.begin()
        if point == "held":
            _stop("held")
        request.output = 100
        say("sent")
        if point in ("sent", "checkpointed"):
            await told()
        request.output = 200
        request.end()
        await asyncio.sleep(3600)

    async def stopped(self) -> None:
        """A request that ends when it is told."""
        request = await self.begin()
        request.output = 100
        say("sent")
        await told()
        request.output = 200
        request.end()

    async def burst(self, number: str) -> None:
        """So many requests at once."""
        await self.accounts.find(f"Bearer {self.key}", fresh=True)
        say("ready")
        await told()
        begun = await asyncio.gather(
            *(self.begin() for _ in range(int(number))), return_exceptions=True
        )
        held = [one for one in begun if isinstance(one, Request)]
        for one in begun:
            assert isinstance(one, Request | QuotaExceeded | LimitReached), repr(one)
        say(len(held))
        await told()
        for one in held:
            one.output = 1000
            one.end()

    async def attempts(self, name: str, number: str) -> None:
        """So many attempts at once to sign in, each from an address of its own."""
        say("ready")
        await told()
        made = await asyncio.gather(
            *(
                self.accounts.change(partial(_attempt, name, f"{os.getpid()} {index}"))
                for index in range(int(number))
            )
        )
        say(sum(not one.wait_us for one in made))

    async def endless(self, log: str) -> None:
        """Requests without an end, eight at a time; what their upstreams send is in a file."""
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        chance = random.Random(os.getpid())
        numbers = count()

        async def one_after_the_other() -> None:
            while True:
                request_id = f"{os.getpid()}-{next(numbers)}"
                request = await self.begin(request_id)
                for _ in range(chance.randrange(1, 40)):
                    await asyncio.sleep(chance.random() / 50)
                    os.write(file, f"{request_id} {request.output + 5}\n".encode())
                    request.output += 5
                request.end()

        say("ready")
        await asyncio.gather(*(one_after_the_other() for _ in range(8)))


def _attempt(name: str, address: str, connection: connection.Connection) -> people.Attempt:
    return people.attempt(connection, name, address)


def _stop(point: str) -> None:
    say("at", point)
    time.sleep(3600)


def _stop_at(point: str) -> None:
    """Let the writer's thread stop there: before its commit, or after it."""
    module: Any = directory
    committed = {"settled": "settle"}.get(point)
    done: list[str] = []

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **more: Any) -> Any:
            if point == "queued" and name == "settle":
                _stop(point)
            found = original(*arguments, **more)
            if (point, name) in (("holding", "hold"), ("settling", "settle")):
                _stop(point)
            done.append(name)
            return found

        return work

    for name in ("hold", "settle"):
        setattr(module, name, wrapped(name, getattr(module, name)))
    for one in (connection.SqliteConnection, connection.PostgresConnection):

        def commit(self: Any, original: Callable[[Any], None] = one.commit) -> None:
            original(self)
            if committed in done:
                _stop(point)

        setattr(one, "commit", commit)  # noqa: B010 - a method of a class


async def main(table: str, key: str, mode: str, *arguments: str) -> None:
    section = read_table(json.loads(table), os.environ).accounts
    assert section is not None
    accounts = Accounts(section, Offer(frozenset({"m"}), catches_all=False, billing=True), None)
    async with accounts.running():
        await getattr(Process(accounts, key), mode)(*arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
