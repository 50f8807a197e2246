"""The demo succeeds, draws both sides, and shows the configuration of the README."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.demo import conversation as demo
from translator.demo.conversation import CODEX_CONFIG, SERVE, SET_UP, UP
from translator.demo.script import ANSWER, ARGUMENTS, REASONING, TEXT, first_answer
from translator.demo.scripted_upstream import rejection
from translator.demo.view import View

ROOT = Path(__file__).parents[1]


def test_the_demo_piped() -> None:
    """Plain lines, every chunk before its events, and exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "translator", "demo"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    for text in (REASONING, TEXT, ARGUMENTS, ANSWER):
        assert text in done.stdout
    commands = (f"translator {UP}", f"translator {SET_UP}", f"translator {SERVE}", "\n  codex\n")
    shown = [done.stdout.index(command) for command in commands]
    assert shown == sorted(shown)
    _, *chunks = done.stdout.split("  chunk ")
    assert len(chunks) == len(first_answer()) + 1
    [words] = [chunk for chunk in chunks if chunk.startswith('delta.content "Let me"')]
    assert words.count("→") == 6
    assert re.search(r"→ +10 response.output_item.done reasoning", words)
    assert re.search(r"→ +25 response.completed", chunks[-1])


def test_the_demo_verifies_what_the_client_receives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exit code is 1 when the client receives something else than the upstream sent."""
    monkeypatch.setattr(demo, "TEXT", "Something else.")
    assert demo.run([]) == 1
    assert "translator demo: the deltas contain" in capsys.readouterr().err


def test_the_commands_at_the_end_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Codex is set up with a catalog, for the URL at which SERVE listens."""
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    assert main(SET_UP.split()) == 0
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    assert config["model_providers"]["translator"]["base_url"] == "http://127.0.0.1:8080/v1"
    [entry] = json.loads((tmp_path / config["model_catalog_json"]).read_text())["models"]
    assert entry["slug"] == config["model"]
    assert f"translator {SERVE}\n" in capsys.readouterr().err
    monkeypatch.delenv("FIREWORKS_API_KEY", raising=False)
    assert main(UP.split()) == 2
    assert "--api-key-env: the environment variable FIREWORKS_API_KEY is not set" in (
        capsys.readouterr().err
    )


def test_the_readme_shows_the_same_configuration() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert CODEX_CONFIG in readme
    assert SERVE in readme


@pytest.mark.parametrize("width", [60, 80, 110, 140, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, colour: bool) -> None:
    out = io.StringIO()
    view = View(out, width=width, colour=colour)
    view.columns("left", "right")
    delta = {"reasoning_content": "thought " * 40}
    view.chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    event = {"type": "response.reasoning_summary_text.delta", "sequence_number": 7}
    view.event(event | {"delta": "thought " * 40})
    view.event(event | {"delta": "short"})
    view.chunk(None)
    view.event(None)
    view.say()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert ("\x1b" in out.getvalue()) == colour
    assert max(map(len, shown.splitlines())) <= width
    assert shown.count("thought") >= 2


@pytest.mark.parametrize(
    "body",
    [
        {"input": "Hello"},
        {"messages": [{"role": "developer", "content": "Hello"}]},
        {"tools": [{"type": "web_search"}]},
        {"messages": [{"role": "tool", "tool_call_id": "a", "content": ""}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
    ],
)
def test_the_demos_upstream_is_strict(body: dict[str, object]) -> None:
    assert rejection("/v1/chat/completions", body)
