"""`translator up` in front of the real Codex and OpenCode, whose own files it must not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .codex.chat_requests import functions
from .conftest import CODEX_TIMEOUT_S, KEY, NO_NETWORK, ROOT, find_program, needed, with_older_codex
from .opencode import environment
from .upstream import ScriptedUpstream, Turn

CODEX_CONFIG = """\
# mine
model = "gpt-5.5"  # as ever

[model_providers.translator]
name = "from another day"
base_url = "http://127.0.0.1:9/v1"
env_key = "NOT_SET"
"""
CODEX_LOGIN = '{"OPENAI_API_KEY": "sk-the-users-own-key"}'


def up(
    upstream: ScriptedUpstream, folder: Path, environ: Mapping[str, str], *command: str
) -> subprocess.CompletedProcess[str]:
    """`translator up` with nothing but the URL, its dialect and the key of the upstream."""
    options = ["--upstream", upstream.base_url, "--dialect", upstream.spoken.name]
    options += ["--api-key-env", "UPSTREAM_KEY"]
    return subprocess.run(
        [sys.executable, "-m", "translator", "up", *options, "--", *command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "UPSTREAM_KEY": KEY, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CODEX_TIMEOUT_S,
        check=False,
    )


@with_older_codex
def test_codex_with_its_users_own_files(codex_binary: str, tmp_path: Path) -> None:
    """The model is the upstream's, and known: Codex does not warn, and offers its patches."""
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    (home / "config.toml").write_text(CODEX_CONFIG)
    (home / "auth.json").write_text(CODEX_LOGIN)
    named = {"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home)}
    with ScriptedUpstream(Turn(text="Hello.")) as upstream:
        arguments = ("exec", "--skip-git-repo-check", "say hello")
        done = up(upstream, folder, NO_NETWORK | named, codex_binary, *arguments)

    assert (done.returncode, done.stdout.strip()) == (0, "Hello."), done.stderr
    assert "Model metadata for" not in done.stderr
    assert "translator: " not in done.stderr
    assert upstream.refusals == []
    [request] = upstream.requests
    assert request["model"] == upstream.spoken.model
    assert request["reasoning_effort"] == "medium", "Codex has read the catalog"
    assert "apply_patch" in functions(request)
    assert upstream.keys == [f"Bearer {KEY}"]
    assert (home / "config.toml").read_text() == CODEX_CONFIG
    assert (home / "auth.json").read_text() == CODEX_LOGIN
    assert list(home.glob("*config.toml*")) == [home / "config.toml"]
    assert list((home / "sessions").rglob("*.jsonl")), "the history is the user's own"


def test_opencode_with_its_users_own_files(tmp_path: Path) -> None:
    binary = needed("OpenCode", find_program("opencode"))
    home, folder = tmp_path / "home", tmp_path / "folder"
    folder.mkdir()
    environ = environment(home)
    file = Path(environ["XDG_CONFIG_HOME"]) / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    schema = "https://opencode.ai/config.json"  # without it, OpenCode adds it
    text = json.dumps({"$schema": schema, "model": "openai/gpt-5.5", "username": "somebody"})
    file.write_text(text)
    with ScriptedUpstream(Turn(text="Hello.")) as upstream:
        done = up(upstream, folder, environ, binary, "run", "--title", "a test", "say hello")

    assert (done.returncode, done.stdout.strip()) == (0, "Hello."), done.stderr
    assert upstream.refusals == []
    assert [request["model"] for request in upstream.requests] == [upstream.spoken.model]
    assert upstream.keys == [f"Bearer {KEY}"]
    assert file.read_text() == text
