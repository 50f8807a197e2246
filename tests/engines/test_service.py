"""The service in front of a real engine: load, clients that leave, an engine that dies."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.conftest import Codex, find_program, needed, serving
from tests.invariants import check_wire
from tests.service.responses_api import events

from .engine import MODEL, ROOT, TIMEOUT_S, Client, Engine, ended, items
from .requests import WEATHER, hi
from .script import ENDLESS, REASONING, SHELL, SHELL_WORD, TERSE, TEXT

STREAMS, AT_ONCE = 1_200, 16


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "every second one cut"])
def test_many_streams_lose_none(service_url: str, cut: bool) -> None:
    """llama.cpp closes each connection after a streamed answer, and promises to keep it."""
    numbers = iter(range(STREAMS))
    found: dict[str, int] = {}

    async def ask_one_after_the_other(client: httpx.AsyncClient) -> None:
        for number in numbers:
            ask: dict[str, Any] = {"model": MODEL, "input": hi(TERSE), "stream": True}
            if cut and number % 2:
                ask["max_output_tokens"] = 4
            answer = await client.post("/responses", json=ask)
            end = str(answer.status_code)
            if end == "200":
                end = ended(events(answer.content)[-1]["response"])
            found[end] = found.get(end, 0) + 1

    async def all_of_them() -> None:
        async with httpx.AsyncClient(base_url=service_url, timeout=TIMEOUT_S) as client:
            await asyncio.gather(*(ask_one_after_the_other(client) for _ in range(AT_ONCE)))

    asyncio.run(all_of_them())
    half = STREAMS // 2
    wanted = {"completed": half, "incomplete:max_output_tokens": half}
    assert found == (wanted if cut else {"completed": STREAMS})


def in_use(engine: Engine) -> int:
    """How many of llama.cpp's slots compute."""
    slots = httpx.get(engine.base_url.removesuffix("/v1") + "/slots", timeout=TIMEOUT_S).json()
    return sum(slot["is_processing"] for slot in slots)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_engine_stops_when_a_client_leaves(
    service_url: str, engine: Engine, only_llama_cpp: None
) -> None:
    wait_until(lambda: in_use(engine) == 0)
    ask = {"model": MODEL, "input": hi(ENDLESS, TERSE), "stream": True}
    with httpx.stream("POST", f"{service_url}/responses", json=ask, timeout=TIMEOUT_S) as answer:
        lines = answer.iter_lines()  # kept, for it closes the answer when it is gone
        next(line for line in lines if "output_text.delta" in line)
        wait_until(lambda: in_use(engine) == 1)
    wait_until(lambda: in_use(engine) == 0)


def test_an_engine_that_dies_in_a_stream(llama_server: Callable[..., Engine]) -> None:
    dying = llama_server(n_ctx=8_192, n_parallel=1)
    ask = {"model": MODEL, "input": hi(ENDLESS, TERSE), "stream": True}
    body = b""
    with serving(dying.base_url, "--dialect", "llama_cpp") as url:
        with httpx.stream("POST", f"{url}/responses", json=ask, timeout=TIMEOUT_S) as answer:
            for chunk in answer.iter_bytes():
                if b"output_text.delta" in chunk:
                    dying.process.kill()
                body += chunk
        found = events(body)
        assert found[-1]["type"] == "response.failed"
        assert check_wire(found)["error"]["code"] == "server_error"
        again = httpx.post(f"{url}/responses", json=ask, timeout=TIMEOUT_S)
    assert again.status_code == 502


def test_another_template(llama_server: Callable[..., Engine], tmp_path: Path) -> None:
    """One that shows the model nothing but a cue: it does not reason."""
    template = tmp_path / "template.jinja"
    template.write_text(f"<|user|>{TERSE}<|end|><|assistant|>")
    other = llama_server(template=template, n_ctx=4_096, n_parallel=1)
    with serving(other.base_url, "--dialect", "llama_cpp") as url:
        client = Client(url)
        assert items(client.ask(True, input=hi())) == [f"M {TEXT}"]
        client.close()


# --- the probe ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def probed(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The settings that `translator probe` prints, as a file; and what it says meanwhile."""
    command = [sys.executable, "-m", "translator", "probe"]
    done = subprocess.run(
        [*command, "--upstream", engine.base_url, "--model", MODEL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=10 * TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    file = tmp_path_factory.mktemp("probe") / "settings.toml"
    file.write_text(done.stdout)
    return file, done.stderr


def test_the_probe_loses_no_question(probed: tuple[Path, str], engine: Engine) -> None:
    file, log = probed
    assert "connection" not in log
    assert "no answer" not in log
    [upstream] = tomllib.loads(file.read_text())["upstreams"].values()
    assert upstream["base_url"] == engine.base_url


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_the_probe_prints_works(probed: tuple[Path, str], stream: bool) -> None:
    with serving(None, "--config", str(probed[0])) as url:
        client = Client(url)
        assert items(client.ask(stream, input=hi())) == [f"R {REASONING}", f"M {TEXT}"]
        asked = client.ask(stream, input=hi(TERSE), tools=[WEATHER])
        assert items(asked) == ['F get_weather {"city": "Oslo"}']
        client.close()


# --- Codex ----------------------------------------------------------------------------------------


def test_codex_runs_a_command(engine: Engine, tmp_path: Path) -> None:
    """Its own prompt and tools; the command's output is in what it sends next."""
    binary = needed("the Codex CLI", find_program("codex"))
    traces = tmp_path / "traces"
    options = ("--dialect", engine.dialect, "--trace", str(traces))
    with serving(engine.base_url, *options) as url:
        outcome = Codex(binary, tmp_path, url).exec(f"Say the word. {SHELL}")
    assert outcome.code == 0, outcome.log
    assert outcome.last_message.strip() == TEXT
    sent = [json.loads(file.read_text()) for file in sorted(traces.glob("*/request.json"))]
    given = itertools.chain.from_iterable(ask["input"] for ask in sent)
    outputs = [item["output"] for item in given if item["type"] == "function_call_output"]
    assert any(SHELL_WORD in json.dumps(output) for output in outputs)
