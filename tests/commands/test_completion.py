"""Completion of commands, by the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from translator.__main__ import COMMANDS, main
from translator.dialects import DIALECTS

SHELL_S = 60.0
"""Longest wait for a shell, in seconds."""

BASH = """
source "$1"; shift
complete -p translator >/dev/null || exit 3
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_translator
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = "source $argv[1]; complete -C $argv[2]"

CASES = [
    ("translator ", COMMANDS),
    ("translator se", ["serve"]),
    ("translator serve --log-l", ["--log-level"]),
    ("translator serve --log-level ", ["debug", "info", "warning", "error"]),
    ("translator convert --dialect fire", ["fireworks"]),
    ("translator probe --dialect ", DIALECTS),
    ("translator completion ", ["bash", "zsh", "fish"]),
    ("translator serve --config set", ["settings.toml"]),
    ("translator check set", ["settings.toml"]),
    ("translator tail tra", ["traces"]),
]
"""What is typed before the tabulator, and what may follow."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file and a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").touch()
    (tmp_path / "traces").mkdir()
    (tmp_path / "travel.txt").touch()
    return tmp_path


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "worker-channel" not in out  # for workers alone
    path = folder / "completion"
    path.write_text(out)
    return str(path)


def lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SHELL_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_bash_completes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("bash", folder, capsys)
    for typed, follows in CASES:
        words = typed.split(" ")
        assert lines("bash", "-c", BASH, "bash", path, *words) == [*follows], typed


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not there")
def test_fish_completes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("fish", folder, capsys)
    for typed, follows in CASES:
        found = lines("fish", "--no-config", "-c", FISH, path, typed)
        assert {one.partition("\t")[0].rstrip("/") for one in found} == {*follows}, typed


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not there")
def test_zsh_completes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal: zsh completes only there. A single match is written into the line."""
    path = script("zsh", folder, capsys)
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "> "})
    try:
        show(terminal, "bindkey '^I' complete-word; unsetopt ZLE_RMPROMPT", "")
        show(terminal, f"autoload -Uz compinit && compinit -u -D && source {path}", "")
        show(terminal, "compdef _shtab_translator translator; echo 're'ady", "ready")
        # `translator` is a function here, which shows the words that were completed
        show(terminal, 'translator() { print -r -- "<$*>" }', "")
        for typed, follows in CASES:
            if len([*follows]) == 1:
                [match] = follows
                show(terminal, f"{typed}\t", f"<{' '.join([*typed.split(' ')[1:-1], match])}")
    finally:
        os.write(terminal, b"\x03\x04exit\n")
        os.close(terminal)
        os.waitpid(child, 0)


def show(terminal: int, line: str, expected: str) -> None:
    """Type a line, and wait until the terminal shows the expected text."""
    os.write(terminal, f"{line}\n".encode())
    seen, until = "", time.monotonic() + SHELL_S
    while expected not in seen:
        ready, _, _ = select.select([terminal], [], [], until - time.monotonic())
        assert ready, seen
        seen += os.read(terminal, 65536).decode(errors="replace")
