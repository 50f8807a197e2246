"""Codex with the hosted search, as it is by default: the service runs it within one response."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.recorder import Recorder
from tests.clients.upstream import Call, Turn
from tests.clients.web import MODEL, searching_stage

from .chat_requests import functions, reasoning, results
from .session import Session


@pytest.mark.cell(client="Codex CLI", case="search")
def test_scenario_37_codex_shows_a_hosted_search_and_goes_on(
    codex_binary: str, tmp_path: Path
) -> None:
    """The search is shown, the answer is shown, and the next turn sends the same messages."""
    with searching_stage(tmp_path) as (stage, web), Recorder(stage.base_url) as recorder:
        codex = Session(codex_binary, tmp_path, recorder, MODEL)
        codex.config["sandbox_mode"] = "read-only"  # in which nothing may be fetched
        stage.play(
            Turn(reasoning="I look.", calls=[Call("a", "web_search", {"query": "release notes"})]),
            Turn(reasoning="I know.", text="Version 7 came out in May [1]."),
            Turn(text="Version 7.1 is newer."),
        )
        first = codex.exec("when did it come out?", "--json")
        second = codex.run("exec", "resume", "--last", "--skip-git-repo-check", "and now?")

    assert first.code == 0, first.printed
    events = [json.loads(line) for line in first.printed.splitlines() if line.startswith("{")]
    shown = [one["item"] for one in events if one["type"] == "item.completed"]
    assert [one["query"] for one in shown if one["type"] == "web_search"] == ["release notes"]
    assert first.last_message == "Version 7 came out in May [1]."
    assert "ERROR" not in first.log
    assert second.printed.strip() == "Version 7.1 is newer."
    assert web.asked == ["/search"]

    asked, answered, again = stage.requests
    assert "web_search" in functions(asked)
    assert "open_page" not in functions(asked)  # nothing may be fetched
    assert "Of releases." in results(answered)["a"]
    known = len(answered["messages"])
    assert again["messages"][:known] == answered["messages"]
    assert reasoning(again["messages"][known - 2]) == "I look."
    assert len(codex.requests) == 2
