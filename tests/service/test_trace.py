"""What a trace keeps: all that was said, no key, within bounds, and enough to replay it."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import stat
import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

import translator
from tests import fixture_cases
from tests.fixture_cases import Case
from tests.fixture_cases import run as run_case
from translator.__main__ import main
from translator.dialect_table import own_facts
from translator.dialects import DIALECTS
from translator.sealed import Thought, seal
from translator.service.guard.keys import new_key, store
from translator.service.look import trace
from translator.service.look.looking import looking
from translator.service.look.redaction import Redaction, secrets_in
from translator.service.settings import Settings, read_table

from .wire import (
    COMPLETION,
    HELLO,
    Call,
    ScriptedUpstream,
    bounded,
    chunk,
    client_of,
    events,
    make_settings,
    serving,
)

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "m", "input": "Hi", "stream": True}
OWN_KEY = "sk-of-the-operator/+1"
CLIENT_KEY = "sk-of-the-client/+2"
END = "response.completed"
THINKING = [
    chunk({"role": "assistant", "reasoning_content": "Hm. "}),
    chunk({"content": "Yes."}),
    chunk({}, "stop"),
    b"data: [DONE]\n\n",
]


@asynccontextmanager
async def tracing(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a service that keeps exchanges; they are written when it ends."""
    with looking(settings, None) as watch:
        async with client_of(settings, watch=watch) as client:
            yield client


@asynccontextmanager
async def tracing_server(settings: Settings) -> AsyncGenerator[str]:
    with looking(settings, None) as watch:
        async with serving(settings, watch=watch) as base:
            yield base


def kept(folder: Path) -> list[Path]:
    """The exchanges in a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


def told(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "exchange.toml").read_text("utf-8"))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def assert_replays(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What went out and what the client got are the same when the folder is replayed."""
    capsys.readouterr()
    code = main(["replay", str(folder)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, ""), out + err
    assert "not the same" not in out
    return out


def assert_fixture(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch, name: str = "up/a_case"
) -> Case:
    """The fixture's files are what the core makes of them, and `source.toml` tells it."""
    assert main(["fixture", str(folder), "--to", str(place), "--name", name]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", place)
    case = Case(place / name)
    outcome = run_case(case)
    assert fixture_cases.disagreements(case, outcome) == []
    assert outcome.files() == case.expected()
    assert "events.jsonl" in case.expected() or not (case.request or {}).get("stream")
    return case


def answering(*pieces: bytes, status: int = 200) -> Callable[[Call], Any]:
    async def script(call: Call) -> None:
        await call.head(status)
        await call.send(*pieces)
        await call.end()

    return script


# --- what is kept -------------------------------------------------------------------------------


async def test_a_stream_is_kept_as_it_was(
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
    about = told(folder)
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


async def test_a_whole_answer_is_kept(
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


async def test_the_facts_in_force_are_kept(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dialect with an operator's corrections, the options, the model's name and limits."""
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
    assert told(small)["dialect"] == "minimax"
    assert told(small)["options"] == {"reasoning_events": "text"}
    assert told(small)["target"] == {"model": "minimax-m2", "max_output_tokens": 7}
    assert told(tagless)["dialect_fields"]["think_tags"] is False
    assert b'"max_completion_tokens":7' in (small / "chat.json").read_bytes()
    for number, folder in enumerate((small, tagless)):
        assert_replays(folder, capsys)
        case = assert_fixture(folder, tmp_path / "fixtures", monkeypatch, f"minimax/case_{number}")
        expected = ["R Hm.", "M Yes."] if folder == small else ["M <think>Hm.</think>Yes."]
        assert case.source.items == expected


async def test_each_attempt_is_kept(
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
    assert told(first)["attempts"] == 2
    assert (first / "attempt_1/chat.json").read_bytes() == upstream.calls[0].body
    refusal = (first / "attempt_1/upstream.http").read_bytes()
    assert refusal.startswith(b"HTTP/1.1 400 Bad Request\ncontent-type: application/json\n\n{")
    assert b"Unknown parameter" in refusal
    assert (first / "chat.json").read_bytes() == upstream.calls[1].body
    assert told(second)["attempts"] == 1
    for folder in (first, second):
        assert told(folder)["changed"] == ["temperature"]
        assert_replays(folder, capsys)
    assert_fixture(first, tmp_path / "fixtures", monkeypatch)


async def test_a_refusal_is_kept(
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
    assert told(folder)["upstream"]["headers"] == {
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
async def test_a_refused_key_of_the_operator_is_kept(
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


async def test_what_is_refused_here_is_kept(
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
    assert "it went nowhere: The model 'm' does not exist." in capsys.readouterr().err
    assert main(["fixture", str(half), "--to", str(tmp_path)]) == 2
    assert main(["fixture", str(nowhere), "--to", str(tmp_path)]) == 2
    assert main(["fixture", str(wrong), "--to", str(tmp_path), "--name", "up/wrong"]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", tmp_path)
    case = Case(tmp_path / "up/wrong")
    assert fixture_cases.disagreements(case, run_case(case)) == []
    assert (case.source.http, case.source.param) == (400, "input")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_breaks_off_is_kept(
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
    assert told(folder)["upstream"]["broke"].startswith("The upstream closed the connection")
    assert_replays(folder, capsys)


async def test_a_stall_and_its_heartbeats_are_kept(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await bounded(call.gone())

    upstream.script = script
    settings = make_settings(
        upstream.url, trace_folder=str(tmp_path / "t"), read_timeout_s=0.6, heartbeat_s=0.1
    )
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    assert told(folder)["outcome"] == "failed upstream_timeout"
    assert (folder / "events.jsonl").read_bytes().count(b'"response.in_progress"') > 1
    assert_replays(folder, capsys)
    case = assert_fixture(folder, tmp_path / "fixtures", monkeypatch)
    assert case.source.cut == "M Hello"


async def test_each_try_of_an_attempt_is_kept(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same request, sent again because the upstream asked for that."""

    async def script(call: Call) -> None:
        upstream.script = answering(*HELLO)
        await call.answer({"error": {"message": "Slow down."}}, 429, headers={"retry-after": "0"})

    upstream.script = script
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=ASK | {"truncation": "auto"})
    [folder] = kept(tmp_path / "t")
    assert told(folder)["attempts"] == 2
    assert (folder / "attempt_1/upstream.http").read_bytes().startswith(b"HTTP/1.1 429 Too Many")
    assert (folder / "attempt_1/chat.json").read_bytes() == (folder / "chat.json").read_bytes()
    assert [notice["code"] for notice in told(folder)["notices"]] == ["ignored"]
    assert_replays(folder, capsys)


async def test_an_upstream_that_is_not_there_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings("http://127.0.0.1:9/v1", trace_folder=str(tmp_path / "t"), retries=0)
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    assert files(folder) == {"exchange.toml", "request.json", "chat.json", "error.json"}
    assert_replays(folder, capsys)
    assert main(["fixture", str(folder), "--to", str(tmp_path)]) == 2
    assert "nothing came from the upstream" in capsys.readouterr().err


async def test_what_a_client_that_left_had_got_is_kept(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await bounded(call.gone())

    upstream.script = script
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"))
    async with tracing_server(settings) as base:
        async with httpx.AsyncClient(base_url=base) as client:
            async with client.stream("POST", PATH, json=ASK) as answer:
                await bounded(anext(answer.aiter_raw()))
    [folder] = kept(tmp_path / "t")
    assert told(folder)["outcome"] == "client left"
    assert b'"delta":"Hello"' in (folder / "events.jsonl").read_bytes()
    assert b"response.completed" not in (folder / "events.jsonl").read_bytes()
    assert_replays(folder, capsys)


async def test_turns_of_a_websocket_are_kept(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn that goes on from another has all that it takes to replay it."""
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
    assert told(two)["method"] == "WS"
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


async def test_what_is_passed_through_is_kept(
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


# --- keys ---------------------------------------------------------------------------------------


async def test_no_key_is_kept(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in the body, as JSON escapes it or plainly, nor in an error that repeats it."""
    other = "another-secret-value"

    async def script(call: Call) -> None:
        echo = json.dumps({"error": {"message": f"Bad key {OWN_KEY}, {other}"}})
        await call.answer(echo.replace("/", "\\/").encode(), 400)

    upstream.script = script
    settings = make_settings(
        upstream.url,
        trace_folder=str(tmp_path / "t"),
        key=OWN_KEY,
        upstream={"headers": {"x-tenant": other, "x-kind": "fireworks", "x-of": "short"}},
    )
    blob = seal(Thought(f"The key is {CLIENT_KEY}.", "reasoning_content"))
    request = {
        "model": "m",
        "stream": True,
        "input": [
            {"type": "reasoning", "summary": [], "encrypted_content": blob},
            {"role": "assistant", "content": "fireworks, short"},
            {"role": "user", "content": f"{CLIENT_KEY} {OWN_KEY}"},
        ],
    }
    headers = {
        "authorization": f"Bearer {CLIENT_KEY}",
        "cookie": "theme=dark; session=0123456789abcdef",
        "user-agent": "agent 0123456789abcdef",
    }
    async with tracing(settings) as client:
        await client.post(PATH, json=request, headers=headers)
    [folder] = kept(tmp_path / "t")
    text = contents(folder)
    for secret in (OWN_KEY, CLIENT_KEY, other, "0123456789abcdef"):
        assert secret.encode() not in text
        assert secret.replace("/", "\\/").encode() not in text
    assert b"fireworks, short" in text, "facts, and what is too short to be a secret, stay"
    kept_blob = json.loads((folder / "request.json").read_bytes())["input"][0]["encrypted_content"]
    thought = translator.sealed.unseal(kept_blob)
    assert thought is not None
    assert thought.text == "The key is [removed]."
    assert_replays(folder, capsys)


async def test_no_key_of_a_client_of_the_gateway_is_kept(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """It is taken out of the request at the door, and looked for in what was said all the same."""
    key = new_key()
    table = {
        "server": {"trace_folder": str(tmp_path / "t")},
        "upstreams": {"up": {"base_url": upstream.url}},
        "clients": {"anna": {"keys": [str(store(key))]}},
    }
    async with tracing(read_table(table, {})) as client:
        headers = {"authorization": f"Bearer {key}"}
        await client.post(PATH, json=ASK | {"input": f"My key is {key}."}, headers=headers)
    [folder] = kept(tmp_path / "t")
    assert key.encode() not in contents(folder)
    assert b"My key is [removed]." in (folder / "chat.json").read_bytes()
    assert told(folder)["client"] == "anna"


async def test_an_answer_that_spells_a_key_is_not_kept(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that comes in pieces is in no single place, and could be put together."""
    half = len(CLIENT_KEY) // 2
    upstream.script = answering(
        chunk({"content": CLIENT_KEY[:half]}), chunk({"content": CLIENT_KEY[half:]}, "stop")
    )
    headers = {"authorization": f"Bearer {CLIENT_KEY}"}
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=ASK, headers=headers)
    [folder] = kept(tmp_path / "t")
    assert files(folder) == {"exchange.toml", "request.json", "chat.json"}
    assert CLIENT_KEY[half:].encode() not in contents(folder)
    assert main(["replay", str(folder)]) == 2
    assert "the model spelled a key" in capsys.readouterr().err


def test_what_counts_as_a_key() -> None:
    found = secrets_in(
        {
            "Authorization": "Bearer abcdefgh==",
            "cookie": "a=1; id=12345678",
            "x-api-key": "short",
            "accept": "application/json",
        }
    )
    assert found == {"Bearer abcdefgh==", "abcdefgh==", "a=1; id=12345678", "id=12345678", "12345678"}  # fmt: skip
    assert Redaction(["abcdefgh", "abcdefghij"])(b"abcdefghij") == b"[removed]"


async def test_only_the_owner_reads_it(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "new/t"))) as client:
        await client.post(PATH, json=ASK)
    assert stat.S_IMODE((tmp_path / "new/t").stat().st_mode) == 0o700
    [folder] = kept(tmp_path / "new/t")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


# --- bounds -------------------------------------------------------------------------------------


async def test_the_oldest_make_room(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """What is no exchange is not touched."""
    (tmp_path / "20200101T000000").mkdir()
    (tmp_path / "notes.txt").touch()
    stale = tmp_path / "20200101T000000.000000Z-req_1-m"
    stale.mkdir()
    crashed = tmp_path / "20200101T000000.000000Z-req_2-m.part"
    crashed.mkdir()
    os.utime(crashed, (0, 0))
    (tmp_path / "20200101T000000.000000Z-req_3-m.part").mkdir()  # another process is writing it
    settings = make_settings(upstream.url, trace_folder=str(tmp_path), max_traced_exchanges=2)
    async with tracing(settings) as client:
        for number in range(3):
            await client.post(PATH, json=ASK | {"model": f"m{number}"})
    names = [path.name for path in kept(tmp_path)]
    assert names[:2] == ["20200101T000000", "20200101T000000.000000Z-req_3-m.part"]
    assert [name[-2:] for name in names[2:]] == ["m1", "m2"]
    assert (tmp_path / "notes.txt").exists()


async def test_what_is_too_large_is_left_out_and_named(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.script = answering(*[chunk({"content": "x" * 1000})] * 20, chunk({}, "stop"))
    settings = make_settings(
        upstream.url, trace_folder=str(tmp_path / "t"), max_traced_bytes=10_000
    )
    async with tracing(settings) as client:
        answer = await client.post(PATH, json=ASK)
        await client.post(PATH, json=ASK | {"input": "y" * 20_000})
    assert events(answer.content)[-1]["type"] == "response.completed"
    answer_left_out, request_left_out = kept(tmp_path / "t")
    assert files(answer_left_out) == {"exchange.toml", "request.json", "chat.json"}
    assert told(answer_left_out)["outcome"] == "completed"
    assert "too large" in told(answer_left_out)["left_out"][0]
    assert files(request_left_out) == {"exchange.toml"}
    assert told(request_left_out)["left_out"][0] == "request.json: too large"
    for folder in (answer_left_out, request_left_out):
        assert main(["replay", str(folder)]) == 2
        assert "too large" in capsys.readouterr().err


async def test_all_that_is_held_has_a_bound(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many large exchanges at once are kept without their largest part, and then it is free."""
    monkeypatch.setattr(trace, "MAX_HELD_BYTES", 100_000)
    meanwhile = asyncio.Event()

    async def script(call: Call) -> None:
        await bounded(meanwhile.wait())
        await answering(*HELLO)(call)

    upstream.script = script
    large = ASK | {"input": "y" * 30_000}
    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"))
    async with tracing(settings) as client:
        asking = [asyncio.create_task(client.post(PATH, json=large)) for _ in range(4)]
        async with asyncio.timeout(20):
            while len(upstream.calls) < 4:
                await asyncio.sleep(0.01)
        meanwhile.set()
        for answer in await asyncio.gather(*asking):
            assert events(answer.content)[-1]["type"] == END
    async with tracing(settings) as client:
        await client.post(PATH, json=large)
    *together, alone = kept(tmp_path / "t")
    assert sum("request.json" in files(folder) for folder in together) == 3
    assert "left_out" not in told(alone)


async def test_a_full_disk_is_a_warning(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    settings = make_settings(upstream.url, trace_folder=str(tmp_path / "t"))
    with caplog.at_level(logging.INFO, "translator"):
        async with tracing(settings) as client:
            with monkeypatch.context() as patch:
                patch.setattr(Path, "write_bytes", full)
                answer = await client.post(PATH, json=ASK)
                async with asyncio.timeout(20):
                    while "No space left" not in caplog.text:
                        await asyncio.sleep(0.01)
            await client.post(PATH, json=ASK)
    assert events(answer.content)[-1]["type"] == "response.completed"
    [folder] = kept(tmp_path / "t")  # the second one, when there was room again
    assert f"is kept in {folder}" in caplog.text


def test_a_folder_of_no_use_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["serve", "--upstream", "http://u", "--port", "0", "--trace", str(tmp_path / "file/t")]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"translator: trace: cannot write in {tmp_path}/file/t: not a directory\n"
    )


def test_nobody_looks_on_where_nobody_was_asked_to() -> None:
    with looking(make_settings("http://127.0.0.1:9/v1"), None) as watch:
        assert watch is None


# --- the commands -------------------------------------------------------------------------------


async def test_replay_shows_what_differs(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=ASK)
    [folder] = kept(tmp_path / "t")
    sent = (folder / "events.jsonl").read_text("utf-8")
    (folder / "events.jsonl").write_text(sent.replace('"delta":" world"', '"delta":" moon"'))
    assert main(["replay", str(folder)]) == 1
    out, _ = capsys.readouterr()
    assert "chat.json      the same" in out
    assert "events.jsonl   not the same" in out
    changed = [line.strip() for line in out.splitlines() if line.lstrip()[:2] in ("-{", "+{")]
    assert len(changed) == 2
    assert '"delta": " moon"' in changed[0]
    assert '"delta": " world"' in changed[1]

    (folder / "events.jsonl").write_text(sent)
    assert main(["replay", "--json", str(folder)]) == 0
    out, err = capsys.readouterr()
    now = [json.loads(line) for line in out.splitlines()]
    assert [one["type"] for one in now] == [json.loads(one)["type"] for one in sent.splitlines()]
    assert "the same" in err

    chat = json.loads((folder / "chat.json").read_bytes())
    (folder / "chat.json").write_text(json.dumps(chat | {"seed": 1}))
    assert main(["replay", str(folder)]) == 1
    assert '-  "seed": 1' in capsys.readouterr().out.replace("    -", "-")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["replay", "{t}"], "{t} cannot be replayed: there is no exchange.toml in it"),
        (["fixture", "{t}"], "{t} cannot become a fixture: there is no exchange.toml in it"),
        (["replay", "{t}/bad"], "{t}/bad cannot be replayed: exchange.toml: "),
        (
            ["replay", "{t}", "--dialect", "zai"],
            "replay FOLDER takes neither --request nor --diale",
        ),
        (["replay", "{t}/empty"], "{t}/empty cannot be replayed: request.json is not in it"),
        (["fixture", "{t}/asked", "--name", "x", "--to", "{t}"], "--name: 'x' is not of the form"),
        (["fixture", "{t}/asked", "--name", "up/x", "--to", "{t}"], "{t}/up/x is there already"),
        (["fixture", "{t}/asked", "--to", "{t}/empty/exchange.toml"], "cannot be written: Not a d"),
        (["tail", "{t}"], "no service is running that was started with --trace {t}"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = 'translator="1"\nid="r"\nat="2026-01-01"\nmethod="POST"\npath="/"\n'
    for name, text in {"bad": "x = ", "empty": about, "asked": about}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "exchange.toml").write_text(text)
    (tmp_path / "asked/request.json").write_text('{"model":"m","input":[]}')
    (tmp_path / "up/x").mkdir(parents=True)
    assert main([word.format(t=tmp_path) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"translator: {sentence.format(t=tmp_path)}") or sentence in err
    assert err.count("\n") == 1


async def test_a_fixture_has_a_name_of_its_own(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(
        upstream.url, trace_folder=str(tmp_path / "t"), upstream={"dialect": "fireworks"}
    )
    async with tracing(settings) as client:
        await client.post(PATH, json=ASK | {"model": "accounts/x/models/kimi-k2p6"})
    [folder] = kept(tmp_path / "t")
    monkeypatch.chdir(tmp_path)
    assert main(["fixture", str(folder), "--title", "A case"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.name for path in written} == {
        "request.json", "chat.json", "events.jsonl", "upstream.sse", "source.toml"
    }  # fmt: skip
    place = written[0].parent
    assert place.parts[:2] == ("fixtures", "fireworks")
    assert place.name.endswith("accounts_x_models_kimi_k2p6")
    source = tomllib.loads((place / "source.toml").read_text("utf-8"))
    assert (source["plan"], source["title"]) == ([], "A case")
    assert "dialect_fields" not in source


SAMPLE = [
    case
    for case in fixture_cases.all_cases().values()
    if case.request is not None and (case.body is not None or case.http_error is not None)
][::8]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
async def test_a_fixture_that_passes_through_the_service_is_the_same_fixture(
    case: Case,
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Traced, replayed, and made a fixture again, with the facts, options and target of its own."""

    async def script(call: Call) -> None:
        if case.http_error is not None:
            error = case.http_error
            await call.answer(error.body, error.status, headers=error.headers)
            return
        await call.head()
        await call.send(*([case.body] if case.body else []))
        await call.end()

    upstream.script = script
    source = case.source
    facts = own_facts(case.dialect, DIALECTS[source.dialect])
    toml_facts = {name: False if fact is None else fact for name, fact in facts.items()}
    target = {
        "upstream_model" if name == "model" else name: fact for name, fact in source.target.items()
    }
    assert case.request is not None
    model = case.request.get("model", "m")
    settings = make_settings(
        upstream.url,
        trace_folder=str(tmp_path / "t"),
        retries=0,
        retry_refused=False,
        upstream={"dialect": source.dialect},
        models={model: {"upstream": "up", "facts": toml_facts, **target, **source.options}},
    )
    async with tracing(settings) as client:
        await client.post(PATH, json=case.request)
    [folder] = kept(tmp_path / "t")
    assert_replays(folder, capsys)
    assert main(["fixture", str(folder), "--to", str(tmp_path), "--name", case.name]) == 0
    monkeypatch.setattr(fixture_cases, "ROOT", tmp_path)
    again = Case(tmp_path / case.name)
    outcome = run_case(again)
    assert fixture_cases.disagreements(again, outcome) == []
    assert outcome.files() == again.expected()
    for name in ("events.jsonl", "response.json"):
        assert again.expected().get(name) == case.expected().get(name)
    told_of = ("items", "cut", "citations", "status", "usage", "http", "code", "param")
    assert [getattr(again.source, name) for name in told_of] == [
        getattr(source, name) for name in told_of
    ]
