"""OpenCode, started once for all tests: the server behind its terminal, and the command line.

A project is a folder with an `opencode.json`; one server serves many. What a user of the terminal
sees are the messages of a session and the events in which they grow, and that is what tests get.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from translator.reader.sse import Decoder

from .conftest import KEY, NO_NETWORK

START_TIMEOUT_S = 60
TURN_TIMEOUT_S = 60

# What OpenCode would fetch: a list of all models, its own update, language servers.
QUIET = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
}


class Seen:
    """What one turn of a session showed, told by events as to the terminal."""

    def __init__(self) -> None:
        self.pieces: list[str] = []  # text and reasoning as they grew
        self.waits: list[str] = []  # why it tried again
        self.errors: list[dict[str, Any]] = []  # `name` and `data`
        self._answers: dict[str, dict[str, Any]] = {}  # facts by message id
        self._parts: dict[str, dict[str, Any]] = {}  # by part id

    def add(self, event: dict[str, Any]) -> None:
        match event["type"], event["properties"]:
            case "message.part.delta", {"delta": str(piece)}:
                self.pieces.append(piece)
            case "message.part.updated", {"part": {"id": str(part_id)} as part}:
                self._parts[part_id] = part
            case "message.updated", {"info": {"role": "assistant", "id": str(message_id)} as info}:
                self._answers[message_id] = info
            case "session.status", {"status": {"type": "retry", "message": str(reason)}}:
                self.waits.append(reason)
            case "session.error", {"error": dict(error)}:
                self.errors.append(error)

    @property
    def info(self) -> dict[str, Any]:
        """The facts of the last answer: `finish`, `tokens`, `structured`."""
        return list(self._answers.values())[-1]

    @property
    def texts(self) -> list[str]:
        return [part["text"] for part in self._of_answers("text")]

    @property
    def thoughts(self) -> list[str]:
        return [part["text"] for part in self._of_answers("reasoning")]

    def _of_answers(self, kind: str) -> list[dict[str, Any]]:
        parts = [part for part in self._parts.values() if part["type"] == kind]
        return [part for part in parts if part["messageID"] in self._answers]


class OpenCode:
    """A server of OpenCode that runs."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, project: Path, model: str, *parts: dict[str, Any], **asked: Any) -> Seen:
        """A session of its own: one prompt, and whatever follows until it rests.

        `model` is PROVIDER/MODEL, as on the command line; `asked` are other fields of the prompt.
        """
        provider, _, name = model.partition("/")
        where = {"directory": str(project)}
        # A session with a title asks for none: that would be a second request at the same time.
        session = self._client.post("/session", params=where, json={"title": "a test"}).json()["id"]
        prompt = {"model": {"providerID": provider, "modelID": name}, "parts": parts} | asked
        seen = Seen()
        with self._client.stream("GET", "/event", params=where) as answer:
            events = _events(answer)
            assert next(events)["type"] == "server.connected"  # nothing is missed from here on
            path = f"/session/{session}/prompt_async"
            self._client.post(path, params=where, json=prompt).raise_for_status()
            deadline = time.monotonic() + TURN_TIMEOUT_S
            for event in events:  # a heartbeat at least, every ten seconds
                assert time.monotonic() < deadline, f"the session does not rest: {event}"
                if event["properties"].get("sessionID") == session:
                    if event["type"] == "session.idle":
                        break
                    seen.add(event)
        return seen


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    decoder = Decoder()
    for data in answer.iter_bytes():
        for payload in decoder.feed(data):
            yield json.loads(payload)


def text(prompt: str) -> dict[str, Any]:
    return {"type": "text", "text": prompt}


@contextmanager
def opencode_server(binary: str, home: Path) -> Iterator[OpenCode]:
    """`opencode serve` on a free port."""
    with subprocess.Popen(
        [binary, "serve", "--port", "0"],
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            with httpx.Client(base_url=_address(process), timeout=TURN_TIMEOUT_S) as client:
                yield OpenCode(client)
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, from its first lines."""
    watchdog = threading.Timer(START_TIMEOUT_S, process.kill)
    watchdog.start()
    seen = ""
    try:
        for line in process.stdout or ():
            seen += line
            if address := re.search(r"listening on (http://\S+)", line):
                return address[1]
    finally:
        watchdog.cancel()
    raise AssertionError(f"OpenCode did not start:\n{seen}")


def opencode_run(binary: str, home: Path, project: Path, *arguments: str) -> tuple[int, str, str]:
    """`opencode run` in a project: the exit code, stdout and stderr."""
    done = subprocess.run(
        [binary, "run", "--title", "a test", *arguments],
        cwd=project,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def environment(home: Path) -> dict[str, str]:
    """A home of its own, and nothing of this process but the PATH."""
    folders = {
        f"XDG_{name}_HOME": str(home / name) for name in ("CONFIG", "DATA", "CACHE", "STATE")
    }
    named = {"PATH": os.environ["PATH"], "HOME": str(home), "FIREWORKS_API_KEY": KEY}
    return NO_NETWORK | QUIET | folders | named
