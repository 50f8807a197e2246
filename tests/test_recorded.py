"""Real bodies of real upstreams, against an independent reading of them.

The bodies are not part of the project; where they lie beside it (`../shared/recorded`), every one
is replayed and must give the items, the status and the usage that the other reading found.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import translator
from tests.invariants import check_events
from tests.replaying import replay
from translator.wire import items

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "recorded"

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded upstream bodies are not beside the project"
)

DIALECTS = {
    "deepseek": "deepseek",
    "moonshot": "moonshot",
    "zai-glm": "zai",
    "openrouter": "openrouter",
    "ollama": "ollama",
    "llama-cpp": "llama_cpp",
    "tgi": "base",
}
"""Dialects by folder; the tolerant base for all others."""

NOT_STREAMS = {
    "tgi/tgi-flash_llama_grammar_tools_choice_stream.json": "failed",
}
"""Bodies whose file is a list of chunks without an end, and the end they have therefore."""

CACHED = {"llama-cpp/fantasy-llama-cpp-gpt-oss-tool_streaming.1.sse.txt": 138}
"""The other reading does not look into llama.cpp's `timings`, where this body has its count."""


def _expected() -> dict[str, Any]:
    path = RECORDED / "EXPECTED.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _body(name: str) -> bytes:
    path = RECORDED / name
    data = path.read_bytes()
    if name.endswith(".chunks.txt"):  # one chunk a line, without its framing and without [DONE]
        return b"".join(b"data: " + line + b"\n\n" for line in data.splitlines() if line)
    if name.endswith(".json"):
        value = json.loads(data)
        if isinstance(value, dict):
            chunks = value["response"]["body"]
            value = [chunk.get("__data__", chunk) for chunk in chunks]
        return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in value)
    return data


def _same_text(actual: str, expected: Any) -> bool:
    if isinstance(expected, str):
        return actual == expected
    digest = hashlib.sha256(actual.encode()).hexdigest()
    return len(actual) == expected["len"] and digest.startswith(expected["sha256"])


def _same_item(actual: items.OutputItem, expected: list[Any]) -> bool:
    match actual, expected:
        case items.Reasoning(), ["R", text]:
            return _same_text(actual.summary[0].text, text)
        case items.Message(content=[items.OutputText(text=text)]), ["M", wanted]:
            return _same_text(text, wanted)
        case items.Message(content=[items.OutputRefusal(refusal=text)]), ["X", wanted]:
            return _same_text(text, wanted)
        case items.FunctionCall(), ["F", name, call_id, arguments]:
            same_id = call_id in (None, "", actual.call_id)
            return actual.name == name and same_id and _same_text(actual.arguments, arguments)
        case _:
            return False


@pytest.mark.parametrize("name", sorted(_expected()))
def test_recorded_body(name: str) -> None:
    """Items, status and usage agree with the independent reading; no event breaks a rule."""
    expected = _expected()[name]
    dialect = DIALECTS.get(name.split("/", 1)[0], "base")
    events, response = replay(_body(name), dialect=dialect)
    check_events(events)
    status = NOT_STREAMS.get(name, expected["status"].split("(")[0])
    actual = response.status
    if response.incomplete_details:
        actual = f"{actual}:{response.incomplete_details.reason}"
    assert actual == status
    wanted = expected["items"]
    if status == "failed":  # what was open when it broke off is never closed
        wanted = wanted[: len(response.output)]
    assert len(response.output) == len(wanted), [type(item).__name__ for item in response.output]
    for item, want in zip(response.output, wanted, strict=True):
        assert _same_item(item, want), (item, want)
    if expected["usage"] is None:
        assert response.usage is None
    else:
        assert response.usage is not None
        assert response.usage.input_tokens == expected["usage"]["input_tokens"]
        assert response.usage.output_tokens == expected["usage"]["output_tokens"]
        assert response.usage.total_tokens == expected["usage"]["total_tokens"]
        cached = response.usage.input_tokens_details.cached_tokens
        assert cached == CACHED.get(name, expected["usage"]["cached_tokens"])
        reasoning = response.usage.output_tokens_details.reasoning_tokens
        assert reasoning == expected["usage"]["reasoning_tokens"]
    assert translator.encode_json(response)
