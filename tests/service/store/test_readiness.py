"""`GET /readyz` with a store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service.wire import ScriptedUpstream
from translator.service.http import store_health

from .storing import Service, ask
from .test_durability import Away, Fault, fault, module

__all__ = ["fault"]

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def probed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_health, "PROBE_COUNTS_S", 0.0)


async def ready(client: httpx.AsyncClient) -> tuple[int, Any]:
    answer = await client.get("/readyz")
    return answer.status_code, answer.json()


@pytest.mark.parametrize("required", [False, True])
async def test_it_names_the_store(
    service: Service, monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    """And is not ready without it where it is required."""
    monkeypatch.setattr(module, "Database", Away)
    Away.away = False
    async with service(required=required) as client:
        everything = {"status": "ready", "upstreams": {"up": "reachable"}, "store": "reachable"}
        assert await ready(client) == (200, everything)
        Away.away = True
    async with service(required=required) as client:
        status, body = await ready(client)
        assert body["store"] == "unreachable"
        assert (status, body["status"]) == ((503, "not_ready") if required else (200, "ready"))
        Away.away = False
        assert (await ready(client)) == (200, everything)


async def test_a_store_that_takes_nothing_is_failing(
    service: Service, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    async with service(required=True, write_wait_s=0.1) as client:
        await ask(client)

        def full(*_: object) -> None:
            raise module.Unavailable("the disk is full")

        monkeypatch.setattr(module, "keep", full)
        assert (await ask(client))["status"] == "completed"
        status, body = await ready(client)
        assert (status, body["store"]) == (503, "failing")
        monkeypatch.setattr(module, "keep", fault)
        await ask(client, store=True)
        status, body = await ready(client)
        assert (status, body["store"]) == (200, "reachable")


async def test_a_result_is_kept_for_a_while(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_health, "PROBE_COUNTS_S", 60.0)
    monkeypatch.setattr(module, "Database", Away)
    Away.away = False
    async with service() as client:
        assert (await ready(client))[1]["store"] == "reachable"
        Away.away = True
        assert (await ready(client))[1]["store"] == "reachable"
        Away.away = False


async def test_without_a_store_it_is_not_named(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        assert await ready(client) == (200, {"status": "ready", "upstreams": {"up": "reachable"}})
