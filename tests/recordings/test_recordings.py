"""Recorded answers of llama.cpp, vLLM and transformers serve; README.md says what is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import translator
from tests.invariants import check_events, check_response_types
from tests.replaying import translation
from translator import DIALECTS, Dialect, TranslatorError
from translator.captures.notation import summary_of
from translator.dialects.think_tags import Tags

HERE = Path(__file__).parent
RECORDINGS = sorted(path.parent for path in HERE.glob("*/*/request.json"))
SPOKEN = {
    "llama.cpp": DIALECTS["llama_cpp"],
    "vllm": DIALECTS["vllm"],
    "transformers-serve": msgspec.structs.replace(
        DIALECTS["base"], think_tags=Tags(), recover_calls=True
    ),
}


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client must see: a response, or an error where `http` is its status."""

    items: list[str] = []
    status: str = "completed"
    logprobs: int | None = None
    """How many tokens of the text have log probabilities; none: null."""
    http: int | None = None
    code: str | None = None
    says: str = ""


OUTCOMES = msgspec.toml.decode(
    (HERE / "outcomes.toml").read_bytes(), type=dict[str, dict[str, Outcome]]
)


def as_written(item: str, wanted: str) -> str:
    """The notation of an item as far as `wanted` leaves none of it open."""
    if wanted.startswith("J "):
        assert item.startswith("M ")
        assert json.loads(item[2:]) == json.loads(wanted[2:])
        return wanted
    if wanted.startswith("F"):
        kind, name, call_id, arguments = item.split(" ", 3)
        assert call_id
        return f"{kind} {name} * {arguments}"
    return item


def usage_in(body: bytes) -> dict[str, int]:
    """The last usage in an engine's bytes, by the names of the Responses API."""
    lines = [line.removeprefix(b"data: ") for line in body.splitlines()]
    values = [json.loads(line) for line in lines if line.startswith(b"{")]
    [*_, usage] = [value["usage"] for value in values if value.get("usage")]
    return {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        "reasoning": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    }


def answer(
    folder: Path, request: bytes, dialect: Dialect, chunk_bytes: int
) -> tuple[dict[str, Any], list[Any]]:
    """The response to the client and its events, if any. Raises TranslatorError."""
    t = translation(request, dialect=dialect)
    refusal = folder / "upstream.http"
    if refusal.is_file():
        head, _, body = refusal.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
        raise translator.read_upstream_error(int(head.split()[1]), body)
    if (folder / "upstream.json").is_file():
        response = json.loads(
            translator.encode_json(t.complete((folder / "upstream.json").read_bytes()))
        )
        check_response_types(response)
        return response, []
    body = (folder / "upstream.sse").read_bytes()
    events = t.start()
    for at in range(0, len(body), chunk_bytes):
        events += t.receive(body[at : at + chunk_bytes])
    events += t.close()
    if t.error is not None and not t.produced:
        raise t.error
    wire = [json.loads(translator.encode_json(event)) for event in events]
    return check_events(events), wire


@pytest.mark.parametrize("chunk_bytes", [1_000_000, 97])
@pytest.mark.parametrize(
    "folder", RECORDINGS, ids=lambda folder: folder.relative_to(HERE).as_posix()
)
def test_recording(folder: Path, chunk_bytes: int) -> None:
    engine, case = folder.parent.name, folder.name.rpartition("-")[0]
    wanted = OUTCOMES[engine][case]
    request = (folder / "request.json").read_bytes()
    if wanted.http is not None:
        with pytest.raises(TranslatorError) as refused:
            answer(folder, request, SPOKEN[engine], chunk_bytes)
        error = refused.value
        assert (error.status_hint, error.code) == (wanted.http, wanted.code)
        assert wanted.says in error.message
        return
    response, events = answer(folder, request, SPOKEN[engine], chunk_bytes)
    found = summary_of(response, events)
    assert len(found.items) == len(wanted.items)
    assert [*map(as_written, found.items, wanted.items)] == wanted.items
    assert found.status == wanted.status
    usage = response["usage"]
    usage["cached"] = usage.pop("input_tokens_details")["cached_tokens"]
    usage["reasoning"] = usage.pop("output_tokens_details")["reasoning_tokens"]
    assert usage == usage_in((folder / f"upstream.{'sse' if events else 'json'}").read_bytes())
    for item in response["output"]:
        if item["type"] == "message" and item["content"][0]["logprobs"]:
            logprobs = item["content"][0]["logprobs"]
            assert "".join(one["token"] for one in logprobs) == item["content"][0]["text"]
            assert len(logprobs) == wanted.logprobs


def test_each_outcome_is_one_of_a_recording() -> None:
    recorded = {(path.parent.name, path.name.rpartition("-")[0]) for path in RECORDINGS}
    assert recorded == {(engine, case) for engine, cases in OUTCOMES.items() for case in cases}
