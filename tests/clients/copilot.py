"""Copilot CLI: the program on the command line, and the agent behind editors.

`copilot --acp` speaks the Agent Client Protocol on stdin and stdout: a session is a conversation,
and one process holds many. What a user of an editor sees are the updates of a session, and that is
what tests get.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .conftest import NO_NETWORK

TURN_TIMEOUT_S = 90


class Seen:
    """What one prompt showed, in order of its updates."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.stop_reason = ""
        self.tokens = 0

    @property
    def texts(self) -> list[str]:
        """The pieces of text."""
        return self._chunks("agent_message_chunk")

    @property
    def thoughts(self) -> list[str]:
        return self._chunks("agent_thought_chunk")

    @property
    def calls(self) -> dict[str, str]:
        """The last status of each tool call, by its id."""
        calls = [update for update in self.updates if "toolCallId" in update]
        return {call["toolCallId"]: call["status"] for call in calls if "status" in call}

    def _chunks(self, kind: str) -> list[str]:
        found = [update for update in self.updates if update["sessionUpdate"] == kind]
        return [update["content"]["text"] for update in found]


class Copilot:
    """The agent, as long as `copilot_agent` lasts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._asked = 0

    def session(self, folder: Path) -> str:
        """A new conversation; gives its id."""
        made = self._ask("session/new", Seen(), cwd=str(folder), mcpServers=[])
        return str(made["sessionId"])

    def ask(self, session: str, *parts: dict[str, Any]) -> Seen:
        """One prompt, and whatever follows until the agent rests."""
        seen = Seen()
        result = self._ask("session/prompt", seen, sessionId=session, prompt=parts)
        seen.stop_reason = result["stopReason"]
        seen.tokens = result.get("usage", {}).get("totalTokens", 0)
        return seen

    def initialize(self) -> None:
        self._ask("initialize", Seen(), protocolVersion=1, clientCapabilities={})

    def _ask(self, method: str, seen: Seen, **parameters: Any) -> dict[str, Any]:
        self._asked += 1
        message = {"jsonrpc": "2.0", "id": self._asked, "method": method, "params": parameters}
        assert self._process.stdin is not None
        watchdog = threading.Timer(TURN_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout or ():
                heard = json.loads(line)
                if heard.get("method") == "session/update":
                    seen.updates.append(heard["params"]["update"])
                elif heard.get("id") == self._asked:
                    assert "result" in heard, heard
                    result: dict[str, Any] = heard["result"]
                    return result
        finally:
            watchdog.cancel()
        raise AssertionError(f"Copilot ended in mid-turn, with {self._process.poll()}")


@contextmanager
def copilot_agent(binary: str, home: Path, variables: Mapping[str, str]) -> Iterator[Copilot]:
    """`copilot --acp`, which may use all its tools."""
    with subprocess.Popen(
        [binary, "--acp", "--allow-all-tools", "--allow-all-paths"],
        cwd=home,
        env=environment(home) | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            agent = Copilot(process)
            agent.initialize()
            yield agent
        finally:
            process.kill()


def copilot_run(
    home: Path, project: Path, script: str, variables: Mapping[str, str]
) -> tuple[int, str, str]:
    """A shell script that calls `copilot`, as a user types it: exit code, stdout and stderr."""
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=project,
        env=environment(home) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TURN_TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def environment(home: Path) -> dict[str, str]:
    """A home of its own, no network, and nothing of this process but the PATH."""
    return NO_NETWORK | {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "COPILOT_OFFLINE": "true",  # else it tries for seconds to reach GitHub, and works then
    }
