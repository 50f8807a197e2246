"""Captured exchanges are complete, and replay to the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests import fixture_cases
from tests.fixture_cases import Case
from tests.fixture_cases import run as run_case
from tests.service.chat_bodies import COMPLETION, HELLO, chunk
from tests.service.responses_api import ASK, PATH, events
from tests.service.wire import Call, ScriptedUpstream, bounded, hello_then_silence, make_settings
from translator.__main__ import main

from .captured import (
    CLIENT_KEY,
    END,
    OWN_KEY,
    THINKING,
    answering,
    assert_fixture,
    assert_replays,
    contents,
    exchange_toml,
    files,
    kept,
    tracing,
    tracing_server,
)

pytestmark = pytest.mark.anyio


async def test_a_stream_is_captured_byte_for_byte(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream.script = answering(*THINKING)
    body = json.dumps(ASK | {"truncation": "auto", "store": False}).encode()
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        answer = await client.post(PATH, content=body, headers={"user-agent": "codex/1"})
    [folder] = kept(tmp_path / "t")
    assert files(folder) == {
        "exchange.toml", "request.json", "chat.json", "upstream.sse", "events.jsonl"
    }  # fmt: skip
    assert (folder / "request.json").read_bytes() == body
    assert (folder / "chat.json").read_bytes() == upstream.calls[0].body
    assert (folder / "upstream.sse").read_bytes() == b"".join(THINKING)
    sent = [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]
    assert sent == events(answer.content)
    about = exchange_toml(folder)
    assert about["id"] == answer.headers["x-request-id"]
    assert (about["model"], about["outcome"], about["status"]) == ("m", "completed", 200)
    assert about["user_agent"] == "codex/1"
    assert about["upstream"]["name"] == "up"
    assert about["upstream"]["headers"] == {"content-type": "text/event-stream"}
    assert [notice["code"] for notice in about["notices"]] == ["ignored"]
    assert 0 <= about["upstream_s"] <= about["output_s"] <= about["seconds"]
    assert folder.name.endswith("-m")
    assert about["id"][:16] in folder.name
    assert folder.name[:8] == about["at"][:10].replace("-", "")
    out = assert_replays(folder, capsys)
    assert "m on up (dialect base), completed in" in out
    case = assert_fixture(folder, tmp_path / "fixtures", monkeypatch)
    assert case.source.items == ["R Hm. ", "M Yes."]
    assert len(case.source.sealed) == 1
    assert about["at"][:10] in case.source.fact
    assert "serve --trace" in case.source.fact


async def test_a_whole_answer_is_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        answer = await client.post(PATH, json=ASK | {"stream": False})
        await client.post(f"{PATH}/compact", json={"model": "m", "input": "Hi"})
    folder, compacted = kept(tmp_path / "t")
    assert json.loads((folder / "response.json").read_bytes()) == answer.json()
    assert json.loads((folder / "upstream.json").read_bytes()) == COMPLETION
    assert_replays(folder, capsys)
    assert_replays(compacted, capsys)
    case = assert_fixture(folder, tmp_path / "fixtures", monkeypatch)
    assert case.source.usage == (3, 2, 0, 0)


async def test_the_facts_of_the_translation_are_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dialect with an operator's facts, the options, the model's name and limits."""
    upstream.script = answering(chunk({"content": "<think>Hm.</think>Yes."}, "stop"))
    settings = make_settings(
        upstream.url,
        trace_folder=str(tmp_path / "t"),
        reasoning_events="text",
        upstream={"dialect": "minimax", "facts": {"think_tags": {"pairs": [["<think>", "</think>"]]}}},
        models={
            "small": {"upstream": "up", "upstream_model": "minimax-m2", "max_output_tokens": 7},
            "tagless": {"upstream": "up", "facts": {"think_tags": False}},
        },
    )  # fmt: skip
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK | {"model": "small", "max_output_tokens": 50})
        await client.post(PATH, json=ASK | {"model": "tagless"})
    small, tagless = kept(tmp_path / "t")
    assert exchange_toml(small)["dialect"] == "minimax"
    assert exchange_toml(small)["options"] == {"reasoning_events": "text"}
    assert exchange_toml(small)["target"] == {"model": "minimax-m2", "max_output_tokens": 7}
    assert exchange_toml(tagless)["dialect_fields"]["think_tags"] is False
    assert b'"max_completion_tokens":7' in (small / "chat.json").read_bytes()
    for number, folder in enumerate((small, tagless)):
        assert_replays(folder, capsys)
        case = assert_fixture(folder, tmp_path / "fixtures", monkeypatch, f"minimax/case_{number}")
        expected = ["R Hm.", "M Yes."] if folder == small else ["M <think>Hm.</think>Yes."]
        assert case.source.items == expected


async def test_each_attempt_is_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(call: Call) -> None:
        if "temperature" in call.json:
            message = "Unknown parameter: 'temperature'."
            await call.answer({"error": {"message": message}}, 400)
        else:
            await answering(*HELLO)(call)

    upstream.script = script
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        for _ in range(2):  # the second request is right at once
            await client.post(PATH, json=ASK | {"temperature": 0.5})
    first, second = kept(tmp_path / "t")
    assert exchange_toml(first)["attempts"] == 2
    assert (first / "attempt_1/chat.json").read_bytes() == upstream.calls[0].body
    refusal = (first / "attempt_1/upstream.http").read_bytes()
    assert refusal.startswith(b"HTTP/1.1 400 Bad Request\ncontent-type: application/json\n\n{")
    assert b"Unknown parameter" in refusal
    assert (first / "chat.json").read_bytes() == upstream.calls[1].body
    assert exchange_toml(second)["attempts"] == 1
    for folder in (first, second):
        assert exchange_toml(folder)["changed"] == ["temperature"]
        assert_replays(folder, capsys)
    assert_fixture(first, tmp_path / "fixtures", monkeypatch)


async def test_a_refusal_is_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(call: Call) -> None:
        headers = {
            "retry-after": "7",
            "set-cookie": "session=abcdefghijk",
            "x-ratelimit-limit": "5",
        }
        await call.answer({"error": {"message": "Slow down."}}, 429, headers=headers)

    upstream.script = script
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"), retries=0)
    async with tracing(settings) as client:
        answer = await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    assert json.loads((folder / "error.json").read_bytes())["body"] == answer.json()
    assert exchange_toml(folder)["upstream"]["headers"] == {
        "content-type": "application/json", "retry-after": "7", "x-ratelimit-limit": "5"
    }  # fmt: skip
    assert "events.jsonl" not in files(folder)
    assert_replays(folder, capsys)
    assert main(["fixture", str(folder), "--to", str(tmp_path), "--name", "up/limit"]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", tmp_path)
    case = Case(tmp_path / "up/limit")
    assert fixture_cases.disagreements(case, run_case(case)) == []
    assert (case.source.http, case.source.headers) == (429, {"retry-after": "7"})


@pytest.mark.parametrize("in_body", [False, True])
async def test_a_refused_key_of_the_operator_is_captured(
    in_body: bool, upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"error": {"message": f"Incorrect API key: {OWN_KEY}", "code": 401}}
    upstream.script = (
        answering(b"data: " + json.dumps(error).encode() + b"\n\n")
        if in_body
        else lambda call: call.answer(error, 401)
    )
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"), key=OWN_KEY)
    async with tracing(settings) as client:
        answer = await client.post(PATH, json=ASK)
    assert answer.status_code == 502
    [folder] = kept(tmp_path / "t")
    assert OWN_KEY.encode() not in contents(folder)
    assert (b"[removed]" in contents(folder)) is in_body  # the body of a 401 is not read
    assert_replays(folder, capsys)


async def test_a_request_that_the_service_refuses_is_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {"small": {"upstream": "up"}}
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"), models=models)
    async with tracing(settings) as client:
        await client.post(PATH, json={"model": "small", "input": [], "stream": True})
        await client.post(PATH, content=b"{")
        await client.post(PATH, json=ASK)
    wrong, half, nowhere = kept(tmp_path / "t")
    assert_replays(wrong, capsys)
    assert_replays(half, capsys)
    assert main(["replay", str(nowhere)]) == 2
    assert "it was never routed: The model 'm' does not exist." in capsys.readouterr().err
    assert main(["fixture", str(half), "--to", str(tmp_path)]) == 2
    assert main(["fixture", str(nowhere), "--to", str(tmp_path)]) == 2
    assert main(["fixture", str(wrong), "--to", str(tmp_path), "--name", "up/wrong"]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", tmp_path)
    case = Case(tmp_path / "up/wrong")
    assert fixture_cases.disagreements(case, run_case(case)) == []
    assert (case.source.http, case.source.param) == (400, "input")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_breaks_off_is_captured(
    stream: bool, upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    upstream.script = script
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=ASK | {"stream": stream})
    [folder] = kept(tmp_path / "t")
    assert exchange_toml(folder)["upstream"]["broke"].startswith(
        "The upstream closed the connection"
    )
    assert_replays(folder, capsys)


async def test_a_stall_and_its_heartbeats_are_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream.script = hello_then_silence
    settings = make_settings(
        upstream.url, trace_folder=str(tmp_path / "t"), read_timeout_s=0.6, heartbeat_s=0.1
    )
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    assert exchange_toml(folder)["outcome"] == "failed upstream_timeout"
    assert (folder / "events.jsonl").read_bytes().count(b'"response.in_progress"') > 1
    assert_replays(folder, capsys)
    case = assert_fixture(folder, tmp_path / "fixtures", monkeypatch)
    assert case.source.cut == "M Hello"


async def test_each_retry_is_captured(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same body, sent again after a 429."""

    async def script(call: Call) -> None:
        upstream.script = answering(*HELLO)
        await call.answer({"error": {"message": "Slow down."}}, 429, headers={"retry-after": "0"})

    upstream.script = script
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=ASK | {"truncation": "auto"})
    [folder] = kept(tmp_path / "t")
    assert exchange_toml(folder)["attempts"] == 2
    assert (folder / "attempt_1/upstream.http").read_bytes().startswith(b"HTTP/1.1 429 Too Many")
    assert (folder / "attempt_1/chat.json").read_bytes() == (folder / "chat.json").read_bytes()
    assert [notice["code"] for notice in exchange_toml(folder)["notices"]] == ["ignored"]
    assert_replays(folder, capsys)


async def test_an_unreachable_upstream_is_captured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings("http://127.0.0.1:9/v1", trace_folder=str(tmp_path / "t"), retries=0)
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    assert files(folder) == {"exchange.toml", "request.json", "chat.json", "error.json"}
    assert_replays(folder, capsys)
    assert main(["fixture", str(folder), "--to", str(tmp_path)]) == 2
    assert "the upstream sent nothing" in capsys.readouterr().err


async def test_the_events_before_a_client_left_are_captured(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.script = hello_then_silence
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"))
    async with tracing_server(settings) as base:
        async with httpx.AsyncClient(base_url=base) as client:
            async with client.stream("POST", PATH, json=ASK) as answer:
                await bounded(anext(answer.aiter_raw()))
    [folder] = kept(tmp_path / "t")
    assert exchange_toml(folder)["outcome"] == "client left"
    assert b'"delta":"Hello"' in (folder / "events.jsonl").read_bytes()
    assert b"response.completed" not in (folder / "events.jsonl").read_bytes()
    assert_replays(folder, capsys)


async def test_turns_of_a_websocket_are_captured(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn with a previous response has all items that a replay needs."""
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"))
    headers = {"authorization": f"Bearer {CLIENT_KEY}"}
    async with tracing_server(settings) as base:
        url = base.replace("http", "ws") + PATH
        async with connect(url, additional_headers=headers) as socket:
            last: dict[str, Any] = {}
            for more in ({"generate": False}, {}, {"input": f"My key is {CLIENT_KEY}."}):
                before = {"previous_response_id": last["response"]["id"]} if last else {}
                await socket.send(json.dumps(ASK | {"type": "response.create"} | before | more))
                while (last := json.loads(await bounded(socket.recv())))["type"] != END:
                    pass
    warm, one, two = kept(tmp_path / "t")
    assert "chat.json" not in files(warm)
    assert exchange_toml(two)["method"] == "WS"
    assert len(json.loads((two / "earlier.json").read_bytes())) == 3
    for folder in (warm, one, two):
        assert CLIENT_KEY.encode() not in contents(folder)
        assert_replays(folder, capsys)
    case = assert_fixture(two, tmp_path / "fixtures", monkeypatch)
    assert [item["role"] for item in (case.request or {})["input"]] == [
        "user", "user", "assistant", "user"
    ]  # fmt: skip
    went_up = upstream.calls[1].json["messages"]
    assert case.expected()["chat.json"]["messages"][:-1] == went_up[:-1]


async def test_a_chat_request_that_is_passed_through_is_captured(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"model": "m", "messages": [], "stream": True}
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post("/v1/chat/completions", json=request)
        await client.get("/v1/models")
        await client.get("/healthz")
    [folder] = kept(tmp_path / "t")
    assert json.loads((folder / "chat.json").read_bytes()) == request
    assert (folder / "upstream.sse").read_bytes() == b"".join(HELLO)
    assert main(["replay", str(folder)]) == 2
    assert "nothing was translated" in capsys.readouterr().err
