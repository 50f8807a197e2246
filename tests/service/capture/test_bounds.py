"""Redaction of captured exchanges, and the bounds of their number and size."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

import translator
from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import ASK, PATH, events
from tests.service.wire import Call, ScriptedUpstream, bounded, make_settings
from translator.__main__ import main
from translator.common.sealed import Thought, seal
from translator.request.compaction import seal_summary, unseal_summary
from translator.service.base.keys import new_key, store
from translator.service.base.losses import LOSSES
from translator.service.capture import writer
from translator.service.capture.redaction import Redaction, client_secrets, secrets_in
from translator.service.config.loading import read_table
from translator.service.server.observers import observing

from .captured import (
    CLIENT_KEY,
    END,
    OWN_KEY,
    answering,
    assert_replays,
    contents,
    exchange_toml,
    files,
    kept,
    tracing,
    tracing_server,
)

pytestmark = pytest.mark.anyio


# --- keys ---------------------------------------------------------------------------------------


async def test_no_key_is_captured(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in the body, plain or escaped, nor in an error of the upstream that repeats it."""
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
    thought = translator.common.sealed.unseal(kept_blob)
    assert thought is not None
    assert thought.text == "The key is [removed]."
    assert_replays(folder, capsys)


async def test_no_key_of_a_configured_client_is_captured(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The header is removed on arrival; the key is still redacted in the conversation."""
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
    assert exchange_toml(folder)["client"] == "anna"


MCP: dict[str, Any] = {
    "type": "mcp",
    "server_label": "files",
    "authorization": "planted-1-token",
    "headers": {"x-api-key": "planted-2-header", "x-pin": "p1n"},
    "server_url": "https://me:planted-3-password@mcp.test/sse?key=planted%2D4&p1n",
}
DOMAIN = {"domain": "domain.test", "name": "TOKEN", "value": "planted-5-value"}
SHELL: dict[str, Any] = {
    "type": "shell",
    "environment": {"type": "container_auto", "network_policy": {"domain_secrets": [DOMAIN]}},
}


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions"])
async def test_no_secret_of_a_tool_is_captured(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """Nor where the conversation repeats it; the rest of the request keeps its bytes."""
    if path != PATH:  # passed through: then the upstream gets them, and says what it likes
        upstream.script = answering(b'{"error":{"message":"planted-1-token?"}}')
    item = {"type": "additional_tools", "role": "developer", "tools": [MCP]}
    said = {"role": "user", "content": "planted-1-token, planted-2-header, planted-4, domain.test"}
    request = ASK | {"tools": [MCP, SHELL], "input": [said, item], "messages": [said]}
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        answer = await client.post(path, json=request)
    [folder] = kept(tmp_path / "t")
    text = contents(folder)
    assert b"planted" not in text
    assert b"p1n" not in text
    assert b"[removed], [removed], [removed], domain.test" in text
    if path == PATH:
        assert b"planted" not in answer.content
        assert b"https://mcp.test/sse" in answer.content
        assert_replays(folder, capsys)


async def test_a_request_that_is_no_request_is_captured_as_it_is(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        for body in (
            b'{"tools":[',
            b'{"tools":7,"input":[7]}',
            b'{"tools":[7],"input":[{"tools":7}]}',
        ):
            await client.post(PATH, content=body)
    found = [(folder / "request.json").read_bytes() for folder in kept(tmp_path / "t")]
    assert len(found) == 3
    assert b'{"tools":[7],"input":[{"tools":7}]}' in found


async def test_an_answer_that_spells_a_key_is_not_captured(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No single delta contains the key, but the joined deltas do."""
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


def test_the_secrets_in_headers() -> None:
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


IDS = {
    "session-id": "01a2278d-b8cf-7292-9bb8-9a80488cc096",
    "session_id": "01a2278d-b8cf-7292-9bb8-9a80488cc097",
    "X-Session-Id": "01a2278d-b8cf-7292-9bb8-9a80488cc098",
    "thread-id": "01a2278d-b8cf-7292-9bb8-9a80488cc099",
    "conversation_id": "01a2278d-b8cf-7292-9bb8-9a80488cc09a",
    "x-session-affinity": "ses_0a1b2c3d4e5f",
    "x-opencode-session": "ses_0a1b2c3d4e60",
    "x-prompt-cache-key": "cache-0a1b2c3d",
    "idempotency-key": "stainless-node-retry-1",
}
LOGINS = (
    "authorization cookie x-api-key api_key sessionid x-sessionid x-session session-token"
    " x-session-token aws_session_token session-id-token session-key session-secret x-auth-session-id"
    " id-token x-session-idp-signature cache-key-token x-password"
).split()


def test_an_id_of_a_conversation_is_no_secret_and_one_of_a_login_is() -> None:
    """By the name of the header, all of whose words count."""
    for name in IDS:
        assert client_secrets([(name.encode(), b"0123456789abcdef")]) == set(), name
    for name in LOGINS:
        assert client_secrets([(name.encode(), b"0123456789abcdef")]), name
    cookies = [(b"cookie", b"a=0123456789abcdef"), (b"cookie", b"b=fedcba9876543210")]
    assert {"0123456789abcdef", "fedcba9876543210"} < client_secrets(cookies)


async def test_a_capture_keeps_cache_keys_and_session_ids(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Whether they stay the same from turn to turn is what one looks for; keys still go."""
    upstream.script = answering(*HELLO)
    ids = list(IDS.values())
    logins = {f"x-{name}-token": f"secret-{name}-0123456789" for name in ("a", "b")}
    request = {
        "model": "m",
        "stream": True,
        "input": f"{CLIENT_KEY} {' '.join(logins.values())}",
        "prompt_cache_key": ids[0],
        "client_metadata": {"session_id": ids[0], "ids": ids, "mine": logins["x-a-token"]},
    }
    headers = {"authorization": f"Bearer {CLIENT_KEY}", **IDS, **logins}
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "t"))) as client:
        await client.post(PATH, json=request, headers=headers)
    [folder] = kept(tmp_path / "t")
    traced = json.loads((folder / "request.json").read_bytes())
    assert traced["prompt_cache_key"] == ids[0]
    assert traced["client_metadata"] == {"session_id": ids[0], "ids": ids, "mine": "[removed]"}
    assert traced["input"] == "[removed] [removed] [removed]"
    for secret in (CLIENT_KEY, *logins.values()):
        assert secret.encode() not in contents(folder)


def test_no_key_is_in_a_sealed_summary() -> None:
    blob = seal_summary(f"The key is {CLIENT_KEY}.")
    assert blob is not None
    clean = Redaction([CLIENT_KEY]).text(json.dumps({"encrypted_content": blob}))
    assert unseal_summary(json.loads(clean)["encrypted_content"]) == "The key is [removed]."


async def test_only_the_owner_may_read_the_files(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with tracing(make_settings(upstream.url, trace_folder=str(tmp_path / "new/t"))) as client:
        await client.post(PATH, json=ASK)
    assert stat.S_IMODE((tmp_path / "new/t").stat().st_mode) == 0o700
    [folder] = kept(tmp_path / "new/t")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


# --- bounds -------------------------------------------------------------------------------------


async def test_the_oldest_folders_are_removed(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Other files and folders are not touched."""
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


async def test_bodies_that_are_too_large_are_left_out_and_named(
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
    assert exchange_toml(answer_left_out)["outcome"] == "completed"
    assert "too large" in exchange_toml(answer_left_out)["left_out"][0]
    assert files(request_left_out) == {"exchange.toml"}
    assert exchange_toml(request_left_out)["left_out"][0] == "request.json: too large"
    for folder in (answer_left_out, request_left_out):
        assert main(["replay", str(folder)]) == 2
        assert "too large" in capsys.readouterr().err


async def test_items_of_the_previous_response_that_are_too_large_are_named(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings = make_settings(
        upstream.url, trace_folder=str(tmp_path / "t"), max_traced_bytes=10_000
    )
    async with tracing_server(settings) as base:
        async with connect(base.replace("http", "ws") + PATH) as socket:
            last: dict[str, Any] = {}
            for text in ("y" * 20_000, "And now?"):
                before = {"previous_response_id": last["response"]["id"]} if last else {}
                await socket.send(
                    json.dumps(ASK | {"type": "response.create", "input": text} | before)
                )
                while (last := json.loads(await bounded(socket.recv())))["type"] != END:
                    pass
    _, folder = kept(tmp_path / "t")
    assert "request.json" in files(folder)
    assert "earlier.json: too large" in exchange_toml(folder)["left_out"]


async def test_the_memory_of_all_exchanges_is_bounded(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large concurrent exchanges are written without their bodies; later there is room again."""
    monkeypatch.setattr(writer, "MAX_HELD_BYTES", 100_000)
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
    assert "left_out" not in exchange_toml(alone)


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
                LOSSES.take()
                lost = 0
                async with asyncio.timeout(20):
                    for _ in range(5):
                        answer = await client.post(PATH, json=ASK)
                    while lost < 5:
                        lost += LOSSES.take()["capture"]
                        await asyncio.sleep(0.01)
            await client.post(PATH, json=ASK)
    assert events(answer.content)[-1]["type"] == "response.completed"
    [folder] = kept(tmp_path / "t")  # the second one, when there was room again
    assert f"is written to {folder}" in caplog.text
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [text.partition(": ")[2] for text in warned] == [
        f"{warned[0].split()[1]} is not written: No space left on device",
        "exchanges are written again; 5 were lost",
    ]


def test_an_unusable_folder_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["serve", "--upstream", "http://u", "--port", "0", "--trace", str(tmp_path / "file/t")]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"translator: trace: cannot write in {tmp_path}/file/t: not a directory\n"
    )


def test_there_is_no_observer_by_default() -> None:
    with observing(make_settings("http://127.0.0.1:9/v1"), None) as observe:
        assert observe is None
