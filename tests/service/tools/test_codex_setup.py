"""What `translator codex` and `translator up` tell Codex of the service's own search."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from translator.__main__ import main
from translator.launch.clients import start_of, target_of
from translator.service.config.loading import read_table
from translator.setup.client import setup

SETTINGS = """\
[upstreams.up]
base_url = "http://127.0.0.1:9/v1"

[models.m]
upstream = "up"
context_window = 1000
"""
SEARCH = """
[tools.search]
backend = "searxng"
url = "http://search.test"
"""
FEATURE = {"standalone_web_search": True}

CONFIGS = [
    None,
    "",
    "# mine\n",
    'model = "gpt"\n[features]\nmemories = false # off\n\n# looks\n[tui]\nx = 1\n',
    "[features]\nstandalone_web_search = false # why\n",
    "[features]\r\nstandalone_web_search = true\r\n",
    "features = { memories = false }\n",
    'features.memories = false\nmodel = "gpt"\n[z]\n',
    "[tui]\nx = 1",
]


def wrote(folder: Path, settings: str, before: str | None = None) -> dict[str, Any]:
    """The config.toml that is written over another one."""
    folder.mkdir(exist_ok=True)
    file = folder / "settings.toml"
    file.write_text(settings)
    if before is not None:
        (folder / "config.toml").write_bytes(before.encode())
    assert main(["codex", "--config", str(file), "--write", "--codex-home", str(folder)]) == 0
    return tomllib.loads((folder / "config.toml").read_text())


def test_codex_is_told_of_a_search(tmp_path: Path) -> None:
    config = wrote(tmp_path, SETTINGS + SEARCH)
    assert config["features"] == FEATURE
    assert config["model_providers"]["translator"]["supports_standalone_web_search"] is True


def test_without_a_search_nothing_is_said_of_it(tmp_path: Path) -> None:
    for text in (SETTINGS, SETTINGS + "[tools]\n"):
        assert "search" not in str(wrote(tmp_path, text))


def test_a_model_that_refuses_hosted_tools_may_search_so(tmp_path: Path) -> None:
    """Codex declares no hosted tool then, which the service would reject."""
    strict = SETTINGS + "strict = true\n"
    assert "web_search" not in wrote(tmp_path / "a", strict + SEARCH)
    assert wrote(tmp_path / "b", strict)["web_search"] == "disabled"


def test_a_search_that_has_gone_is_no_more_of_the_provider(tmp_path: Path) -> None:
    wrote(tmp_path, SETTINGS + SEARCH)
    config = wrote(tmp_path, SETTINGS)
    assert "supports_standalone_web_search" not in config["model_providers"]["translator"]


@pytest.mark.parametrize("before", CONFIGS)
def test_all_else_is_kept_and_can_be_undone(tmp_path: Path, before: str | None) -> None:
    config = wrote(tmp_path, SETTINGS + SEARCH, before)
    known = tomllib.loads(before or "")
    assert config["features"] == known.get("features", {}) | FEATURE
    assert {name: config[name] for name in known if name != "features"} == {
        name: value for name, value in known.items() if name != "features"
    }
    again = (tmp_path / "config.toml").read_bytes()
    wrote(tmp_path, SETTINGS + SEARCH)
    assert (tmp_path / "config.toml").read_bytes() == again
    assert main(["codex", "--undo", "--codex-home", str(tmp_path)]) == 0
    file = tmp_path / "config.toml"
    assert (file.read_bytes().decode() if file.exists() else None) == before


@pytest.mark.parametrize("before", ["features = 1\n", "[[features]]\na = 1\n"])
def test_what_is_no_table_is_an_error(
    tmp_path: Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS + SEARCH)
    (tmp_path / "config.toml").write_text(before)
    assert main(["codex", "--config", str(file), "--write", "--codex-home", str(tmp_path)]) != 0
    assert "config.toml: features is not a table" in capsys.readouterr().err


@pytest.mark.parametrize("search", [True, False])
def test_up_tells_codex_by_its_options(tmp_path: Path, search: bool) -> None:
    settings = read_table(tomllib.loads(SETTINGS + (SEARCH if search else "")), {})
    start = start_of(
        ["codex"],
        target_of(["codex"]),
        setup(settings),
        base_url="http://127.0.0.1:1/v1",
        key="k",
        environ={},
        folder=tmp_path,
    )
    assert ("features.standalone_web_search=true" in start.command) is search
    assert ("supports_standalone_web_search" in " ".join(start.command)) is search
