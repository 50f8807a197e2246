"""Codex searches the web by the service's own search, for a model that knows functions only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import serving
from tests.clients.recorder import Recorder
from tests.clients.upstream import Call, ScriptedUpstream, Turn
from tests.clients.web import SEARCH, SETTINGS, Web

from .chat_requests import functions, results
from .test_setup import Place


@pytest.fixture
def web() -> Iterator[Web]:
    with Web().running() as running:
        yield running


@contextmanager
def placed(
    binary: str, scratch: Path, settings: str
) -> Iterator[tuple[Place, ScriptedUpstream, Recorder]]:
    """Codex on a service with these settings, from what `translator codex --write` writes."""
    home, folder, file = (scratch / name for name in ("home", "folder", "settings.toml"))
    home.mkdir()
    folder.mkdir()
    with ScriptedUpstream() as upstream:
        file.write_text(settings.replace("{upstream}", json.dumps(upstream.base_url)))
        with serving(None, "--config", str(file)) as base_url, Recorder(base_url) as recorder:
            place = Place(upstream, recorder.base_url, file, home, folder, binary)
            place.set_up()
            # the recorder speaks HTTP alone
            config = (home / "config.toml").read_text()
            (home / "config.toml").write_text(
                config.replace("supports_websockets = true", "supports_websockets = false")
            )
            yield place, upstream, recorder


def searching(call_id: str, **commands: Any) -> Callable[[dict[str, Any]], Turn]:
    """A step that calls `web.run`; REF in its commands is the latest ref of what it was given."""

    def step(request: dict[str, Any]) -> Turn:
        [name] = [one for one in functions(request) if one.endswith("run") and "web" in one]
        refs = re.findall(r"\[(turn\d+\w+?\d+)\]", " ".join(results(request).values()))
        text = json.dumps(commands).replace("REF", refs[-1] if refs else "none")
        return Turn(reasoning="I look.", calls=[Call(call_id, name, text)])

    return step


def test_scenario_38_codex_searches_opens_finds_and_answers(
    codex_binary: str, tmp_path: Path, web: Web
) -> None:
    """From nothing but what `translator codex` wrote; each result is what the model reads next."""
    settings = SETTINGS + SEARCH.replace("{web}", json.dumps(web.url))
    with placed(codex_binary, tmp_path, settings) as (place, upstream, recorder):
        upstream.play(
            searching("a", search_query=[{"q": "release notes"}]),
            searching("b", open=[{"ref_id": "REF"}]),
            searching("c", find=[{"ref_id": "REF", "pattern": "version 7"}]),
            searching("d", click=[{"ref_id": "REF", "id": 0}], weather=[{"location": "Rome"}]),
            searching("e", open=[{"ref_id": "turn0search99"}], time=[{"utc_offset": "+03:00"}]),
            Turn(text="Version 7.1 came out in June."),
        )
        done = place.exec("when did it come out?")

    assert done.stdout.strip() == "Version 7.1 came out in June."
    assert upstream.left == 0
    searches = [one for one in recorder.exchanges if one.path.endswith("/alpha/search")]
    assert [one.status for one in searches] == [200] * 5
    for one in searches:
        budget = 4 * one.request["max_output_tokens"]
        assert 0 < len(json.loads(one.body)["output"]) <= budget
    given = results(upstream.requests[-1])
    assert f"Notes ({web.url}/notes)" in given["a"]
    assert "Version 7 came out in May." in given["b"]
    assert "Version 7 came out in May." in given["c"]
    assert "Version 7.1 came out in June." in given["d"]
    assert "weather is not looked up here" in given["d"]
    assert "not known here" in given["e"] and "UTC+03:00" in given["e"]
    assert web.asked == ["/search", "/notes", "/changes"]


def test_a_search_that_fails_is_told_the_model(codex_binary: str, tmp_path: Path) -> None:
    settings = SETTINGS + SEARCH.replace("{web}", '"http://127.0.0.1:9"')
    with placed(codex_binary, tmp_path, settings) as (place, upstream, _):
        upstream.play(
            searching("a", search_query=[{"q": "release notes"}]),
            Turn(text="I cannot search now."),
        )
        done = place.exec("when did it come out?")
    assert done.stdout.strip() == "I cannot search now."
    assert "The search failed" in results(upstream.requests[-1])["a"]


def test_without_a_backend_codex_has_no_such_tool(codex_binary: str, tmp_path: Path) -> None:
    with placed(codex_binary, tmp_path, SETTINGS) as (place, upstream, _):
        upstream.play(Turn(text="Hello."))
        place.exec("say hello")
    assert not [name for name in functions(upstream.requests[0]) if "web" in name]
