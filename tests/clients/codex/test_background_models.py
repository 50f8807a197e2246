"""Codex asks for models of its own choice, too: those are served by `[models."*"]`."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.clients.conftest import CODEX_TIMEOUT_S, serving
from tests.clients.recorder import Recorder
from tests.clients.upstream import ScriptedUpstream, Turn

from .session import Session

MEMORIES = "gpt-6.1-terra"
"""The model by which Codex CLI 0.169 to 0.171 summarises earlier sessions."""

IDLE_S = 3 * 3600


def grow_old(codex: Session) -> None:
    """Let hours pass since the session: Codex remembers those that are idle."""
    then = time.time() - IDLE_S
    for path in codex.home.rglob("rollout-*"):
        os.utime(path, (then, then))
    with closing(sqlite3.connect(codex.home / "state_5.sqlite")) as state:
        for name in ("created_at", "updated_at", "recency_at"):
            state.execute(
                f"update threads set {name} = {int(then)}, {name}_ms = {int(then * 1000)}"
            )
        state.commit()


def test_memories_are_written_by_a_model_of_codex_choice(codex_binary: str, tmp_path: Path) -> None:
    """It goes upstream as the catch-all has it; the model of the user keeps its own section."""
    remembered = threading.Event()

    def answer(request: dict[str, Any]) -> Turn:
        if request["model"] == "background":
            remembered.set()
            return Turn(text="{}")
        # the session lasts until Codex has asked for the other one
        remembered.wait(CODEX_TIMEOUT_S / 4 if codex.requests[1:] else 0)
        return Turn(text="Noted.")

    with ScriptedUpstream(*[answer] * 20) as upstream:
        model = upstream.spoken.model
        file = tmp_path / "settings.toml"
        file.write_text(
            f"[upstreams.u]\nbase_url = {json.dumps(upstream.base_url)}\n"
            f'dialect = "{upstream.spoken.name}"\n'
            f'[models.{json.dumps(model)}]\nupstream = "u"\n'
            '[models."*"]\nupstream = "u"\nupstream_model = "background"\n'
        )
        with serving(None, "--config", str(file)) as base, Recorder(base) as recorder:
            codex = Session(codex_binary, tmp_path, recorder, model)
            codex.config["features.memories"] = True
            codex.config["memories.min_rollout_idle_hours"] = 1
            codex.talk("remember that I like tests")
            grow_old(codex)
            codex.talk("hello again")
        asked = {(one.request["model"], one.status) for one in recorder.exchanges}
        sent = {request["model"] for request in upstream.requests}

    assert {(model, 200), (MEMORIES, 200)} <= asked
    assert {status for _, status in asked} == {200}
    assert sent == {model, "background"}
