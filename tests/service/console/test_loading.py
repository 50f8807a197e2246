"""What the pages load, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.accounts.paying import ON_SQLITE
from tests.service.accounts.test_command import written
from translator.service.config.loading import read_file
from translator.service.config.settings import SettingsError
from translator.service.config.store import Location
from translator.service.http import account_layer
from translator.service.http.app import create_app

PROGRAM = """
import asyncio, json, sys
from translator.service.config.loading import read_file
from translator.service.http.app import create_app
import httpx

NAMES = ("argon2", "jinja2", "translator.service.console")

def loaded():
    return [name for name in NAMES if name in sys.modules]

async def main():
    app = create_app(read_file(sys.argv[1], {}))
    found = [loaded()]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.get("/healthz")
        found.append(loaded())
        assert (await client.get("/account/")).status_code == 200
        found.append(loaded())
    print(json.dumps(found))

asyncio.run(main())
"""


@ON_SQLITE
def test_nothing_of_them_is_loaded_before_one_is_asked_for(
    location: Location, tmp_path: Path
) -> None:
    """Nor Argon2 before somebody signs in: a process without visitors has nothing of it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, written(tmp_path, location)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == [[], [], ["jinja2", "translator.service.console"]]


@ON_SQLITE
def test_a_missing_package_is_named_at_the_start(
    location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it, and how to go without."""
    found = account_layer.find_spec
    monkeypatch.setattr(
        account_layer, "find_spec", lambda name: None if name == "jinja2" else found(name)
    )
    file = written(tmp_path, location)
    with pytest.raises(SettingsError) as caught:
        create_app(read_file(file, {}))
    [problem] = caught.value.problems
    assert problem.startswith("accounts.dashboard: jinja2 is missing; ")
    assert "service,accounts" in problem
    with Path(file).open("a", encoding="utf-8") as text:
        text.write("dashboard = false\n")
    create_app(read_file(file, {}))
