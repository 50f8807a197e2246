"""`[store]`: the URL of its database, and mistakes in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from translator.service.config.loading import read_file, read_table
from translator.service.config.secrets import settings_secrets
from translator.service.config.settings import SettingsError
from translator.service.config.store import Location, Store

SECRET = "hunter2/hunter2"
QUOTED = "hunter2%2Fhunter2"
URL = f"postgresql://me:{QUOTED}@db.example.org:5433/name?sslmode=require"


def read(section: Any, environ: dict[str, str] | None = None) -> Store:
    table = {"upstreams": {"up": {"base_url": "http://up.test"}}, "store": section}
    found = read_table(table, environ or {}, Path("/etc/translator")).store
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("sqlite:///store.db", Location("sqlite", "/etc/translator/store.db")),
        ("sqlite:///data/a%20b.db", Location("sqlite", "/etc/translator/data/a b.db")),
        ("sqlite:////var/lib/store.db", Location("sqlite", "/var/lib/store.db")),
        (URL, Location("postgresql", URL)),
        (URL.replace("ql:", "ql+psycopg:"), Location("postgresql", URL)),
        (URL.replace("ql:", ":"), Location("postgresql", URL)),
    ],
)
def test_a_location(url: str, location: Location) -> None:
    assert read({"url": url}).location == location
    assert read({"url_env": "STORE"}, {"STORE": url}).location == location


def test_the_default_is_a_file_beside_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[upstreams.up]\nbase_url = "http://up.test"\n[store]\n', "utf-8")
    found = read_file(file, {}).store
    assert found is not None
    assert found.location == Location("sqlite", str(tmp_path / "translator.db"))


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"url": "sqlite://"}, "store.url: expected a URL that starts with sqlite:///"),
        ({"url": "sqlite:///"}, "store.url: expected the path of a file"),
        ({"url": "sqlite:///:memory:"}, "store.url: expected the path of a file"),
        ({"url": "sqlite:///a.db?mode=ro"}, "store.url: expected the path of a file"),
        ({"url": f"mysql://me:{QUOTED}@db"}, "store.url: expected a URL"),
        ({"url_env": "STORE"}, "store.url_env: the environment variable STORE is not set"),
        ({"url": "sqlite:///a.db", "url_env": "HOME"}, "store.url_env: cannot be used with url"),
        ({"url": URL, "max_store_bytes": 5}, "store.max_store_bytes: is for a SQLite file alone"),
        ({"retention_days": 0}, "store.retention_days: expected float > 0"),
        ({"urls": "x"}, "store.urls: there is no such setting; did you mean url?"),
        ([], "store: expected a table, as in [store]"),
    ],
)
def test_a_mistake(section: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(section, {"HOME": "sqlite:///b.db"})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)
    assert QUOTED not in str(caught.value)


@pytest.mark.parametrize("url", [URL, f"postgresql://me@db/name?password={QUOTED}&sslmode=require"])
def test_a_password_is_not_shown_and_known_as_a_secret(url: str) -> None:
    table = {"upstreams": {"up": {"base_url": "http://up.test"}}, "store": {"url": url}}
    settings = read_table(table, {})
    assert settings.store is not None
    for text in (repr(settings), settings.store.location.shown):
        assert QUOTED not in text
        assert "sslmode=require" in text
    assert {SECRET, QUOTED} <= settings_secrets(settings)
