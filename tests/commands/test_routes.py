"""`convert` and `replay` with a model of a settings file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.chat_bodies import chunk
from tests.service.test_main import given
from tests.service.wire import ScriptedUpstream, client_of
from tests.test_packaging import without_service
from translator.__main__ import main
from translator.service.config.loading import read_file

SETTINGS = """
[server]
reasoning_events = "text"

[upstreams.up]
base_url = "http://up.test/v1"
api_key_env = "NOT_SET_ANYWHERE"

[upstreams.up.facts]
max_tokens_field = "max_completion_tokens"

[models.small]
upstream = "up"
upstream_model = "org/small-1"
max_output_tokens = 100
vision = false

[models.small.facts]
think_tags = { pairs = [["<think>", "</think>"]] }

[models.strict]
upstream = "up"
strict = true

[models."*"]
upstream = "up"
dialect = "deepseek"
"""

REQUEST = {
    "model": "small",
    "max_output_tokens": 500,
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            ],
        }
    ],
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    return str(path)


def converted(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, list[str]]:
    assert main(["convert", *words]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err.splitlines()


def test_convert_shows_the_alias_the_clamp_the_vision_and_the_facts_of_a_model(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, REQUEST)
    chat, said = converted(capsys, "--config", config)
    assert (chat["model"], chat["max_completion_tokens"]) == ("org/small-1", 100)
    assert "image_url" not in json.dumps(chat["messages"])
    assert said[0] == (
        "translator: note: model small goes to upstream up as org/small-1 (dialect base)"
    )
    assert [line.split(": ")[1] for line in said[1:]] == [
        "input[0].content[1]",
        "max_output_tokens",
    ]


def test_convert_reads_settings_without_the_service(config: str) -> None:
    done = without_service("convert", "--config", config, given=json.dumps(REQUEST).encode())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "org/small-1"


def test_convert_asks_for_another_model(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, REQUEST)
    chat, said = converted(capsys, "--config", config, "--model", "deepseek-reasoner")
    assert chat["model"] == "deepseek-reasoner"  # of "*", which keeps the name
    assert said[0].endswith("goes to upstream up as deepseek-reasoner (dialect deepseek)")
    given(monkeypatch, REQUEST)
    chat, said = converted(capsys, "--model", "other")
    assert chat["model"] == "other"
    assert not any(line.startswith("translator: note") for line in said)


def test_convert_tells_what_the_settings_do_not_allow(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given(monkeypatch, {**REQUEST, "tools": [{"type": "web_search"}]})
    assert main(["convert", "--config", config, "--model", "strict"]) == 1
    assert capsys.readouterr().err.splitlines()[1].startswith("tools[0]: ")
    file = tmp_path / "two.toml"
    file.write_text(SETTINGS.partition('[models."*"]')[0])
    given(monkeypatch, REQUEST)
    assert main(["convert", "--config", str(file), "--model", "big"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "model: The model 'big' does not exist. Models: small, strict.\n"
    given(monkeypatch, REQUEST)
    assert main(["convert", "--config", config, "--dialect", "vllm"]) == 2
    assert "--dialect cannot be used with --config" in capsys.readouterr().err
    file.write_text("[upstreams.up]\n")
    given(monkeypatch, REQUEST)
    assert main(["convert", "--config", str(file)]) == 2
    assert capsys.readouterr().err == "translator: upstreams.up.base_url: is missing\n"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_convert_prints_what_the_service_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    async with ScriptedUpstream().running() as upstream:
        file.write_text(SETTINGS.replace("http://up.test/v1", upstream.url))
        settings = read_file(file, {"NOT_SET_ANYWHERE": "key"})
        for model in ("small", "deepseek-chat"):
            request = {**REQUEST, "model": model, "stream": True}
            async with client_of(settings) as client:
                assert (await client.post("/v1/responses", json=request)).status_code == 200
            given(monkeypatch, request)
            chat, _ = converted(capsys, "--config", str(file))
            assert chat == upstream.calls[-1].json


def test_replay_reads_an_answer_by_the_facts_of_a_model(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = chunk({"content": "<think>Hm.</think>Yes"}) + chunk({}, finish="stop")
    given(monkeypatch, body)
    assert main(["replay", "--json", "--config", config, "--model", "small"]) == 0
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message"]
    assert "response.reasoning_text.delta" in {event["type"] for event in events}
    assert events[-1]["response"]["model"] == "small"
    assert "goes to upstream up as org/small-1" in err
    given(monkeypatch, body)
    assert main(["replay", "--json", "--config", config]) == 2
    assert "replay --config needs --model NAME, or --request FILE" in capsys.readouterr().err


def test_replay_of_a_folder_has_its_own_model(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(tmp_path), "--config", config]) == 2
    assert capsys.readouterr().err == (
        "translator: replay FOLDER takes no --config: it is in the folder\n"
    )


def test_the_order_of_fallbacks_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(
        '[upstreams.a]\nbase_url = "http://a.test/v1"\n'
        '[upstreams.b]\nbase_url = "http://b.test/v1"\n'
        '[models.one]\nupstream = ["a", "b"]\nfallbacks = ["two"]\n'
        '[models.two]\nupstream = "b"\n'
    )
    given(monkeypatch, json.dumps({"model": "one", "input": "Hi"}).encode())
    _, notes = converted(capsys, "--config", str(config))
    assert notes[1].endswith("where it does not answer: the same on b, two on b")
