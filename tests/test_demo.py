"""The demo succeeds, draws both sides, and ends with a command that sets Codex up."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from translator.demo import conversation as demo
from translator.demo.conversation import SERVE, SET_UP, UP
from translator.demo.script import ANSWER, ARGUMENTS, REASONING, TEXT, first_answer
from translator.demo.scripted_upstream import rejection
from translator.demo.view import View

ROOT = Path(__file__).parents[1]
PRINT_STEP = """
import sys
from translator.demo.conversation import View, _show_codex
_show_codex(View(sys.stdout, width=100, colour=False))
"""


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
    shown = [done.stdout.index(f" {command}") for command in (UP, SET_UP, SERVE)]
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


def test_its_next_step_is_a_command_that_works_as_printed(tmp_path: Path) -> None:
    """In a shell that does not find `translator`, where it was printed. Codex then needs no more."""
    environment = os.environ | {"PATH": "/usr/bin:/bin", "CODEX_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_STEP],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    [line] = [line.strip() for line in done.stdout.splitlines() if line.endswith(" --write")]
    assert line.endswith(SET_UP)
    assert not line.startswith("translator ")
    done = subprocess.run(
        line,
        shell=True,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {
        ".translator-codex-undo.json",
        "config.toml",
        "kimi-k2p6.config.toml",
        "model_catalog.json",
    }
    [start] = re.findall(r"^start the service:  (\S+) serve --upstream", done.stderr, re.MULTILINE)
    assert (ROOT / start).is_file()


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
