"""The Codex CLI as a process, with a configuration that a test can change key by key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.conftest import CODEX_TIMEOUT_S, KEY, NO_NETWORK, Outcome
from tests.clients.recorder import Recorder

PROVIDER = "model_providers.translator"


class Session:
    """Codex with a home and a folder of its own, on a translator behind a recorder.

    `config` is its config.toml, by dotted keys; `catalog` is its entry for the model. Both are
    written when a program starts.
    """

    def __init__(self, binary: str, scratch: Path, recorder: Recorder, model: str) -> None:
        self._binary = binary
        self.wire = recorder
        self.key = KEY
        self.home = scratch / "home"
        self.folder = scratch / "folder"
        self.home.mkdir()
        self.folder.mkdir()
        self.catalog = catalog_entry(model)
        self.config: dict[str, Any] = {
            "model": model,
            "model_provider": "translator",
            "model_catalog_json": str(self.home / "catalog.json"),
            "approval_policy": "never",
            "sandbox_mode": "danger-full-access",
            f"{PROVIDER}.name": "translator",
            f"{PROVIDER}.base_url": recorder.base_url,
            f"{PROVIDER}.wire_api": "responses",
            f"{PROVIDER}.env_key": "TRANSLATOR_KEY",
        }

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies that Codex has sent."""
        return self.wire.requests

    def exec(self, prompt: str, *arguments: str) -> Outcome:
        """`codex exec`, to its end."""
        return self.run("exec", *arguments, "--skip-git-repo-check", prompt)

    def run(self, *arguments: str) -> Outcome:
        """Any command of Codex, to its end."""
        answer = self.home / "last-message.txt"
        answer.unlink(missing_ok=True)
        if arguments[0] == "exec":
            arguments = ("exec", "--output-last-message", str(answer), *arguments[1:])
        with self._started(*arguments) as process:
            printed, log = process.communicate(timeout=CODEX_TIMEOUT_S)
        last_message = answer.read_text() if answer.exists() else ""
        return Outcome(process.returncode, printed, log, last_message)

    @contextmanager
    def exec_in_background(self, prompt: str) -> Iterator[subprocess.Popen[str]]:
        """`codex exec`, left to itself as long as the `with` block lasts."""
        with self._started("exec", "--skip-git-repo-check", prompt) as process:
            yield process
            process.communicate(timeout=CODEX_TIMEOUT_S)

    def talk(self, prompt: str) -> list[dict[str, Any]]:
        """One turn in `codex app-server`, which editors use: all messages that it sends."""
        with self._app_server() as server:
            server.ask("thread/start", cwd=str(self.folder))
            thread = server.until("result")["result"]["thread"]["id"]
            server.ask("turn/start", threadId=thread, input=[{"type": "text", "text": prompt}])
            server.until("method", "turn/completed")
        return server.messages

    def asked(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What `codex app-server` responds to one request."""
        with self._app_server() as server:
            number = server.ask(method, **parameters)
            return server.until("id", number)

    @contextmanager
    def _app_server(self) -> Iterator[AppServer]:
        with self._started("app-server", stdin=subprocess.PIPE) as process:
            server = AppServer(process)
            server.ask("initialize", clientInfo={"name": "test", "version": "1"})
            server.until("result")
            yield server
            assert process.stdin is not None
            process.stdin.close()

    @contextmanager
    def _started(
        self, *arguments: str, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[str]]:
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.config.items()]
        (self.home / "config.toml").write_text("\n".join(lines))
        (self.home / "catalog.json").write_text(json.dumps({"models": [self.catalog]}))
        environment = NO_NETWORK | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home),
            "TRANSLATOR_KEY": self.key,
        }
        with subprocess.Popen(
            [self._binary, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the binary that npm installs is a child of its own script
        ) as process:
            try:
                yield process
            except BaseException:
                end(process, signal.SIGKILL)
                raise


class AppServer:
    """A running `codex app-server`, and all messages that it has sent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._asked = 0
        self.messages: list[dict[str, Any]] = []

    def ask(self, method: str, **parameters: Any) -> int:
        """Send a request; returns its number."""
        assert self._process.stdin is not None
        number = self._asked
        self._asked += 1
        message = {"id": number, "method": method, "params": parameters or None}
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return number

    def until(self, key: str, value: object = None) -> dict[str, Any]:
        """The next message that has this key, and this value."""
        for line in self._process.stdout or ():
            self.messages.append(json.loads(line))
            if self.messages[-1].get(key) is not None and value in (None, self.messages[-1][key]):
                return self.messages[-1]
        raise AssertionError(f"codex app-server ended early: {self.messages}")


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Send a signal to Codex and the programs that belong to it, as a terminal does."""
    if process.poll() is None:
        os.killpg(process.pid, how)


def catalog_entry(model: str) -> dict[str, Any]:
    """An entry of Codex's model catalog with every capability that Codex knows."""
    levels = ("low", "medium", "high")
    return {
        "slug": model,
        "display_name": model,
        "description": "a scripted model",
        "default_reasoning_level": "high",
        "supported_reasoning_levels": [{"effort": level, "description": level} for level in levels],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": 1,
        "upgrade": None,
        "base_instructions": "You are a coding agent.",
        "default_reasoning_summary": "auto",
        "supports_reasoning_summaries": True,
        "support_verbosity": True,
        "default_verbosity": "low",
        "apply_patch_tool_type": "freeform",
        "web_search_tool_type": "text",
        "truncation_policy": {"mode": "tokens", "limit": 10000},
        "supports_parallel_tool_calls": True,
        "context_window": 262144,
        "effective_context_window_percent": 95,
        "experimental_supported_tools": [],
        "input_modalities": ["text", "image"],
        "supports_search_tool": False,
    }
