"""The real programs that these tests start: the translator as users run it, and the Codex CLI."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from translator.service.demo import CODEX_CONFIG

from .upstream import ScriptedUpstream

ROOT = Path(__file__).parents[2]
MISSING = "the Codex CLI is not here: `make clients` installs it and runs these tests"
START_TIMEOUT_S = 30
CODEX_TIMEOUT_S = 120
KEY = "sk-the-upstreams-key"

# Codex looks for updates, plugins and statistics on the network: it finds a closed door.
NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Outcome:
    """What one run of Codex left behind."""

    code: int
    printed: str  # stdout: the last message
    log: str  # stderr: the session as it went
    last_message: str


class Codex:
    """The Codex CLI with a home and a folder of its own."""

    def __init__(self, binary: str, scratch: Path, base_url: str) -> None:
        self._binary = binary
        self.home = scratch / "home"
        self.folder = scratch / "folder"
        self.home.mkdir()
        self.folder.mkdir()
        config = CODEX_CONFIG.replace("http://127.0.0.1:8080/v1", base_url)
        assert config != CODEX_CONFIG, "the base_url of the documented configuration has changed"
        (self.home / "config.toml").write_text(config)

    def exec(self, prompt: str, *arguments: str) -> Outcome:
        """`codex exec`, to its end; the model may do what it likes in the scratch folder."""
        answer = self.home / "last-message.txt"
        answer.unlink(missing_ok=True)
        command = [self._binary, "exec", *arguments]
        command += ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        command += ["--output-last-message", str(answer), prompt]
        environment = NO_NETWORK | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home),
            "FIREWORKS_API_KEY": KEY,
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CODEX_TIMEOUT_S,
            check=False,
        )
        last_message = answer.read_text() if answer.exists() else ""
        return Outcome(done.returncode, done.stdout, done.stderr, last_message)


def find_codex() -> str | None:
    """The binary that the environment names, else the one `make clients` installs, else PATH's."""
    if named := os.environ.get("TRANSLATOR_CODEX"):
        return named
    installed = ROOT / ".clients" / "node_modules" / ".bin" / "codex"
    return str(installed) if installed.exists() else shutil.which("codex")


@pytest.fixture(scope="session")
def codex_binary() -> str:
    binary = find_codex()
    if binary is None and os.environ.get("TRANSLATOR_REQUIRE_CLIENTS", "") not in ("", "0"):
        pytest.fail(MISSING)
    if binary is None:
        pytest.skip(MISSING)
    return binary


@pytest.fixture
def codex_on(codex_binary: str, tmp_path: Path) -> Iterator[Callable[[ScriptedUpstream], Codex]]:
    """Codex on an upstream, with a translator between them."""
    with ExitStack() as stack:

        def start(upstream: ScriptedUpstream) -> Codex:
            stack.enter_context(upstream)
            base_url = stack.enter_context(serving(upstream.base_url))
            return Codex(codex_binary, tmp_path, base_url)

        yield start


@contextmanager
def serving(upstream: str) -> Iterator[str]:
    """`translator serve` on a free port; yields the base URL that clients use."""
    command = [sys.executable, "-m", "translator", "serve", "--upstream", upstream, "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in process.stdout or ():
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield _listening(lines)
        finally:
            process.terminate()
            try:
                process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()


def _listening(lines: queue.Queue[str | None]) -> str:
    """The base URL in the start-up line."""
    seen = ""
    while (line := lines.get(timeout=START_TIMEOUT_S)) is not None:
        seen += line
        if address := re.search(r"listens on (http://\S+)", line):
            return address[1]
    pytest.fail(f"the translator did not start:\n{seen}")
