"""Responses in the background: queued, produced without their client, polled and cancelled."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.invariants import check_response_types
from tests.service.chat_bodies import COMPLETION, HELLO, chunk, frame
from tests.service.responses_api import PATH
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, say_hello
from translator.service.config.store import Location
from translator.service.database.connection import connect
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import background, responses
from translator.service.turns.turn import Turn

from .running import Gate, begin, cancel, ended
from .storing import ANNA, BOB, Service, ask, counts, messages, refused, settings_of, think

pytestmark = pytest.mark.anyio


async def test_background_poll(service: Service, upstream: ScriptedUpstream) -> None:
    """It is there before its client is answered, and complete some time later."""
    gate = upstream.script = Gate()
    async with service() as client:
        response = await begin(client, metadata={"a": "b"}, instructions="Be brief.")
        check_response_types(response)
        await bounded(gate.reached.wait())
        async with service() as other:  # another process
            found = (await other.get(f"{PATH}/{response['id']}")).json()
        assert found == response | {"status": "in_progress"}
        gate.open.set()
        final = await ended(client, response["id"])
        check_response_types(final)
        same = {"status", "output", "completed_at"}
        assert {key for key in final if final[key] != response[key]} == same
        assert final["status"] == "completed"
        assert final["output"][0]["content"][0]["text"] == "Hello world"
        page = await client.get(f"{PATH}/{response['id']}/input_items")
        assert [one["content"][0]["text"] for one in page.json()["data"]] == ["Hi"]
    async with service() as client:
        assert (await client.get(f"{PATH}/{response['id']}")).json() == final


async def test_it_goes_on_like_any_other(service: Service, upstream: ScriptedUpstream) -> None:
    """With its reasoning, and as a parent in the background, too."""
    upstream.script = think("hm", "Hello")
    async with service() as client:
        first = await begin(client, input="one")
        await ended(client, first["id"])
        second = await begin(client, input="two", previous_response_id=first["id"])
        assert (await ended(client, second["id"]))["previous_response_id"] == first["id"]
        await ask(client, input="three", previous_response_id=second["id"])
        sent = messages(upstream.calls[-1])
        assert [one["content"] for one in sent] == ["one", "Hello", "two", "Hello", "three"]
        assert sent[1]["reasoning_content"] == "hm"


async def test_parent_queued(service: Service, upstream: ScriptedUpstream) -> None:
    upstream.script = Gate()
    async with service() as client:
        response = await begin(client)
        status, error = await refused(client, previous_response_id=response["id"])
        assert (status, error["code"]) == (400, "previous_response_not_found")
        assert error["param"] == "previous_response_id"
        assert "is still in progress" in error["message"]


async def test_background_store_false(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """It can be polled for some minutes, and nothing goes on from it; its input is not stored."""
    async with service() as client:
        response = await begin(client, store=False, input="a secret")
        assert response["store"] is False
        final = await ended(client, response["id"])
        assert final["output"][0]["content"][0]["text"] == "Hello world"
        status, error = await refused(client, previous_response_id=response["id"])
        assert (status, error["code"]) == (400, "previous_response_not_found")
        status, _ = await refused(client, input=[{"id": final["output"][0]["id"]}])
        assert status == 404
        assert counts(location)[3] == 0
    async with service(DatabaseTime(590)) as client:
        assert (await client.get(f"{PATH}/{response['id']}")).json() == final
    async with service(DatabaseTime(610)) as client:
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 404


async def test_background_limit(service: Service, upstream: ScriptedUpstream) -> None:
    gate = upstream.script = Gate()
    async with service(max_background=2) as client, service(max_background=2) as other:
        running = [await begin(client) for _ in range(2)]
        for one in (client, other):  # the client may have no more in another process, either
            answer = await one.post(PATH, json={"model": "m", "input": "Hi", "background": True})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        gate.open.set()
        for response in running:
            await ended(client, response["id"])
        await ended(client, (await begin(client))["id"])


async def test_a_run_has_a_slot_of_its_own(service: Service, upstream: ScriptedUpstream) -> None:
    gate = upstream.script = Gate()
    async with service(server={"max_concurrent_requests": 1}) as client:
        response = await begin(client)
        assert (await refused(client))[0] == 503
        gate.open.set()
        await ended(client, response["id"])
        async with asyncio.timeout(5):  # the slot is left when the connection has been
            while (await client.post(PATH, json={"model": "m", "input": "Hi"})).status_code != 200:
                await asyncio.sleep(0.01)


async def test_a_run_is_one_line_in_the_log(
    service: Service, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """At its end, with what it cost."""

    async def counts_tokens(call: Call) -> None:
        await call.head()
        usage = frame({"choices": [], "usage": COMPLETION["usage"]})
        await call.send(*HELLO[:-1], usage, HELLO[-1])
        await call.end()

    upstream.script = counts_tokens
    caplog.set_level(logging.INFO)
    async with service() as client:
        await ended(client, (await begin(client))["id"])
    lines = [line for line in caplog.messages if line.startswith("POST")]
    assert len(lines) == 1
    assert "tokens=3+2" in lines[0]
    assert "outcome=completed" in lines[0]


async def test_a_request_that_fails(service: Service, upstream: ScriptedUpstream) -> None:
    """It is answered before that is known; what becomes of it stands in the response."""

    async def fails(call: Call) -> None:
        await call.answer({"error": {"message": "No such model."}}, status=404)

    upstream.script = fails
    async with service() as client:
        final = await ended(client, (await begin(client))["id"])
        assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
        assert "No such model" in final["error"]["message"]
        status, error = await refused(client, previous_response_id=final["id"])
        assert (status, error["code"]) == (400, "previous_response_not_found")
        assert (await refused(client, background=True, temperature=3))[0] == 400


async def test_it_counts_against_the_limits_of_its_client(
    service: Service, upstream: ScriptedUpstream
) -> None:
    """With what it has cost, at its end."""
    usage = {"prompt_tokens": 800, "completion_tokens": 100, "total_tokens": 900}

    async def costs(call: Call) -> None:
        await call.answer(COMPLETION | {"usage": usage})

    upstream.script = costs
    anna = {"authorization": f"Bearer {ANNA}"}
    async with service(clients=True, limits={"tokens_per_minute": 1000}) as client:
        response = await begin(client, headers=anna)
        await ended(client, response["id"], headers=anna)
        async with asyncio.timeout(BOUND_S):
            while True:
                answer = await client.get(f"{PATH}/{response['id']}", headers=anna)
                if int(answer.headers["x-ratelimit-remaining-tokens"]) < 500:
                    break


async def test_nothing_is_left_of_a_run(service: Service) -> None:
    """Not even a circle of objects."""
    async with service() as client:
        await ended(client, (await begin(client))["id"])
        gc.collect()
        gc.disable()
        try:
            await ended(client, (await begin(client))["id"])
            await asyncio.sleep(0.1)
            left = [one for one in gc.get_objects() if type(one) in (background.Run, Turn)]
        finally:
            gc.enable()
        assert left == []


# --- cancelling ----------------------------------------------------------------------------------


async def test_cancel_running_here(service: Service, upstream: ScriptedUpstream) -> None:
    """The upstream is closed, and what comes later changes nothing."""
    gate = upstream.script = Gate()
    async with service() as client:
        response = await begin(client)
        await bounded(gate.reached.wait())
        cancelled = await cancel(client, response["id"])
        check_response_types(cancelled)
        assert cancelled == response | {"status": "cancelled"}
        await bounded(gate.gone.wait())
        assert (await client.get(f"{PATH}/{response['id']}")).json() == cancelled
        upstream.script = say_hello
        await ask(client, previous_response_id=response["id"])
        assert [one["content"] for one in messages(upstream.calls[-1])] == ["Hi", "Hi"]


async def test_the_upstream_is_asked_for_a_stream(
    service: Service, upstream: ScriptedUpstream
) -> None:
    """So it may take longer than `read_timeout_s`, and what is cut has its whole items."""
    stuck = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.head()
        await call.send(chunk({"reasoning_content": "hm"}))
        for _ in range(4):
            await asyncio.sleep(0.2)
            await call.send(chunk({"content": "word "}))
        stuck.set()
        await call.gone()

    upstream.script = slow
    async with service(server={"read_timeout_s": 0.5}) as client:
        response = await begin(client)
        await bounded(stuck.wait())
        cancelled = await cancel(client, response["id"])
        assert [one["type"] for one in cancelled["output"]] == ["reasoning"]
        assert cancelled["status"] == "cancelled"
        answer = await client.get(f"{PATH}/{response['id']}?stream=true")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")
    assert json.loads(upstream.calls[0].body)["stream"] is True


async def test_cancel_twice(service: Service, upstream: ScriptedUpstream) -> None:
    upstream.script = Gate()
    async with service() as client:
        response = await begin(client)
        both = await asyncio.gather(*(cancel(client, response["id"]) for _ in range(2)))
        assert both == [response | {"status": "cancelled"}] * 2


async def test_cancel_completed(service: Service) -> None:
    async with service() as client:
        final = await ended(client, (await begin(client))["id"])
        assert await cancel(client, final["id"]) == final


async def test_cancel_foreground(service: Service) -> None:
    async with service() as client:
        response = await ask(client)
        answer = await client.post(f"{PATH}/{response['id']}/cancel")
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "Cannot cancel a synchronous response."
        assert (await client.post(f"{PATH}/resp_0/cancel")).status_code == 404


async def test_cancel_other_node(service: Service, upstream: ScriptedUpstream) -> None:
    gate = upstream.script = Gate()
    async with service() as client, service() as other:
        response = await begin(client)
        await bounded(gate.reached.wait())
        assert await cancel(other, response["id"]) == response | {"status": "cancelled"}
        await bounded(gate.gone.wait())
        assert (await client.get(f"{PATH}/{response['id']}")).json()["status"] == "cancelled"


async def test_cancelling_does_not_wait_for_a_process_that_does_nothing(
    service: Service, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one ends the response, and what its own process writes then changes nothing."""
    gate = upstream.script = Gate()
    monkeypatch.setattr(background, "CANCEL_S", 0.2)
    monkeypatch.setattr(background, "WATCH_S", 3600.0)
    async with service() as client, service() as other:
        response = await begin(client)
        await bounded(gate.reached.wait())
        cancelled = await cancel(other, response["id"])
        assert cancelled == response | {"status": "cancelled"}
        gate.open.set()
        await asyncio.sleep(0.2)
        assert (await client.get(f"{PATH}/{response['id']}")).json() == cancelled


async def test_cancel_races_completion(service: Service, upstream: ScriptedUpstream) -> None:
    """Exactly one of both, which everyone sees."""
    async with service() as client, service() as other:
        for turn in range(12):
            gate = upstream.script = Gate()
            response = await begin(client)
            await bounded(gate.reached.wait())
            gate.open.set()
            for _ in range(turn):
                await asyncio.sleep(0.001)
            answer = await cancel((client, other)[turn % 2], response["id"])
            assert answer["status"] in ("cancelled", "completed")
            for one in (client, other):
                assert (await one.get(f"{PATH}/{response['id']}")).json() == answer


async def test_deleting_cancels_first(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    before = counts(location)
    gate = upstream.script = Gate()
    async with service() as client:
        response = await begin(client)
        await bounded(gate.reached.wait())
        assert (await client.delete(f"{PATH}/{response['id']}")).status_code == 200
        await bounded(gate.gone.wait())
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 404
    assert counts(location) == before


async def test_another_client_finds_nothing(service: Service, upstream: ScriptedUpstream) -> None:
    upstream.script = Gate()
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(clients=True) as client:
        response = await begin(client, headers=anna)
        for method, path in [
            ("GET", ""),
            ("GET", "?stream=true"),
            ("DELETE", ""),
            ("POST", "/cancel"),
        ]:
            answers = [
                await client.request(method, f"{PATH}/{one}{path}", headers=bob)
                for one in (response["id"], "resp_0")
            ]
            assert [one.status_code for one in answers] == [404, 404]
            assert answers[0].text.replace(response["id"], "resp_0") == answers[1].text
        found = await client.get(f"{PATH}/{response['id']}", headers=anna)
        assert found.json()["status"] in ("queued", "in_progress")


# --- leases --------------------------------------------------------------------------------------


class Stands(background.BackgroundRuns):
    """The runs of a process that stands still: it writes nothing, and renews nothing."""

    async def serve(self) -> None:
        await asyncio.Event().wait()


async def test_a_response_whose_process_is_gone_has_failed(
    service: Service,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As soon as its lease is over, for everyone who reads it, though nobody else looks for it."""
    caplog.set_level(logging.INFO)
    gate = upstream.script = Gate()
    monkeypatch.setattr(responses, "BackgroundRuns", Stands)
    async with service() as client:
        response = await begin(client)
        await bounded(gate.reached.wait())
        async with service(DatabaseTime(29)) as other:
            running = (await other.get(f"{PATH}/{response['id']}")).json()
            assert running["status"] == "in_progress"
        async with service(DatabaseTime(31)) as other:
            failed = (await other.get(f"{PATH}/{response['id']}")).json()
            assert failed["status"] == "failed"
            assert failed["error"]["code"] == "server_error"
            check_response_types(failed)
        gate.open.set()  # what its process brings now changes nothing
        await until(lambda: "another process has ended it" in caplog.text)
        assert (await client.get(f"{PATH}/{response['id']}")).json() == failed


async def test_the_reaper_ends_what_nobody_reads(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    gate = upstream.script = Gate()
    async with service(lease_s=1.0) as client:
        await begin(client)
        await begin(client, store=False)
        await bounded(gate.reached.wait())
        async with service(DatabaseTime(3600), lease_s=1.0):
            await until(lambda: statuses(location) == ["failed", "failed"])
        await bounded(gate.gone.wait())  # its process has noticed


async def test_a_lease_is_renewed(service: Service, upstream: ScriptedUpstream) -> None:
    gate = upstream.script = Gate()
    async with service(lease_s=0.5) as client, service(lease_s=0.5) as other:
        response = await begin(client)
        for _ in range(12):
            await asyncio.sleep(0.1)
            assert (await other.get(f"{PATH}/{response['id']}")).json()["status"] != "failed"
        gate.open.set()
        assert (await ended(other, response["id"]))["status"] == "completed"


async def test_clock_skew(upstream: ScriptedUpstream, location: Location) -> None:
    """Only the time of the database decides."""
    gate = upstream.script = Gate()
    settings = settings_of(upstream, location)
    async with (
        client_of(settings, clock=lambda: time.time() - 600) as slow,
        client_of(settings, clock=lambda: time.time() + 600) as fast,
    ):
        one, other = await begin(slow), await begin(fast)
        await asyncio.sleep(0.2)
        for response, client in ((one, fast), (other, slow)):
            found = (await client.get(f"{PATH}/{response['id']}")).json()
            assert found["status"] == "in_progress"
        gate.open.set()
        for response, client in ((one, fast), (other, slow)):
            assert (await ended(client, response["id"]))["status"] == "completed"


async def test_shutting_down_ends_what_is_produced(
    service: Service, upstream: ScriptedUpstream
) -> None:
    gate = upstream.script = Gate()
    async with service() as client:
        response = await begin(client)
        await bounded(gate.reached.wait())
    async with service() as client:
        final = (await client.get(f"{PATH}/{response['id']}")).json()
        assert (final["status"], final["error"]["message"]) == (
            "failed",
            "The service is restarting.",
        )


def statuses(location: Location) -> list[str]:
    with closing(connect(location, DatabaseTime())) as connection:
        return [
            one for (one,) in connection.execute(Statement("SELECT status FROM resp_responses"))
        ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.02)
