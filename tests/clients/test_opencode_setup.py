"""OpenCode from nothing but what `translator opencode --write` wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, find_program, needed, serving
from .opencode import environment, opencode_run
from .upstream import Call, ScriptedUpstream, Turn

SETTINGS = """\
[upstreams.scripted]
base_url = {upstream}
dialect = "fireworks"

[models."org/kimi-k2.6"]
upstream = "scripted"
upstream_model = "accounts/fireworks/models/kimi-k2p6"
context_window = 262144
max_output_tokens = 4096
"""
THOUGHT = "I look at the file. “Naïvely.”\n"


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_an_empty_home_is_set_up_in_one_command(tmp_path: Path, api: str) -> None:
    """A turn with a tool call works over either API, within the limits that the file states.

    The model is the default, so nobody names it; and what it thought comes back to it.
    """
    binary = needed("OpenCode", find_program("opencode"))
    home, project, settings = (tmp_path / name for name in ("home", "project", "settings.toml"))
    home.mkdir()
    project.mkdir()
    (project / "note.txt").write_text("the answer is 42\n")
    read = Call("call_1", "read", {"filePath": str(project / "note.txt")})
    with ScriptedUpstream(
        Turn(reasoning=THOUGHT, calls=[read]), Turn(text="It is 42.")
    ) as upstream:
        settings.write_text(SETTINGS.format(upstream=json.dumps(upstream.base_url)))
        with serving(None, "--config", str(settings)) as base_url:
            words = ["opencode", "--write", "--config", str(settings), "--base-url", base_url]
            subprocess.run(
                [sys.executable, "-m", "translator", *words, "--api", api],
                cwd=ROOT,
                env=environment(home),
                check=True,
                timeout=60,
            )
            code, printed, log = opencode_run(binary, home, project, "what is the answer?")

    assert upstream.refusals == []
    assert (code, printed.strip()) == (0, "It is 42."), log
    first, second = upstream.requests
    assert first["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert first["max_tokens"] == 4096
    assert "the answer is 42" in second["messages"][-1]["content"]
    assert second["messages"][-2]["reasoning_content"] == THOUGHT
