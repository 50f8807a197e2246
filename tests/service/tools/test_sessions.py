"""Sessions of a search: bounded, and shared by the workers of one parent."""

from __future__ import annotations

from pathlib import Path

import pytest

from translator.service.http.alpha_search import FOLDER
from translator.service.tools.sessions import (
    MAX_REFS,
    MAX_SEEN,
    SESSION_S,
    SearchSession,
    SearchSessions,
)

from .searching import ScriptedWeb, codex_of, result

pytestmark = pytest.mark.anyio


def files(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def test_workers_share_sessions(
    scripted: ScriptedWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refs and seen URLs of one are known to the other; their refs are different ones."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    scripted.results = [result(f"{scripted.url}/page")]
    scripted.pages["/page"] = "<p>here <a href='/next'>next</a>"
    scripted.pages["/next"] = "<p>the next"
    async with codex_of(scripted, "key") as first, codex_of(scripted, "key") as second:
        await first.ask(search_query=[{"q": "a"}])
        ref = first.results[0]["ref_id"]
        assert "L1: here" in await second.ask(open=[{"ref_id": ref}])
        page = second.results[0]["ref_id"]
        assert "the next" in await first.ask(open=[{"ref_id": f"{scripted.url}/next"}])
        assert "the next" in await first.ask(click=[{"ref_id": page, "id": 0}])
        refs = [ref, page]
        for one in (first, second, first):
            await one.ask(search_query=[{"q": "a"}])
            refs.append(one.results[0]["ref_id"])
        assert len(set(refs)) == 5
        second.headers = {"authorization": "Bearer other"}
        assert "not known here" in await second.ask(open=[{"ref_id": ref}])
        [file] = [one for one in files(tmp_path) if b"/page" in one.read_bytes()]
        file.write_bytes(b"broken")
        second.headers = first.headers
        assert "L1: here" in await second.ask(open=[{"ref_id": ref}])


async def test_without_the_folder_nothing_fails(
    scripted: ScriptedWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "gone"))
    async with codex_of(scripted) as codex:
        assert "No results" in await codex.ask(search_query=[{"q": "a"}])


async def test_files_are_bounded(tmp_path: Path) -> None:
    sessions = SearchSessions(lambda: 0.0, 3, tmp_path)
    for n in range(6):
        await sessions.share("o", str(n), await sessions.session("o", str(n)))
    assert len(files(tmp_path)) == 3


async def test_sessions_are_forgotten() -> None:
    """The one that was used longest ago first, and all after a time."""
    now = 0.0
    sessions = SearchSessions(lambda: now, 2)
    first = await sessions.session("o", "1")
    assert await sessions.session("o", "1") is first
    for name in "234":
        await sessions.session("o", name)
    assert await sessions.session("o", "1") is not first
    last = await sessions.session("o", "4")
    now = SESSION_S + 1
    assert await sessions.session("o", "4") is not last
    assert await sessions.session("o", "") is not await sessions.session("o", "")


def test_a_session_is_bounded() -> None:
    session = SearchSession(0)
    for n in range(MAX_SEEN + 10):
        session.refer(f"turn0search{n}", f"https://a.test/{n}")
        session.saw_result(f"https://a.test/{n}")
        session.saw_link(f"https://b.test/{n}")
    assert len(session.refs) == MAX_REFS
    assert len(session.results) == len(session.links) == MAX_SEEN
    assert session.url_of("turn0search0") is None
    assert session.is_result(f"https://A.test:443/{MAX_SEEN}/#x")
    assert not session.is_result("https://a.test/0")
    assert session.is_link(f"https://b.test/{MAX_SEEN}")
    assert not session.is_link(f"https://a.test/{MAX_SEEN}")
