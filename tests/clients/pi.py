"""pi: the program on the command line, and the agent behind other programs.

`pi --mode rpc` reads commands and writes events, one JSON value per line, on stdin and stdout. One
process holds one session after the other, and a prompt is over with `agent_settled`.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .conftest import KEY, NO_NETWORK

TURN_TIMEOUT_S = 90


class Seen:
    """What one prompt showed, in order of its events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def pieces(self, kind: str) -> list[str]:
        """What grew: `text_delta`, `thinking_delta`."""
        grown = [event.get("assistantMessageEvent", {}) for event in self.events]
        return [event["delta"] for event in grown if event.get("type") == kind]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The messages of the model, as they are in the end: `content`, `stopReason`, `usage`."""
        ended = [event["message"] for event in self.events if event["type"] == "message_end"]
        return [message for message in ended if message["role"] == "assistant"]

    @property
    def texts(self) -> list[str]:
        return self._parts("text", "text")

    @property
    def thoughts(self) -> list[str]:
        return self._parts("thinking", "thinking")

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type."""
        return [event for event in self.events if event["type"] == kind]

    def _parts(self, kind: str, key: str) -> list[str]:
        parts = [part for answer in self.answers for part in answer["content"]]
        return [part[key] for part in parts if part["type"] == kind]


class Pi:
    """The agent, as long as `pi_agent` lasts."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def new_session(self) -> None:
        self._until("response", Seen(), type="new_session")

    def think(self, level: str) -> None:
        """The level of thinking from now on, as "high"."""
        self._until("response", Seen(), type="set_thinking_level", level=level)

    def ask(self, prompt: str, **more: Any) -> Seen:
        """One prompt, and whatever follows until the agent rests."""
        seen = Seen()
        self._until("agent_settled", seen, type="prompt", message=prompt, **more)
        return seen

    def _until(self, last: str, seen: Seen, **command: Any) -> None:
        assert self._process.stdin is not None
        watchdog = threading.Timer(TURN_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
            for line in self._process.stdout or ():  # bytes: only LF ends a line
                seen.events.append(json.loads(line))
                assert seen.events[-1].get("success", True), seen.events[-1]
                if seen.events[-1]["type"] == last:
                    return
        finally:
            watchdog.cancel()
        raise AssertionError(f"pi ended in mid-turn, with {self._process.poll()}")


@contextmanager
def pi_agent(binary: str, home: Path, *arguments: str) -> Iterator[Pi]:
    """`pi --mode rpc`."""
    with subprocess.Popen(
        [binary, "--mode", "rpc", *arguments],
        cwd=home,
        env=environment(binary, home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield Pi(process)
        finally:
            process.kill()


def pi_run(binary: str, home: Path, project: Path, script: str) -> tuple[int, str, str]:
    """A shell script that calls `pi`, as a user types it: exit code, stdout and stderr."""
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=project,
        env=environment(binary, home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TURN_TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def environment(binary: str, home: Path) -> dict[str, str]:
    """A home of its own, no network, and of this process only the PATH.

    In front of it stands where pi is: what is installed with it is a node that is new enough.
    """
    return NO_NETWORK | {
        "PATH": f"{Path(binary).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "FIREWORKS_API_KEY": KEY,
        "PI_OFFLINE": "1",
        "PI_TELEMETRY": "0",
    }
