"""The metrics of the store, the line of a request in the log, and its span."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import closing
from typing import Any, get_args

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.service.responses_api import PATH
from tests.service.test_metrics import Page, scrape
from tests.service.wire import BOUND_S, ScriptedUpstream, client_of
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.meter import Operation
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.http import stores
from translator.service.observe.observer import Observer
from translator.service.observe.record import Record
from translator.service.store.meter import StoreResult
from translator.service.telemetry.otel import Spans
from translator.service.telemetry.store_metrics import OPERATIONS, RESULTS

from .conversing import new
from .running import Gate, begin
from .storing import Service, ask, refused, settings_of
from .test_durability import Away, Fault, fault, module

__all__ = ["fault"]

pytestmark = pytest.mark.anyio


def results(page: Page) -> dict[str, float]:
    return {one: page("store_responses_total", result=one) for one in RESULTS}


def test_the_labels_are_those_of_the_meter() -> None:
    assert get_args(StoreResult) == RESULTS
    assert get_args(Operation) == OPERATIONS


async def test_what_is_stored_is_counted(service: Service) -> None:
    async with service() as client:
        first = await ask(client)
        await ask(client, stream=True, previous_response_id=first["id"])
        await ask(client, store=False)
        page = await scrape(client)
        assert results(page) == dict.fromkeys(RESULTS, 0) | {"stored": 2}
        assert page("store_writes_total") == 2
        assert page("store_batch_size_count") == 2
        assert page("store_commit_seconds_count") == 2
        assert page("store_commit_seconds_sum") > 0
        assert page("store_lost_total") == 0
        before = page("store_read_seconds_count")
        await client.get(f"{PATH}/{first['id']}")
        page = await scrape(client)
        assert page("store_read_seconds_count") == before + 1
        assert page("store_queue_writes") == page("store_queue_bytes") == 0
        asked = {"model": "other", "dialect": "", "status": "200", "outcome": "completed"}
        assert page("requests_total", endpoint="stored", **asked) == 1


async def test_its_size_is_measured_and_what_is_swept_is_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWEEP_S", "PAUSE_S", "MEASURE_S"):
        monkeypatch.setattr(stores, name, 0.01)
    time = DatabaseTime()
    async with service(time) as client:
        await ask(client)
        while (page := await scrape(client))("store_bytes") < 8192:
            pass
        assert page("store_swept_rows_total") == 0
        time.offset_s = 31 * 86_400.0
        while (await scrape(client))("store_swept_rows_total") < 4:
            pass  # two items, a response, a thread


async def test_what_is_not_stored_is_counted(service: Service, fault: Fault) -> None:
    async with service(write_wait_s=0.1, max_kept_response_bytes=2000) as client:
        fault.fails = True
        await ask(client)
        await refused(client, store=True)
        fault.fails = False
        await ask(client, input="x" * 3000)
        await refused(client, input="x" * 3000, store=True)
        page = await scrape(client)
        assert results(page) == {
            "stored": 0,
            "late": 0,
            "failed": 2,
            "too_large": 2,
            "unavailable": 0,
        }
        assert page("store_lost_total") == 2
        assert page("store_errors_total", operation="write") == 2
        fault.waits.clear()
        await ask(client)
        page = await scrape(client)
        assert page("store_responses_total", result="late") == 1
        fault.waits.set()


async def test_a_store_that_is_away_is_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Database", Away)
    Away.away = True
    async with service(write_wait_s=0.1) as client:
        await ask(client)
        await ask(client)
        await refused(client, previous_response_id="resp_0")
        page = await scrape(client)
        assert results(page) | {"late": 0} == dict.fromkeys(RESULTS, 0) | {"unavailable": 1}
        assert page("store_errors_total", operation="read") >= 2  # its size, too
        assert page("store_errors_total", operation="write") >= 1
        assert page("store_queue_writes") == 1
        assert page("store_queue_bytes") > 0
        Away.away = False


async def test_without_a_store_there_are_none(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        await client.get(f"{PATH}/resp_0")
        text = (await client.get("/metrics")).text
    assert "translator_store" not in text
    assert 'endpoint="stored"' not in text
    assert 'endpoint="other"' in text


# --- the log, and spans -----------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """The facts of the requests, as programs get them."""
    found = [one.msg for one in caplog.records if hasattr(one.msg, "facts")]
    return [json.loads(json.dumps(one.facts())) for one in found]


async def test_the_log_says_what_was_not_stored_and_why(
    service: Service, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with service(write_wait_s=0.5, max_kept_response_bytes=60) as client:
        await ask(client)
    async with service(write_wait_s=0.5) as client:
        await ask(client)
        await ask(client, store=False)
        fault.fails = True
        await ask(client, stream=True)
        fault.fails = False
        fault.waits.clear()
        await ask(client)
        await refused(client, store=True)
        fault.waits.set()
    found = lines(caplog)
    assert [one.get("not_stored") for one in found] == [
        "over 60 bytes",
        None,
        None,
        "RuntimeError",
        "not yet stored",
        "not stored within 0.5 s",
    ]
    assert ["store_ms" in one for one in found] == [True, True, False, True, True, True]
    assert found[-2]["store_ms"] >= 500
    assert re.search(r"not_stored='not yet stored' outcome=completed", caplog.text)
    assert "rows cannot be written" not in caplog.text  # an error's text may quote a row


async def test_a_span_says_how_long_the_store_took(
    upstream: ScriptedUpstream, location: Location, fault: Fault
) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    make = Spans(provider)

    def observe(record: Record) -> Observer | None:
        return make(record)

    async with client_of(settings_of(upstream, location), observe=observe) as client:
        await ask(client)
        fault.fails = True
        await ask(client)
        await ask(client, store=False)
    stored, failed, unasked = [
        one.attributes or {} for one in spans.get_finished_spans() if one.name.startswith("POST")
    ]
    assert float(str(stored["translator.store.seconds"])) > 0
    assert "translator.store.problem" not in stored
    assert failed["translator.store.problem"] == "RuntimeError"
    assert not {one for one in unasked if one.startswith("translator.store")}


async def test_conversations_and_the_background_are_counted(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    upstream.script = Gate()
    async with service(lease_s=0.5) as client:
        made = await new(client)
        first = await begin(client, conversation=made)
        await refused(client, conversation=made)
        page = await scrape(client)
        assert page("store_conversations_locked_total") == 1
        assert page("store_background") == 1
        assert page("store_leases_lost_total") == 0
        with closing(connect(location, DatabaseTime())) as connection, writing(connection):
            taken = Statement("UPDATE resp_responses SET lease_token = 'x' WHERE id = :id")
            connection.change(taken, {"id": first["id"]})
        async with asyncio.timeout(BOUND_S):
            while (page := await scrape(client))("store_background") > 0:
                await asyncio.sleep(0.02)
        assert page("store_leases_lost_total") == 1
