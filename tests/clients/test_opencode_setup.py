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


def test_opencode_starts_with_what_undo_leaves(tmp_path: Path) -> None:
    """The user's own provider as it was, and what he added to a model of ours since."""
    binary = needed("OpenCode", find_program("opencode"))
    home, project, settings = (tmp_path / name for name in ("home", "project", "settings.toml"))
    project.mkdir()
    file = home / "CONFIG" / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    with ScriptedUpstream(Turn(text="Mine.")) as upstream:
        settings.write_text(SETTINGS.format(upstream=json.dumps(upstream.base_url)))
        with serving(None, "--config", str(settings)) as base_url:
            options = {"baseURL": base_url, "apiKey": "none"}
            model = {"org/kimi-k2.6": {"name": "k"}}
            own = {"npm": "@ai-sdk/openai", "options": options, "models": model}
            mine = {"model": "mine/org/kimi-k2.6", "provider": {"mine": own}}
            file.write_text(json.dumps(mine))
            for words in (["--write", "--config", str(settings), "--default", *model], ["--undo"]):
                subprocess.run(
                    [sys.executable, "-m", "translator", "opencode", *words],
                    cwd=ROOT,
                    env=environment(home),
                    check=True,
                    timeout=60,
                )
                if words[0] == "--write":
                    text = file.read_text()
                    assert '"model": "translator/org/kimi-k2.6"' in text
                    cost = '"tool_call": true, "cost": {"input": 1, "output": 1}, // mine\n'
                    file.write_text(text.replace('"tool_call": true,', cost))
            left = file.read_text()
            code, printed, log = opencode_run(binary, home, project, "whose?")

    assert (code, printed.strip()) == (0, "Mine."), log
    assert upstream.refusals == []
    assert left.count("// mine\n") == 1
    added = {"translator": {"models": {"org/kimi-k2.6": {"cost": {"input": 1, "output": 1}}}}}
    values = json.loads(left.replace("// mine", ""))
    assert values == mine | {"provider": {"mine": own} | added}
