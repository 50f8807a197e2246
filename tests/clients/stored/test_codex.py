"""Codex says `store: false`: it is served as without a store, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.codex.chat_requests import results, run
from tests.clients.codex.session import Session
from tests.clients.conftest import Stage
from tests.clients.recorder import Recorder
from tests.clients.upstream import Turn

from .talk import ANSWERS, NEXT_PROMPT, NOW_KNOWN, PROMPT, RAIN, THOUGHT

NOT_CHAINED = (
    "Codex says `store: false` and sends everything; on a WebSocket it goes on from the response"
    " before, which the connection remembers. Nothing of it is stored."
)

NO_CONVERSATIONS = "Codex has no conversations of the server: its sessions are files of its own."


@pytest.mark.cell(client="Codex CLI", case="by itself")
@pytest.mark.cell(client="Codex CLI", case="chained", limit=NOT_CHAINED)
@pytest.mark.cell(client="Codex CLI", case="conversation", limit=NO_CONVERSATIONS)
def test_codex_ids_inline(
    codex_binary: str, tmp_path: Path, stage: Stage, rows: Callable[[], Any]
) -> None:
    """Its items have ids and content: no id is looked up, and no row is touched."""
    looks = Turn(reasoning=THOUGHT, calls=[run("echo Rome", "a"), run("echo Reykjavík", "b")])
    stage.play(looks, ANSWERS, RAIN)
    before = rows()
    with Recorder(stage.base_url) as recorder:
        codex = Session(codex_binary, tmp_path, recorder, stage.model)
        first = codex.exec(PROMPT)
        second = codex.exec(NEXT_PROMPT, "resume", "--last")
        assert (first.code, first.last_message) == (0, ANSWERS.text), first.log
        assert (second.code, second.last_message) == (0, RAIN.text), second.log
        assert [request["store"] for request in codex.requests] == [False] * 3
        named = {"conversation", "previous_response_id"}
        assert not any(named & request.keys() for request in codex.requests)
        with_ids = {item["type"] for item in codex.requests[2]["input"] if item.get("id")}
        assert with_ids >= {"message", "reasoning", "function_call"}
        assert not any("store" in one.notices for one in recorder.exchanges)
    assert rows() == before
    asked = [request["messages"] for request in stage.requests]
    assert asked[1][: len(asked[0])] == asked[0]
    assert asked[2][: len(asked[1])] == asked[1]
    thoughts = [one["reasoning_content"] for one in asked[2] if "reasoning_content" in one]
    assert thoughts == [THOUGHT, NOW_KNOWN]
    output = results(stage.requests[2])
    assert "Rome" in output["a"]
    assert "Reykjavík" in output["b"]
