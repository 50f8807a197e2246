"""Limits of clients with `--workers N`: they hold for all workers together, whoever dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.access.clients import ALICE, BOB, FREE, bearer
from tests.service.chat_bodies import COMPLETION
from tests.service.responses_api import ASK
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, make_settings
from translator.service.access.shared_limits import LimitsFile
from translator.service.base.keys import store
from translator.service.server.workers import _Slot, _Supervisor

from .processes import Serving, serve, write

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"


def section(name: str, key: str, **limits: int) -> str:
    lines = [f"[clients.{json.dumps(name)}]", f'keys = ["{store(key)}"]']
    return "\n".join([*lines, *(f"{limit} = {value}" for limit, value in limits.items()), ""])


def fresh(served: Serving, key: str = ALICE) -> httpx.AsyncClient:
    """A client that makes a connection for each request, so that all workers get some."""
    return httpx.AsyncClient(
        base_url=served.url,
        headers=bearer(key),
        timeout=BOUND_S,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


async def statuses(client: httpx.AsyncClient, count: int, **fields: Any) -> Counter[int]:
    """The statuses of so many requests at the same time."""
    asked = (client.post(RESPONSES, json=ASK | {"stream": False} | fields) for _ in range(count))
    answers = await bounded(asyncio.gather(*asked))
    return Counter(answer.status_code for answer in answers)


async def remaining(client: httpx.AsyncClient, noun: str) -> set[int]:
    """What is left, as all workers say it."""
    asked = (client.get("/v1/models/m") for _ in range(20))
    answers = await bounded(asyncio.gather(*asked))
    return {int(answer.headers[f"x-ratelimit-remaining-{noun}"]) for answer in answers}


async def replaced(served: Serving) -> None:
    """SIGHUP, and wait until it has been followed."""
    served.process.send_signal(signal.SIGHUP)
    await served.wait_for_log("all workers have been replaced")


async def test_rates_are_those_of_all_workers(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Exactly so many requests pass, over fresh connections to three workers, at the same time.

    And tokens of an answer without usage are charged where it was given, and known everywhere.
    """

    async def script(call: Call) -> None:
        message = {"role": "assistant", "content": "x" * 400_000}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        await call.answer(COMPLETION | {"choices": choices, "usage": None})

    upstream.script = script
    sections = (
        section("alice", ALICE, requests_per_minute=6)
        + section("bob", BOB, tokens_per_minute=50_000)
        + section("free", FREE)
        + '[models.m]\nupstream = "up"\n'
    )
    began = time.monotonic()
    async with (
        serve(tmp_path, upstream.url, workers=3, sections=sections) as served,
        fresh(served) as alice,
        fresh(served, BOB) as bob,
        fresh(served, FREE) as free,
    ):
        found = await statuses(alice, 60)
        refused = await alice.post(RESPONSES, json=ASK)
        minutes = (time.monotonic() - began) / 60
        assert await statuses(free, 20) == {200: 20}
        before = await remaining(bob, "tokens")
        assert await statuses(bob, 1) == {200: 1}
        assert await remaining(bob, "tokens") == {0}
        assert await statuses(bob, 20) == {429: 20}
    assert before == {50_000}
    assert found.keys() == {200, 429}
    assert 6 <= found[200] <= 6 + int(6 * minutes) + 1
    assert upstream.connections >= 2  # the buckets were not one worker's
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(refused.headers["retry-after"]) <= 10
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_killed_worker_gives_back_its_places(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """And nobody else's; a worker in its place has the limits of all."""
    held = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        held.release()
        await go_on.wait()
        await call.answer(COMPLETION)

    upstream.script = script
    sections = section("alice", ALICE, max_concurrent_requests=2)
    async with serve(tmp_path, upstream.url, workers=2, sections=sections) as served:
        async with fresh(served) as client:
            ask = ASK | {"stream": False}
            asked = [asyncio.create_task(client.post(RESPONSES, json=ask)) for _ in range(2)]
            for _ in asked:
                await bounded(held.acquire())
            assert await statuses(client, 20) == {429: 20}
            lost = 0
            for pid in served.workers:
                os.kill(pid, signal.SIGKILL)
                await served.wait_for_log(f"worker {pid} has ended (-9)")
                while len(served.workers) < 2:
                    await asyncio.sleep(0.02)
                gone = [one for one in asked if one.done()]
                assert all(isinstance(one.exception(), httpx.HTTPError) for one in gone)
                places = len(gone) - lost
                lost = len(gone)
                more = [asyncio.create_task(client.post(RESPONSES, json=ask)) for _ in range(20)]
                for _ in range(places):
                    await bounded(held.acquire())
                refused = 0
                for one in asyncio.as_completed(more, timeout=BOUND_S):
                    refused += (await one).status_code == 429
                    if refused == 20 - places:
                        break
                asked += [one for one in more if not one.done()]
                assert len(asked) - lost == 2
            assert lost >= 2
            go_on.set()
            rest = await bounded(asyncio.gather(*(one for one in asked if not one.done())))
            assert [one.status_code for one in rest] == [200, 200]
            assert await statuses(client, 1) == {200: 1}


async def test_a_rolling_restart_keeps_the_counts(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """And clients that are new in the settings have limits of all workers, too."""
    began = time.monotonic()
    alice = section("alice", ALICE, requests_per_minute=6)
    async with serve(tmp_path, upstream.url, workers=2, sections=alice) as served:
        async with fresh(served) as client, fresh(served, BOB) as other:
            assert await statuses(client, 4) == {200: 4}
            bob = section('bob "ß" .x', BOB, requests_per_minute=3)
            write(tmp_path / "settings.toml", upstream.url, workers=2, sections=bob + alice)
            await replaced(served)
            found, new = await statuses(client, 30), await statuses(other, 30)
    minutes = (time.monotonic() - began) / 60
    assert 2 <= found[200] <= 2 + int(minutes * 6) + 1
    assert 3 <= new[200] <= 3 + int(minutes * 3) + 1


async def test_workers_are_bounded_and_those_that_do_not_start_leave_no_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What starts no worker is said, and tried again where one is missing."""
    settings = make_settings("http://up.test", workers=2)
    with closing(LimitsFile(1)) as limits, socket.socket() as listener:
        supervisor = _Supervisor(settings, ["/nowhere/python"], [], [], limits)
        for _ in range(3):
            assert not await supervisor._start_in(_Slot(listener))
        assert limits.take_column() == 0
        assert not await supervisor._start_in(_Slot(listener))
    assert caplog.text.count("a worker cannot be started: [Errno 2]") == 3
    assert "workers live already" in caplog.text
