"""`/readyz`: whether an upstream is reachable, found out without a burden to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from translator.service.base.drain import Drain
from translator.service.config.loading import read_table
from translator.service.http import app
from translator.service.upstreams import client as upstream_module
from translator.service.upstreams.health import CALL_COUNTS_S, PROBE_COUNTS_S, UpstreamHealth

from .responses_api import ASK, events
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, make_settings

pytestmark = pytest.mark.anyio

UNREACHABLE = "http://127.0.0.1:9/v1"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def probes(upstream: ScriptedUpstream) -> list[Call]:
    return [call for call in upstream.calls if call.method == "GET"]


async def test_an_upstream_that_answers_is_reachable(upstream: ScriptedUpstream) -> None:
    """Whatever it answers; and it is asked without a key."""

    async def script(call: Call) -> None:
        await call.answer({"error": "Unauthorized"}, 401)

    upstream.script = script
    async with upstream.client(key="sk-secret", upstream={"headers": {"x-key": "b"}}) as client:
        answer = await client.get("/readyz", headers={"authorization": "Bearer own"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"status": "ready", "upstreams": {"up": "reachable"}}
    [probe] = upstream.calls
    assert probe.path == "/v1"
    assert not {"authorization", "x-key"} & probe.headers.keys()


async def test_a_service_without_an_upstream_is_not_ready() -> None:
    async with client_of(make_settings(UNREACHABLE)) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not_ready", "upstreams": {"up": "unreachable"}}
        assert (await client.get("/healthz")).status_code == 200  # a restart would not help


async def test_one_of_several_upstreams_is_enough(upstream: ScriptedUpstream) -> None:
    table = {
        "upstreams": {"a": {"base_url": UNREACHABLE}, "b": {"base_url": upstream.url}},
        "models": {"m": {"upstream": "a"}},
    }
    async with client_of(read_table(table, {})) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["upstreams"] == {"a": "unreachable", "b": "reachable"}


async def test_one_of_several_addresses_is_enough(upstream: ScriptedUpstream) -> None:
    settings = make_settings(UNREACHABLE, upstream={"base_url": [UNREACHABLE, upstream.url]})
    async with client_of(settings) as client:
        assert (await client.get("/readyz")).json()["upstreams"] == {"up": "reachable"}


@pytest.mark.parametrize("status", [502, 504])
async def test_a_proxy_that_says_that_nobody_is_there_is_no_upstream(
    status: int, upstream: ScriptedUpstream
) -> None:
    async def script(call: Call) -> None:
        await call.answer(b"<html>Bad Gateway</html>", status)

    upstream.script = script
    async with upstream.client() as client:
        assert (await client.get("/readyz")).status_code == 503


async def test_a_call_that_was_answered_lately_is_enough(upstream: ScriptedUpstream) -> None:
    clock = Clock()
    async with client_of(make_settings(upstream.url), clock=clock) as client:
        await client.post("/v1/responses", json=ASK)
        assert (await client.get("/readyz")).status_code == 200
        clock.now += CALL_COUNTS_S - 1
        assert (await client.get("/readyz")).status_code == 200
        assert probes(upstream) == []
        clock.now += 2
        assert (await client.get("/readyz")).status_code == 200
    assert len(probes(upstream)) == 1


async def test_a_call_that_failed_is_a_reason_to_look_again(upstream: ScriptedUpstream) -> None:
    """One broken answer alone does not make the service unready."""
    clock = Clock()

    async def script(call: Call) -> None:
        if call.method == "POST":
            call.drop()
        else:
            await call.answer({})

    upstream.script = script
    async with client_of(make_settings(upstream.url, retries=0), clock=clock) as client:
        assert (await client.post("/v1/responses", json=ASK)).status_code == 502
        assert (await client.get("/readyz")).status_code == 200
    assert len(probes(upstream)) == 1


async def test_an_upstream_that_comes_back_is_found_again(upstream: ScriptedUpstream) -> None:
    clock = Clock()
    status = 502

    async def script(call: Call) -> None:
        await call.answer({}, status)

    upstream.script = script
    async with client_of(make_settings(upstream.url), clock=clock) as client:
        for _ in range(3):  # what was found stands for a while
            assert (await client.get("/readyz")).status_code == 503
        assert len(probes(upstream)) == 1
        status = 404
        clock.now += PROBE_COUNTS_S
        assert (await client.get("/readyz")).status_code == 200
    assert len(probes(upstream)) == 2


async def test_who_asks_at_once_shares_one_probe(upstream: ScriptedUpstream) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.answer({})

    upstream.script = script
    async with upstream.client() as client:
        asking = [asyncio.create_task(client.get("/readyz")) for _ in range(5)]
        async with asyncio.timeout(BOUND_S):
            while not upstream.calls:
                await asyncio.sleep(0.01)
        go.set()
        answers = await bounded(asyncio.gather(*asking))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len(upstream.calls) == 1


async def test_a_probe_does_not_wait_for_long(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_module, "PROBE_TIMEOUT_S", 0.05)

    async def script(call: Call) -> None:
        await call.gone()

    upstream.script = script
    async with upstream.client() as client:
        answer = await bounded(client.get("/readyz"))
    assert answer.status_code == 503


async def test_a_service_that_ends_is_not_ready(upstream: ScriptedUpstream) -> None:
    drain = Drain()
    async with client_of(make_settings(upstream.url), drain=drain) as client:
        assert (await client.get("/readyz")).status_code == 200
        drain.begin()
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "draining", "upstreams": {}}


@pytest.mark.parametrize(
    ("happens", "state"),
    [
        (lambda health: None, "probed"),
        (lambda health: health.answered("up", 200), "reachable"),
        (lambda health: health.answered("up", 429), "reachable"),
        (lambda health: health.answered("up", 503), "reachable"),
        (lambda health: health.answered("up", 502), "probed"),
        (lambda health: health.failed("up"), "probed"),
        (lambda health: health.answered("other", 200), "probed"),
    ],
)
async def test_what_a_call_says_of_its_upstream(
    happens: Callable[[UpstreamHealth], None], state: str
) -> None:
    upstreams = make_settings("http://up.test").upstreams.values()
    probed: list[str] = []

    async def probe(upstream: Any) -> int:
        probed.append(upstream.name)
        return 200

    health = UpstreamHealth(Clock())
    happens(health)
    found = await health.readiness(upstreams, probe)
    assert found.upstreams == {"up": "reachable"}
    assert probed == (["up"] if state == "probed" else [])


async def test_a_system_clock_that_is_set_changes_no_duration(upstream: ScriptedUpstream) -> None:
    """By an hour, as after a machine was asleep: what was found does not stand for longer."""
    clock, timer = Clock(), Clock()
    settings = make_settings(upstream.url)
    async with client_of(settings, clock=clock, timer=timer) as client:
        await client.post("/v1/responses", json=ASK)
        clock.now -= 3600
        timer.now += CALL_COUNTS_S + 1
        assert (await client.get("/readyz")).status_code == 200
        assert len(probes(upstream)) == 1
        clock.now -= 3600
        timer.now += PROBE_COUNTS_S + 1
        assert (await client.get("/readyz")).status_code == 200
        assert len(probes(upstream)) == 2
        answer = await client.post("/v1/responses", json=ASK)
        assert events(answer.content)[0]["response"]["created_at"] == int(clock.now)


def test_durations_are_measured_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    upstreams = app.Upstreams

    def note(*rest: Any, **options: Any) -> Any:
        given.append(options["clock"])
        return upstreams(*rest, **options)

    monkeypatch.setattr(app, "Upstreams", note)
    settings = make_settings("http://up.test")
    clock, timer = Clock(), Clock()
    for options in ({}, {"clock": clock}, {"clock": clock, "timer": timer}):
        app.create_app(settings, **options)
    assert given == [time.monotonic, clock, timer]
