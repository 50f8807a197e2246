"""The clients that are written for Node: programs in `node/` that run one case after the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .conftest import NO_NETWORK, Stage, clients_folder, find_package, needed
from .upstream import Call, Turn

PROGRAMS = Path(__file__).parent / "node"
CASE_TIMEOUT_S = 60

# What `node/cases.mjs` asks and shows, and what its model says.
PROMPT = "What is the weather?"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
PIXEL_URL = f"data:image/png;base64,{PIXEL}"
THOUGHT = "They ask for the weather.\nIt is “fine”, I think."
TOOL_LOOP = (
    Turn(
        reasoning=THOUGHT,
        text="Let me look.",
        calls=[
            Call("a", "weather", {"city": "Rome"}),
            Call("b", "weather", {"city": "Reykjavík"}),
        ],
    ),
    Turn(reasoning="Now I know.", text="Rome is warmer."),
)


def workshop(scratch: Path, *packages: str) -> Path:
    """A folder for programs that use these packages, with ours in it.

    Node looks for packages beside the program, so the folder has a link to where they are.
    """
    needed("node", shutil.which("node"))
    for package in packages:
        needed(f"the package {package}", find_package(package))
    folder = scratch / "node"
    folder.mkdir()
    (folder / "node_modules").symlink_to(clients_folder().resolve() / "node_modules")
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


def environment(home: Path) -> dict[str, str]:
    """Of this process only the PATH: no setting of the machine may reach a client."""
    return NO_NETWORK | {"PATH": os.environ["PATH"], "HOME": str(home)}


class Program:
    """A program of `node/`, for as long as `running` lasts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, case: str, stage: Stage, **settings: Any) -> dict[str, Any]:
        """What the user of the client sees of this case, on the model of that stage."""
        asked = {"name": case, "baseURL": stage.base_url, "model": stage.model} | settings
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(CASE_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        assert line, f"the program ended in mid-case, with {self._process.poll()}"
        seen: dict[str, Any] = json.loads(line)
        return seen


@contextmanager
def running(folder: Path, program: str) -> Iterator[Program]:
    """One program in a `workshop`, ready for cases."""
    with subprocess.Popen(
        ["node", program],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def run_script(folder: Path, source: str, **variables: str) -> str:
    """What a program prints, as a user of docs/clients.md would run it."""
    script = folder / "script.mjs"
    script.write_text(source, "utf-8")
    done = subprocess.run(
        ["node", script.name],
        cwd=folder,
        env=environment(folder) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=CASE_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown_image(request: dict[str, Any]) -> str | None:
    """The URL of the one image that a chat request shows the model, or None."""
    parts = [
        part
        for message in request["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert len(urls) <= 1
    return urls[0] if urls else None


# --- what arrives upstream, whichever client asked ----------------------------------------------


def check_tool_loop(stage: Stage) -> None:
    """After `TOOL_LOOP`: the calls, their results and the thought before them came back."""
    first, second = stage.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather"]
    prompt, turn, *results = second["messages"]
    assert prompt == {"role": "user", "content": PROMPT}
    assert turn["content"] == "Let me look."
    assert [call["id"] for call in turn["tool_calls"]] == ["a", "b"]
    assert results == [
        {"role": "tool", "tool_call_id": "a", "content": "Rome: 4 degrees"},
        {"role": "tool", "tool_call_id": "b", "content": "Reykjavík: 9 degrees"},
    ]
    check_thought(stage, turn)


def check_thought(stage: Stage, turn: dict[str, Any]) -> None:
    """`THOUGHT` is back on its turn, word for word, where the dialect takes it."""
    returned = stage.upstream.spoken.returned
    came_back = [turn[name] for name in returned if name in turn]
    assert came_back == ([THOUGHT] if returned else [])


def check_schema(stage: Stage) -> None:
    """The schema of `city` and `degrees` is the upstream's, or is said in words."""
    [request] = stage.requests
    if "json_schema" in stage.upstream.spoken.formats:
        schema = request["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["city", "degrees"]
    else:
        assert request["response_format"] == {"type": "json_object"}
        assert '"required":["city","degrees"]' in request["messages"][0]["content"]


def check_image(stage: Stage) -> None:
    """The pixel is shown to the model; one that reads only is told that there was one."""
    [request] = stage.requests
    if stage.upstream.spoken.images == "none":
        assert shown_image(request) is None
        assert "image" in str(request["messages"][-1]["content"])
    else:
        assert shown_image(request) == PIXEL_URL
