"""Processes that are killed, stopped, or cut off from the database: nothing is billed twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.chat_bodies import chunk
from tests.service.responses_api import events
from tests.service.store import postgres
from tests.service.test_held import garbage_of
from tests.service.wire import BOUND_S, Call, bounded, client_of, serving
from translator.service.accounts import directory, known_keys
from translator.service.accounts.reconcile import differences, losses
from translator.service.database.connection import reading

from .paying import COST, ON_SQLITE, PRICES, USAGE, Books, answering, ask, chat, settled

pytestmark = pytest.mark.anyio


class Slow:
    """A script that sends some text, and goes on when it is told to."""

    def __init__(self, text: str = "x" * 400) -> None:
        self.text = text
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.head()
        if self.text:
            await call.send(chunk({"content": self.text}))
        self.begun.set()
        await self.go_on.wait()
        await call.send(chunk({"content": "."}, "stop"), chunk(usage=USAGE, choices=[]))
        await call.send(b"data: [DONE]\n\n")
        await call.end()


async def swept(books: Books) -> list[Any]:
    """The usages, once nothing is held: somebody has ended what a dead process held."""
    async with asyncio.timeout(BOUND_S):
        while books.rows("SELECT id FROM acct_holds"):
            await asyncio.sleep(0.02)
    with reading(books.connection):
        assert list(differences(books.connection)) == []
    assert {(one.open, one.held) for one in books.all_keys()} == {(0, 0)}
    return books.usages("outcome, estimated, input, output, amount")


def settings_file(books: Books, folder: Path) -> Path:
    url = books.location.target
    url = f"sqlite:///{url}" if books.location.kind == "sqlite" else url
    file = folder / "settings.toml"
    file.write_text(
        f'[upstreams.up]\nbase_url = "{books.upstream.url}"\n[models.m]\nupstream = "up"\n'
        f'[accounts]\nurl = "{url}"\ncheckpoint_s = 0.2\nlease_s = 1.0\n',
        "utf-8",
    )
    return file


async def test_killed(books: Books, key: str, tmp_path: Path) -> None:
    """A real process gets SIGKILL in the middle of two answers; another ends their holds.

    Of the first one text has come, of the second one nothing.
    """
    scripts = [Slow("x" * 400), Slow("")]
    words = ["serve", "--port", "0", "--config", str(settings_file(books, tmp_path))]
    process = subprocess.Popen(  # noqa: ASYNC220 - it is waited for in a thread
        [sys.executable, "-m", "translator", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = await bounded(asyncio.to_thread(process.stdout.readline))
        url = line.split("http://")[1].split("/")[0]
        async with httpx.AsyncClient(base_url=f"http://{url}", timeout=BOUND_S) as client:
            asking: list[asyncio.Task[httpx.Response]] = []
            for script in scripts:  # so that the holds are in their order
                books.upstream.script = script
                asking.append(asyncio.create_task(ask(client, key, stream=True)))
                await bounded(script.begun.wait())
            query = "SELECT seen_output IS NULL FROM acct_holds ORDER BY id"
            async with asyncio.timeout(BOUND_S):
                while [bool(unseen) for (unseen,) in books.rows(query)] != [False, True]:
                    await asyncio.sleep(0.02)
            process.kill()
            for task in asking:
                with pytest.raises(httpx.HTTPError):
                    await task
    finally:
        process.kill()
        process.communicate()
    assert len(books.rows("SELECT id FROM acct_holds")) == 2
    async with books.service():
        written, silent = await swept(books)
    input_ = written[2]
    assert written[:2] == silent[:2] == ("orphan", "orphan")
    assert written[3:] == (100, input_ * PRICES.input + 100 * PRICES.output)
    assert silent[3:] == (0, 0)
    with reading(books.connection):
        [line] = losses(books.connection)
    assert "cost nothing" in line


def _failing(*_: Any, **__: Any) -> None:
    raise ValueError("a fault")


async def test_a_request_that_was_taken_for_dead_is_corrected(books: Books, key: str) -> None:
    """Its answer ends well, and its usage stays as it is."""
    script = Slow()
    books.upstream.script = script
    hung = books.settings(checkpoint_s=1000, lease_s=2000)
    async with serving(hung) as url, httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
        asking = asyncio.create_task(ask(client, key, stream=True))
        await bounded(script.begun.wait())
        books.change("UPDATE acct_holds SET seen_input = 10, seen_output = 100")
        books.change("UPDATE acct_boots SET seen_at = 0")
        async with books.service():
            [(_, estimated, *_, amount)] = await swept(books)
        assert (estimated, amount) == ("orphan", 10 * PRICES.input + 100 * PRICES.output)
        script.go_on.set()
        assert events((await asking).content)[-1]["type"] == "response.completed"
        async with asyncio.timeout(BOUND_S):
            while books.balance() != 10**12 - COST:
                await asyncio.sleep(0.02)
        assert len(await swept(books)) == 1
    entries = books.rows(
        "SELECT kind, amount, key_id, model FROM acct_ledger WHERE kind <> 'topup' ORDER BY id"
    )
    assert entries == [("usage", -amount, 1, "m"), ("correction", amount - COST, 1, "m")]


async def test_database_away(books: Books, key: str, request: pytest.FixtureRequest) -> None:
    """Open answers end well and are settled later; new requests are refused until then."""
    if books.location.kind == "sqlite":
        pytest.skip("a file does not go away")
    server: postgres.Server = request.getfixturevalue("postgres_server")
    script = Slow()
    books.upstream.script = script
    settings = books.settings(database_timeout_s=1, lease_s=60)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
        books.upstream.script = answering(USAGE)
        await ask(client, key)  # connects
        await settled(books, 1)
        books.upstream.script = script
        asking = asyncio.create_task(ask(client, key, stream=True))
        await bounded(script.begun.wait())
        server.signal(signal.SIGSTOP)
        try:
            refused = await ask(client, key)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "server_is_overloaded"
            assert refused.headers["retry-after"] == "1"
            script.go_on.set()
            answer = await asking
            assert events(answer.content)[-1]["type"] == "response.completed"
            async with asyncio.timeout(BOUND_S):
                while (await client.get("/readyz")).json()["accounts"] != "failing":
                    await asyncio.sleep(0.05)
        finally:
            server.signal(signal.SIGCONT)
        await settled(books, 2)
        assert [row[-1] for row in await swept(books)] == [COST] * 2
    assert len(books.upstream.calls) == 2


@pytest.mark.parametrize("when", ["refuse", "serve"])
async def test_teams_may_be_served_without_the_database(
    books: Books, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    books.account()
    key, other = books.key(), books.key(name="b")
    more = {"billing": False, "when_database_fails": when, "database_timeout_s": 0.3}
    async with books.service(**more) as client:
        assert (await ask(client, key)).status_code == 200
        await settled(books, 1)
        monkeypatch.setattr(directory, "hold", _failing)
        assert (await ask(client, key)).status_code == (200 if when == "serve" else 503)
        monkeypatch.setattr(known_keys, "read_key", _failing)
        assert (await ask(client, other)).status_code == 503  # nobody knows this key
    assert len(books.usages()) == 1


async def test_a_client_that_leaves_before_its_hold_leaves_none(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, slow = directory.hold, asyncio.Event()
    loop = asyncio.get_running_loop()
    release = asyncio.Event()

    def waits(*args: Any, **more: Any) -> Any:
        loop.call_soon_threadsafe(slow.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(BOUND_S)
        return real(*args, **more)

    monkeypatch.setattr(directory, "hold", waits)
    async with client_of(books.settings(lease_s=60)) as client:
        asking = asyncio.create_task(ask(client, key))
        await bounded(slow.wait())
        asking.cancel()
        await asyncio.wait([asking])
        release.set()
        await swept(books)
    assert not books.upstream.calls
    assert books.balance() == 10**12


@ON_SQLITE
async def test_a_turn_with_a_hold_leaves_no_cycles(books: Books, key: str) -> None:
    books.upstream.script = answering(USAGE)

    async def once(url: str) -> None:
        async with httpx.AsyncClient(timeout=BOUND_S, base_url=url) as client:
            for stream in (True, False):
                for send in (ask, chat):
                    assert (await send(client, key, stream=stream)).status_code == 200

    async with serving(books.settings(checkpoint_s=30, lease_s=60)) as url:
        found = await garbage_of(lambda: once(url))
    assert [name for name in found if name.startswith("translator.")] == []  # httpx makes its own
