"""An engine as a process, and a client that checks all that it is answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.invariants import check_response_types, check_wire
from tests.service.responses_api import events

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
"""Upper bound of each wait; an engine with all else on two cores needs a few seconds."""
MODEL = "parrot"
VLLM = ROOT / ".engines" / "vllm" / "bin" / "vllm"


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    name: str
    dialect: str
    base_url: str
    process: subprocess.Popen[Any]
    log: Path


@contextmanager
def llama_cpp(model: Path, log: Path, **fields: Any) -> Iterator[Engine]:
    """llama.cpp's server on a model; `fields` are fields of its parameters."""
    command = [sys.executable, "-m", "tests.engines.llama_cpp", str(model), json.dumps(fields)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # empty when it ends
        assert line.startswith("listens on "), log.read_text()
        base_url = line.removeprefix("listens on ").strip() + "/v1"
        yield Engine("llama.cpp", "llama_cpp", base_url, process, log)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def vllm(checkpoint: Path, log: Path, port: int) -> Iterator[Engine]:
    """The server of vLLM, on a checkpoint, as docs/engines.md installs it."""
    command = [str(VLLM), "serve", str(checkpoint), "--served-model-name", MODEL]
    command += ["--port", str(port), "--enforce-eager", "--dtype", "float32"]
    command += ["--max-model-len", "32768", "--max-num-seqs", "16"]
    command += ["--reasoning-parser", "qwen3"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **offline}, stdout=file, stderr=subprocess.STDOUT
        )
    base_url = f"http://127.0.0.1:{port}/v1"
    try:
        until = time.monotonic() + 10 * TIMEOUT_S
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            try:
                httpx.get(f"{base_url}/models").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(1)
        yield Engine("vLLM", "vllm", base_url, process, log)
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


class Refused(Exception):
    """An answer that is an error: `status`, and `error` as an object."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error


class Client:
    """A client of the Responses API that checks each answer against the contract.

    `checked`: by the invariants of tests/invariants.py, which hold for translator.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._http = httpx.Client(base_url=base_url, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._http.close()

    def ask(self, stream: bool, /, **request: Any) -> dict[str, Any]:
        """The final response. Raises Refused."""
        answer = self._http.post("/responses", json={"model": MODEL, "stream": stream, **request})
        if answer.status_code != 200:
            raise Refused(answer.status_code, answer.json()["error"])
        if stream:
            return check_wire(events(answer.content))
        response: dict[str, Any] = answer.json()
        check_response_types(response)
        return response


def items(response: dict[str, Any]) -> list[str]:
    """The output in short: R, M, F or C, `!` where the item is incomplete, and the content."""
    found = []
    for item in response["output"]:
        match item["type"]:
            case "reasoning":
                parts = item["summary"] or item["content"]
                text = "R", "".join(part["text"] for part in parts)
            case "message":
                text = "M", "".join(part["text"] for part in item["content"])
            case "function_call":
                space = f"{item['namespace']}/" if item.get("namespace") else ""
                text = "F", f"{space}{item['name']} {item['arguments']}"
            case "custom_tool_call":
                text = "C", f"{item['name']} {item['input']}"
            case other:
                raise AssertionError(other)
        mark = "!" if item.get("status") == "incomplete" else ""
        found.append(f"{text[0]}{mark} {text[1]}")
    return found


def ended(response: dict[str, Any]) -> str:
    """The status, and why it is incomplete or failed."""
    why = response["incomplete_details"] or response["error"] or {}
    return ":".join(filter(None, (response["status"], why.get("reason") or why.get("code"))))
