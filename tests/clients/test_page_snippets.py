"""The snippets of the page at `/`, run as they are copied: each ends in the model's answer."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from translator.service.page.snippets import Target, snippets

from .conftest import KEY, NO_NETWORK, Stage, find_program, needed, needed_module
from .node_programs import workshop
from .own_loop import own_loop
from .upstream import Turn

pytestmark = pytest.mark.parametrize("dialect", ["fireworks"])

ANSWER = "Good day to you, too."
KEY_ENV = "TRANSLATOR_API_KEY"
RUN_S = 60
"""Upper bound of one run, in seconds."""

PYTHON = {
    "python": "openai",
    "agents": "agents",
    "langchain": "langchain_openai",
    "pydantic-ai": "pydantic_ai",
}
NODE = {"node": ("openai",), "ai-sdk": ("ai", "@ai-sdk/openai")}


def snippet(name: str, stage: Stage) -> str:
    stage.play(Turn(text=ANSWER))
    target = Target(base_url=stage.base_url, model=stage.model, key_env=KEY_ENV)
    [text] = [one.text for one in snippets(target) if one.id == name]
    return text


def printed(home: Path, *command: str, **environ: str) -> str:
    """What a command prints, with a home of its own and a key."""
    named = {"PATH": os.environ["PATH"], "HOME": str(home), KEY_ENV: KEY}
    done = subprocess.run(
        command,
        cwd=home,
        env=NO_NETWORK | named | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PYTHON)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a snippet ends with its process
def test_in_python(
    name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed_module(PYTHON[name], name)
    monkeypatch.setenv(KEY_ENV, KEY)
    with own_loop():
        exec(compile(snippet(name, stage), name, "exec"), {})
    gc.collect()  # what it left open is closed here, and in no other test
    assert ANSWER in capsys.readouterr().out


@pytest.mark.parametrize("name", NODE)
def test_in_node(name: str, stage: Stage, tmp_path: Path) -> None:
    folder = workshop(tmp_path, *NODE[name])
    program = folder / "snippet.mjs"
    program.write_text(snippet(name, stage))
    assert ANSWER in printed(tmp_path, "node", str(program))


def test_in_a_shell(stage: Stage, tmp_path: Path) -> None:
    needed("curl", shutil.which("curl"))
    assert ANSWER in printed(tmp_path, "sh", "-ec", snippet("curl", stage))


def test_in_codex(stage: Stage, tmp_path: Path) -> None:
    codex = needed("Codex", find_program("codex"))
    (tmp_path / "config.toml").write_text(snippet("codex", stage))
    words = (codex, "exec", "--skip-git-repo-check", "Hello")
    assert ANSWER in printed(tmp_path, *words, CODEX_HOME=str(tmp_path))
