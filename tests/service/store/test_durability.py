"""When a response is stored, and what its client is told where it is not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.processes import PROCESS_S
from tests.invariants import check_wire
from tests.service.responses_api import PATH, events
from tests.service.wire import BOUND_S, ScriptedUpstream, bounded, client_of
from translator.__main__ import main
from translator.service.config.settings import SettingsError
from translator.service.config.store import Location
from translator.service.database import writer
from translator.service.database.connection import Connection
from translator.service.http.app import create_app
from translator.service.store import responses as module
from translator.service.store.keep import Draft, keep

from .storing import Service, ask, bytes_of, counts, messages, refused, settings_of, think

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


class Fault:
    """Takes the place of `keep`: fails, or waits, as long as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self.waits = threading.Event()
        self.waits.set()
        self.reached = threading.Event()
        monkeypatch.setattr(module, "keep", self)

    def __call__(self, connection: Connection, draft: Draft, new_id: Any) -> None:
        keep(connection, draft, new_id)
        self.reached.set()
        if self.fails:
            raise RuntimeError("the rows cannot be written")
        assert self.waits.wait(BOUND_S)


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    return Fault(monkeypatch)


async def test_the_last_event_is_sent_when_the_response_is_stored(
    upstream: ScriptedUpstream, location: Location, fault: Fault
) -> None:
    """Every event before it is sent at once, and none of a response that can be read is missing."""
    fault.waits.clear()
    async with client_of(settings_of(upstream, location)) as client:
        answering = asyncio.ensure_future(ask(client, stream=True))
        await bounded(asyncio.to_thread(fault.reached.wait))
        assert counts(location) == [0, 0, 0, 0, 0]
        assert not answering.done()
        fault.waits.set()
        response = await bounded(answering)
        assert (await client.get(f"{PATH}/{response['id']}")).json() == response


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("fields", [{"store": True}, {"previous_response_id": ""}])
async def test_what_could_not_be_stored_is_not_said_to_be_complete(
    service: Service,
    upstream: ScriptedUpstream,
    location: Location,
    fault: Fault,
    fields: dict[str, Any],
    slow: bool,
) -> None:
    """Where the request needs the store; nothing of it is found afterwards."""
    upstream.script = think("hm", "Hello")
    if "previous_response_id" in fields:
        async with service() as client:
            fields = {"previous_response_id": (await ask(client))["id"]}
    before = bytes_of(location)
    fault.fails = not slow
    if slow:
        fault.waits.clear()
    async with service(write_wait_s=0.2) as client:
        body = {"model": "m", "input": "Hi", "stream": True} | fields
        final = check_wire(events((await client.post(PATH, json=body)).content), retracted=True)
        assert final["status"] == "failed"
        assert final["error"]["code"] == "server_error"
        assert "could not be stored" in final["error"]["message"]
        assert [one["type"] for one in final["output"]] == ["reasoning", "message"]
        status, error = await refused(client, **fields)
        assert (status, error["code"]) == (500, "server_error")
        fault.fails = False
        fault.waits.set()
    async with service() as client:
        last = await ask(client, store=True)
        assert (await client.get(f"{PATH}/{final['id']}")).status_code == 404
        await client.delete(f"{PATH}/{last['id']}")
    assert bytes_of(location) == before


async def test_a_request_that_did_not_ask_for_it_is_complete_all_the_same(
    service: Service, fault: Fault
) -> None:
    """It is stored late."""
    fault.waits.clear()
    async with service(write_wait_s=0.1) as client:
        response = await ask(client, stream=True)
        assert response["status"] == "completed"
        assert response["store"] is True
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 404
        fault.waits.set()
    async with service() as client:
        assert (await client.get(f"{PATH}/{response['id']}")).json() == response


async def test_a_bad_response_harms_no_other(service: Service, fault: Fault) -> None:
    async with service() as client:
        fault.fails = True
        response = await ask(client)
        assert response["status"] == "completed"
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 404
        fault.fails = False
        response = await ask(client)
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 200


async def test_a_client_that_leaves_at_the_end_changes_nothing(
    service: Service, location: Location, fault: Fault
) -> None:
    fault.waits.clear()
    async with service() as client:
        leaving = asyncio.ensure_future(ask(client, stream=True, store=True))
        await bounded(asyncio.to_thread(fault.reached.wait))
        leaving.cancel()
        fault.waits.set()
        await asyncio.wait([leaving])
    assert counts(location)[1] == 1


async def test_ai_sdk_reference_at_once(upstream: ScriptedUpstream, location: Location) -> None:
    settings = settings_of(upstream, location)
    async with client_of(settings) as one, client_of(settings) as other:
        history: list[Any] = []
        for turn in range(20):
            history.append({"role": "user", "content": f"question {turn}"})
            client = (one, other)[turn % 2]
            response = await ask(client, input=history, stream=True)
            history.append({"id": response["output"][0]["id"]})
        assert len(messages(upstream.calls[-1])) == 39


# --- a store that is away ----------------------------------------------------------------------


class Away(module.Database):
    """A database whose connections fail."""

    away = True

    def _checked(self, connection: Connection) -> Connection:
        if Away.away:
            connection.close()
            raise module.Unavailable("it is away")
        return super()._checked(connection)


async def test_a_store_that_is_away(
    service: Service, monkeypatch: pytest.MonkeyPatch, upstream: ScriptedUpstream
) -> None:
    """A 503 where it is needed; else the request is answered, and says what is not stored."""
    monkeypatch.setattr(module, "Database", Away)
    Away.away = True
    async with service(write_wait_s=0.1) as client:
        late = await ask(client)
        assert late["store"] is True  # nobody knew yet
        for fields in ({"previous_response_id": "resp_0"}, {"input": [{"id": "msg_0"}]}):
            answer = await client.post(PATH, json={"model": "m", "input": "Hi"} | fields)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
            assert answer.json()["error"]["code"] == "store_unavailable"
        assert len(upstream.calls) == 1
        for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/input_items")]:
            answer = await client.request(method, f"{PATH}/resp_0{path}")
            assert answer.status_code == 503
        answer = await client.post(PATH, json={"model": "m", "input": "Hi"})
        assert answer.json()["store"] is False
        assert answer.headers["x-translator-notices"] == "1; store_unavailable"
        assert (await ask(client, store=False))["store"] is False
        status, error = await refused(client, store=True)
        assert (status, error["code"]) == (500, "server_error")
        Away.away = False
        for _ in range(200):  # once it is back, what waited is written
            if (await client.get(f"{PATH}/{late['id']}")).status_code == 200:
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("it is not written")


async def test_without_clients_a_key_needs_the_store(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose a response is cannot be told without the salt; it is answered, and not stored."""
    monkeypatch.setattr(module, "Database", Away)
    Away.away = True
    async with service() as client:
        headers = {"authorization": "Bearer sk-1"}
        answer = await client.post(PATH, json={"model": "m", "input": "Hi"}, headers=headers)
        assert answer.json()["store"] is False
        status, error = await refused(client, store=True, headers=headers)
        assert (status, error["code"]) == (503, "store_unavailable")


async def test_a_response_that_is_too_large(service: Service, location: Location) -> None:
    large = "x" * 3000
    async with service(max_kept_response_bytes=2000) as client:
        answer = await client.post(PATH, json={"model": "m", "input": large})
        assert answer.json()["store"] is False
        assert answer.headers["x-translator-notices"] == "1; store_quota_exceeded"
        status, error = await refused(client, input=large, store=True)
        assert (status, error["code"]) == (400, "store_quota_exceeded")
    async with service(max_kept_response_bytes=60) as client:
        assert (await ask(client))["status"] == "completed"
        status, error = await refused(client, store=True)
        assert (status, error["code"]) == (400, "store_quota_exceeded")
    assert counts(location) == [0, 0, 0, 0, 0]


# --- starts ----------------------------------------------------------------------------------


def test_tables_of_a_server_are_not_made_by_a_start(
    upstream_url: str, empty: Location, location: Location
) -> None:
    upstream = ScriptedUpstream()
    upstream.url = upstream_url
    create_app(settings_of(upstream, location))
    if empty.kind == "sqlite":
        create_app(settings_of(upstream, empty))
        assert Path(empty.target).exists()
    else:
        with pytest.raises(SettingsError, match="translator store migrate --config FILE"):
            create_app(settings_of(upstream, empty))


@pytest.fixture
def upstream_url() -> str:
    return "http://127.0.0.1:9/v1"


def test_a_damaged_file_is_a_sentence_at_the_start(upstream_url: str, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.write_bytes(b"no database" * 1000)
    upstream = ScriptedUpstream()
    upstream.url = upstream_url
    with pytest.raises(SettingsError, match="move it away, or restore it"):
        create_app(settings_of(upstream, Location("sqlite", str(file))))


async def test_a_server_that_is_away_at_the_start_is_used_later(
    upstream: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "CLOSING_S", 0.1)  # it does not come back
    away = Location("postgresql", "postgresql://me:hunter2@127.0.0.1:9/name")
    async with client_of(settings_of(upstream, away, write_wait_s=0.1)) as client:
        assert "cannot be reached" in caplog.text
        assert "hunter2" not in caplog.text
        assert (await ask(client))["status"] == "completed"


SERVE = """
import sys
from translator.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


async def test_what_was_told_to_be_stored_outlives_a_kill(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Streams are cut by SIGKILL at any moment: whole, or absent; nothing that was told is lost."""
    location = Location("sqlite", str(tmp_path / "store.db"))
    url = f"sqlite:///{location.target}"
    config = tmp_path / "settings.toml"
    config.write_text(
        f'[upstreams.up]\nbase_url = "{upstream.url}"\n[store]\nurl = "{url}"\n[server]\nport = 0\n'
    )
    told: list[Any] = []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, "serve", "--config", str(config)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PROCESS_S)).decode()
        base = line.partition(" and ")[0].removeprefix("translator listens on ").removesuffix("/v1")

        async def go_on() -> None:
            async with httpx.AsyncClient(base_url=base, timeout=BOUND_S, trust_env=False) as client:
                parent: dict[str, Any] = {}
                while True:
                    response = await ask(client, stream=True, store=True, **parent)
                    told.append(response)
                    parent = {"previous_response_id": response["id"]}

        tasks = [asyncio.create_task(go_on()) for _ in range(4)]
        async with asyncio.timeout(PROCESS_S):
            while len(told) < 12:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await asyncio.wait(tasks)
        assert all(isinstance(task.exception(), httpx.HTTPError | AssertionError) for task in tasks)
    finally:
        if process.returncode is None:
            process.kill()
    async with client_of(settings_of(upstream, location)) as client:
        for response in told:
            assert (await client.get(f"{PATH}/{response['id']}")).json() == response
            page = await client.get(f"{PATH}/{response['id']}/input_items?limit=100&order=asc")
            assert len(page.json()["data"]) % 2 == 1
    assert await asyncio.to_thread(main, ["store", "check", "--config", str(config)]) == 0
