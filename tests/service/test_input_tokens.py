"""`POST /v1/responses/input_tokens`: exact by the upstream's tokenizer, or an estimate."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from translator.service.access.cost import BYTES_PER_TOKEN
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.turns import token_counter

from .capture.captured import files, kept, tracing
from .wire import Call, ScriptedUpstream, bounded, client_of, make_settings, serving

pytestmark = pytest.mark.anyio

PATH = "/v1/responses/input_tokens"
ASK: dict[str, Any] = {"model": "m", "input": "hi"}
HOW = "x-translator-token-count"
TOOL = {"type": "function", "name": "f", "description": "d" * 400, "parameters": {}}


async def count(client: httpx.AsyncClient, path: str = PATH, **fields: Any) -> tuple[int, str]:
    """The number of tokens, and how they were counted."""
    answer = await client.post(path, json=ASK | fields)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"object", "input_tokens"}
    assert found["object"] == "response.input_tokens"
    return found["input_tokens"], answer.headers[HOW]


async def vllm(call: Call) -> None:
    """A tokenizer that counts the words of messages and the names of tools."""
    assert call.path == "/tokenize", "beside /v1"
    text = " ".join(message["content"] for message in call.json["messages"])
    tokens = len(text.split()) + 100 * len(call.json.get("tools", []))
    await call.answer({"count": tokens, "max_model_len": 9, "tokens": list(range(tokens))})


async def llama_cpp(call: Call) -> None:
    """A template, and a tokenizer that counts words."""
    if call.path == "/apply-template":
        text = " ".join(message["content"] for message in call.json["messages"])
        await call.answer({"prompt": f"<s> {text} <e>"})
        return
    assert call.path == "/tokenize"
    assert (call.json["add_special"], call.json["parse_special"]) == (True, True)
    await call.answer({"tokens": call.json["content"].split()})


# --- estimates ------------------------------------------------------------------------------------


async def test_without_a_tokenizer_it_is_an_estimate_that_says_so(
    upstream: ScriptedUpstream,
) -> None:
    """A token per four bytes of the text of the chat request; no upstream is asked."""
    async with upstream.client() as client:
        small, how = await count(client)
        assert how == "estimate"
        assert 1 <= small <= 10
        assert await count(client, "/responses/input_tokens") == (small, how)
        long, _ = await count(client, input="x" * 4000)
        assert long == small + 4000 // BYTES_PER_TOKEN
        wide, _ = await count(client, input="é" * 4000)
        assert wide == small + 8000 // BYTES_PER_TOKEN
        told, _ = await count(client, instructions="y" * 400)
        assert small + 100 <= told <= small + 110
        armed, _ = await count(client, tools=[TOOL])
        assert small + 100 <= armed <= small + 150
        ignoring_stream, _ = await count(client, stream=True)
        assert ignoring_stream == small
    assert upstream.calls == []


async def test_the_history_counts_with_its_calls(upstream: ScriptedUpstream) -> None:
    items = [
        {"role": "user", "content": "a" * 40},
        {
            "type": "function_call",
            "call_id": "c",
            "name": "f",
            "arguments": f'{{"a":"{"b" * 400}"}}',
        },
        {"type": "function_call_output", "call_id": "c", "output": "o" * 800},
    ]
    async with upstream.client() as client:
        found = [(await count(client, input=items[:end]))[0] for end in (1, 3)]
    assert 300 <= found[1] - found[0] <= 340


@pytest.mark.parametrize("dialect", ["base", "vllm", "llama_cpp"])
async def test_images_are_estimated_and_not_by_their_bytes(
    upstream: ScriptedUpstream, dialect: str
) -> None:
    """A tokenizer would count a placeholder, base64 would count a hundredfold."""
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{'A' * 400_000}"}
    text = {"type": "input_text", "text": "look"}
    async with upstream.client(upstream={"dialect": dialect}) as client:
        one, how = await count(client, input=[{"role": "user", "content": [text, image]}])
        two, _ = await count(client, input=[{"role": "user", "content": [text, image, image]}])
    assert how == "estimate"
    assert two - one == token_counter.TOKENS_PER_PART
    assert one < 2000
    assert upstream.calls == []


# --- exact ----------------------------------------------------------------------------------------


async def test_vllm_counts_the_translated_request(upstream: ScriptedUpstream) -> None:
    """Instructions, history, tools, and what the template is told of the effort."""
    upstream.script = vllm
    facts = {"dialect": "vllm"}
    async with upstream.client(upstream=facts, key="operators-key") as client:
        fields = {"instructions": "be very brief", "tools": [TOOL], "reasoning": {"effort": "low"}}
        assert await count(client, input="one two", **fields) == (105, "exact")
        assert await count(client, input="one two") == (2, "exact")
    request = upstream.calls[0].json
    assert request["model"] == "m"
    assert request["add_generation_prompt"] is True
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["tools"][0]["function"]["name"] == "f"
    assert request["chat_template_kwargs"]["reasoning_effort"] == "low"
    assert request.keys() == {"model", "messages", "tools", "chat_template_kwargs", "add_generation_prompt"}  # fmt: skip
    assert upstream.calls[0].headers["authorization"] == "Bearer operators-key"


async def test_llama_cpp_writes_the_prompt_and_counts_it(upstream: ScriptedUpstream) -> None:
    upstream.script = llama_cpp
    models = {"big": {"upstream": "up", "upstream_model": "org/big", "dialect": "llama_cpp"}}
    async with client_of(make_settings(upstream.url, models=models)) as client:
        headers = {"authorization": "Bearer clients-key"}
        answer = await client.post(PATH, json=ASK | {"model": "big"}, headers=headers)
    assert (answer.json()["input_tokens"], answer.headers[HOW]) == (3, "exact")
    assert [call.path for call in upstream.calls] == ["/apply-template", "/tokenize"]
    assert {call.json["model"] for call in upstream.calls} == {"org/big"}
    assert {call.headers["authorization"] for call in upstream.calls} == {"Bearer clients-key"}


async def test_a_fact_says_that_another_upstream_counts(upstream: ScriptedUpstream) -> None:
    upstream.script = vllm
    facts = {"facts": {"token_endpoint": "tokenize"}}
    async with upstream.client(upstream=facts) as client:
        assert await count(client, input="one two three") == (3, "exact")


async def test_a_model_that_the_tokenizer_does_not_know_is_estimated(
    upstream: ScriptedUpstream,
) -> None:
    """The prompts of gpt-oss have no template, by which vLLM would count."""
    upstream.script = vllm
    async with upstream.client(upstream={"dialect": "vllm"}) as client:
        assert (await count(client, model="openai/gpt-oss-120b"))[1] == "estimate"
    assert upstream.calls == []


async def test_openai_reads_the_number(upstream: ScriptedUpstream) -> None:
    upstream.script = vllm
    settings = make_settings(upstream.url, upstream={"dialect": "vllm"})
    async with serving(settings) as base:
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="k") as client:
            found = await client.responses.input_tokens.count(model="m", input="one two")
    assert (found.input_tokens, found.object) == (2, "response.input_tokens")


# --- when the tokenizer does not count -------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_missing_tokenizer_is_remembered_for_a_while(
    upstream: ScriptedUpstream, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0

    async def missing(call: Call) -> None:
        await call.answer({"detail": "Not Found"}, status)

    upstream.script = missing
    settings = make_settings(upstream.url, upstream={"dialect": "vllm"})
    async with client_of(settings, timer=lambda: now) as client:
        for _ in range(3):
            assert (await count(client))[1] == "estimate"
        assert len(upstream.calls) == 1
        assert "has no tokenizer" in caplog.text
        now += token_counter.MISSING_S + 1
        upstream.script = vllm
        assert (await count(client)) == (1, "exact")


ODD: list[tuple[int, Any]] = [
    (400, {"error": {"message": "roles must alternate"}}),
    (401, {"error": "Unauthorized"}),
    (500, {}),
    (200, {"count": 0}),
    (200, {"count": -5}),
    (200, {"count": 10**12}),
    (200, {"count": "many"}),
    (200, {"tokens": [1, 2]}),
    (200, [1]),
    (302, {}),
]


async def test_what_it_says_instead_is_no_error(upstream: ScriptedUpstream) -> None:
    """The request gets an estimate; the next one is counted."""
    async with upstream.client(upstream={"dialect": "vllm"}, key="k" * 20) as client:
        for status, body in ODD:

            async def odd(call: Call, status: int = status, body: Any = body) -> None:
                await call.answer(json.dumps(body).encode(), status)

            upstream.script = odd
            assert (await count(client))[1] == "estimate", body
            upstream.script = vllm
            assert (await count(client))[1] == "exact", body


async def test_a_tokenizer_that_breaks_off_is_no_error(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent, cut, or endless: an estimate, and for a while it is not asked again."""
    now, left = 1000.0, asyncio.Event()
    monkeypatch.setattr(token_counter, "TIMEOUT_S", 0.05)

    async def silent(call: Call) -> None:
        await call.gone()
        left.set()

    async def endless(call: Call) -> None:
        await call.head(200, "application/json")
        while True:
            await call.send(b" " * 100_000)

    async def cut(call: Call) -> None:
        await call.head(200, "application/json")
        await call.cut(b'{"count": 5')

    settings = make_settings(upstream.url, upstream={"dialect": "vllm"})
    async with client_of(settings, timer=lambda: now) as client:
        upstream.script = silent
        assert (await count(client))[1] == "estimate"
        await bounded(left.wait())
        asked = len(upstream.calls)
        assert (await count(client))[1] == "estimate"
        assert len(upstream.calls) == asked
        monkeypatch.setattr(token_counter, "TIMEOUT_S", 20)
        monkeypatch.setattr(token_counter, "MAX_ANSWER_BYTES", 500_000)
        for script in (endless, cut):
            now += token_counter.SILENT_S + 1
            upstream.script = script
            assert (await count(client))[1] == "estimate"
        now += token_counter.SILENT_S + 1
        upstream.script = vllm
        assert (await count(client))[1] == "exact"


async def test_an_upstream_that_is_down_is_no_error() -> None:
    settings = make_settings("http://127.0.0.1:9/v1", upstream={"dialect": "llama_cpp"}, retries=0)
    async with client_of(settings) as client:
        assert (await count(client))[1] == "estimate"


# --- as on the other paths ------------------------------------------------------------------------


async def test_what_cannot_be_translated_is_refused_as_there(upstream: ScriptedUpstream) -> None:
    models = {"m": {"upstream": "up"}}
    async with client_of(make_settings(upstream.url, models=models)) as client:
        for fields in (
            {"model": "other"},
            {"model": None},
            {"input": 5},
            {"previous_response_id": "resp_1"},
            {"conversation": "conv_1"},
            {"tools": [{"type": "function"}]},
        ):
            counted = await client.post(PATH, json=ASK | fields)
            asked = await client.post("/v1/responses", json=ASK | fields)
            assert counted.status_code == asked.status_code >= 400
            assert counted.json() == asked.json()
        broken = await client.post(PATH, content=b"{")
        wrong = await client.get(PATH)
    assert (broken.status_code, wrong.status_code) == (400, 405)
    assert wrong.headers["allow"] == "POST"
    assert upstream.calls == []


async def test_it_costs_a_request_and_no_tokens(upstream: ScriptedUpstream) -> None:
    """The limits of a client hold; nothing was generated."""
    key = new_key()
    client_section = {
        "keys": [str(store(key))],
        "requests_per_minute": 3,
        "tokens_per_minute": 1000,
    }
    table = {
        "upstreams": {"up": {"base_url": upstream.url, "dialect": "vllm"}},
        "clients": {"a": client_section},
    }
    upstream.script = vllm
    headers = {"authorization": f"Bearer {key}"}
    body = ASK | {"input": "word " * 600}
    async with client_of(read_table(table, {}), clock=lambda: 0.0) as client:
        assert (await client.post(PATH, json=body)).status_code == 401
        statuses = [
            (await client.post(PATH, json=body, headers=headers)).status_code for _ in "1234"
        ]
    assert statuses == [200, 200, 200, 429]
    assert "authorization" not in upstream.calls[0].headers, "the key is for this service alone"


async def test_it_is_measured_logged_and_traced(
    upstream: ScriptedUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"))
    async with tracing(settings) as client:
        await count(client)
        page = (await client.get("/metrics")).text
    assert 'endpoint="input_tokens"' in page
    assert f"POST {PATH} 200" in caplog.text
    assert "model=m" in caplog.text
    [folder] = kept(tmp_path / "t")
    assert "request.json" in files(folder)


async def test_a_notice_is_told(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"tools": [{"type": "web_search"}]})
    assert answer.headers["x-translator-notices"]
