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
        messages: list[dict[str, Any]] = []
        with self._started("app-server", stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def ask(method: str, **parameters: Any) -> None:
                message = {"id": len(messages), "method": method, "params": parameters}
                process.stdin.write(json.dumps(message) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]

            def until(key: str, value: object = None) -> dict[str, Any]:
                for line in process.stdout or ():
                    messages.append(json.loads(line))
                    if messages[-1].get(key) is not None and value in (None, messages[-1][key]):
                        return messages[-1]
                raise AssertionError(f"codex app-server ended early: {messages}")

            ask("initialize", clientInfo={"name": "test", "version": "1"})
            until("result")
            ask("thread/start", cwd=str(self.folder))
            thread = until("result")["result"]["thread"]["id"]
            ask("turn/start", threadId=thread, input=[{"type": "text", "text": prompt}])
            until("method", "turn/completed")
            process.stdin.close()
        return messages

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
            "TRANSLATOR_KEY": KEY,
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
