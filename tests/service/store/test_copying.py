"""`translator store copy`: what is stored goes on in another database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream, client_of
from translator.__main__ import main
from translator.service.config.store import Location
from translator.service.store import copying
from translator.service.store.upkeep import problems

from .conversing import items_of, new, rows, said
from .storing import ANNA, BOB, ask, messages, refused, settings_of, think
from .test_command import written

pytestmark = pytest.mark.anyio


@pytest.fixture
def source(tmp_path: Path, migrated_file: Path) -> Location:
    """A SQLite file with the tables of the store."""
    file = tmp_path / "before.db"
    shutil.copy(migrated_file, file)
    return Location("sqlite", str(file))


def settings_file(folder: Path, location: Location) -> str:
    folder.mkdir()
    return written(folder, location)


async def test_clients_go_on_in_another_database(
    upstream: ScriptedUpstream, source: Location, location: Location, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With the same ids, for the same owners, with reasoning, and with quotas that are right."""
    monkeypatch.setattr(copying, "BATCH_ROWS", 3)
    upstream.script = think("hm", "Hello")
    keys = [{"authorization": f"Bearer {key}"} for key in (ANNA, BOB)]
    async with client_of(settings_of(upstream, source)) as client:  # owners by their keys
        first = await ask(client, input="one", headers=keys[0])
        second = await ask(client, input="two\0", previous_response_id=first["id"], headers=keys[0])
        conversation = await new(client, said("there"))
        deleted = await ask(client, input="gone")
        await client.delete(f"{PATH}/{deleted['id']}")
    words = ["store", "copy", settings_file(tmp_path / "from", source)]
    words.append(settings_file(tmp_path / "to", location))
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "responses and 1 conversations are copied from" in printed
    assert list(problems(location)) == []
    async with client_of(settings_of(upstream, location)) as client:
        path = f"{PATH}/{second['id']}"
        assert (await client.get(path, headers=keys[0])).json() == second
        assert (await client.get(path, headers=keys[1])).status_code == 404
        third = await ask(client, input="three", previous_response_id=second["id"], headers=keys[0])
        sent = messages(upstream.calls[-1])
        assert [one["content"] for one in sent] == [
            *("one", "Hello", "two\0", "Hello", "three"),
        ]
        assert [one.get("reasoning_content") for one in sent][1::2] == ["hm", "hm"]
        assert len(await items_of(client, conversation)) == 1
        assert (await refused(client, previous_response_id=deleted["id"]))[0] == 400
        path = f"{PATH}/{third['id']}"
        assert (await client.get(path, headers=keys[0])).json() == third
    assert list(problems(location)) == []


async def test_nothing_is_copied_into_what_is_not_empty(
    upstream: ScriptedUpstream, source: Location, location: Location, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for one in (source, location):
        async with client_of(settings_of(upstream, one)) as client:
            await ask(client)
    before = rows(location, "SELECT id FROM resp_responses")
    words = ["store", "copy", settings_file(tmp_path / "from", source)]
    assert main([*words, settings_file(tmp_path / "to", location)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert rows(location, "SELECT id FROM resp_responses") == before
    assert main([*words, words[-1]]) == 2
    assert "name the same database" in capsys.readouterr().err


async def test_the_target_needs_the_tables(
    source: Location, empty: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["store", "copy", settings_file(tmp_path / "from", source)]
    assert main([*words, settings_file(tmp_path / "to", empty)]) == 2
    assert "translator store migrate --config" in capsys.readouterr().err
