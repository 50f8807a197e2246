"""`translator opencode`: its output, the file it writes, and the content it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from translator.__main__ import main

SETTINGS = """\
[upstreams.deepseek]
base_url = "https://deepseek.test/v1"
api_key_env = "A_VARIABLE_THAT_IS_NOT_SET"
dialect = "deepseek"

[upstreams.openai]
base_url = "https://openai.test/v1"
dialect = "openai"

[models."chat"]
upstream = "deepseek"
context_window = 131072
max_output_tokens = 8192

[models."org/gpt"]
upstream = "openai"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "opencode" / "opencode.json"


def write(settings: Path, file: Path, *options: str) -> dict[str, Any]:
    argv = ["opencode", "--config", str(settings), "--file", str(file), "--write", *options]
    assert main(argv) == 0
    values: dict[str, Any] = json.loads(file.read_text())
    return values


def test_a_new_file_holds_the_provider_and_a_default(settings: Path, file: Path) -> None:
    """Limits, images and reasoning come from the settings and the dialects."""
    assert write(settings, file) == {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            "translator": {
                "npm": "@ai-sdk/openai",
                "name": "translator",
                "options": {
                    "baseURL": "http://127.0.0.1:8080/v1",
                    "apiKey": "{env:TRANSLATOR_API_KEY}",
                },
                "models": {
                    "chat": {
                        "name": "chat",
                        "attachment": False,
                        "reasoning": True,
                        "tool_call": True,
                        "modalities": {"input": ["text"], "output": ["text"]},
                        "limit": {"context": 131072, "output": 8192},
                    },
                    "org/gpt": {
                        "name": "org/gpt",
                        "attachment": True,
                        "reasoning": True,
                        "tool_call": True,
                        "modalities": {"input": ["text", "image"], "output": ["text"]},
                    },
                },
            }
        },
        "model": "translator/chat",
    }


def test_chat_completions_name_the_field_of_reasoning(settings: Path, file: Path) -> None:
    """Nothing is translated there, so OpenCode must return reasoning in the upstream's field."""
    provider = write(settings, file, "--api", "chat")["provider"]["translator"]
    assert provider["npm"] == "@ai-sdk/openai-compatible"
    assert provider["models"]["chat"]["interleaved"] == {"field": "reasoning_content"}
    assert "interleaved" not in provider["models"]["org/gpt"]


def test_what_is_there_is_kept_and_a_second_run_changes_nothing(
    settings: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (
        '{\n\t"theme": "dark",\n\t"model": "anthropic/x",\n\t"provider": {\n\t\t"other": {},\n'
        '\t\t"translator": {\n\t\t\t"options": {"apiKey": "{env:MY_KEY}", "timeout": 5},\n'
        '\t\t\t"models": {"old": {}, "chat": {"cost": {"input": 1}}}\n\t\t}\n\t}\n}\n'
    )
    file.parent.mkdir()
    file.write_text(before)
    values = write(settings, file)
    provider = values["provider"]["translator"]
    assert (values["theme"], values["model"]) == ("dark", "anthropic/x")
    assert list(values["provider"]) == ["other", "translator"]
    assert provider["options"]["timeout"] == 5
    assert provider["options"]["apiKey"] == "{env:MY_KEY}"
    assert provider["models"]["old"] == {}
    assert provider["models"]["chat"]["cost"] == {"input": 1}
    assert provider["models"]["chat"]["tool_call"] is True
    assert file.read_text().startswith('{\n\t"theme": "dark",\n')
    backup = file.with_name("opencode.json.bak")
    assert backup.read_text() == before

    text = file.read_text()
    capsys.readouterr()
    write(settings, file)
    assert capsys.readouterr().out == f"unchanged  {file}\n"
    assert file.read_text() == text
    assert sorted(path.name for path in file.parent.iterdir()) == [
        ".translator-opencode-undo.json",
        "opencode.json",
        "opencode.json.bak",
    ]


def test_the_default_is_changed_where_asked(settings: Path, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"model": "anthropic/x"}')
    assert write(settings, file, "--default", "org/gpt")["model"] == "translator/org/gpt"


def test_where_no_key_is_needed_a_word_stands_for_it(settings: Path, file: Path) -> None:
    """OpenCode's OpenAI package does not start without a key."""
    provider = write(settings, file, "--model", "chat")["provider"]["translator"]
    assert provider["options"]["apiKey"] == "none"


def test_a_file_with_comments_is_left_alone(
    settings: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without --write, the configuration is still printed."""
    file.parent.mkdir()
    file.write_text('{\n  // mine\n  "theme": "dark"\n}\n')
    argv = ["opencode", "--config", str(settings), "--file", str(file)]
    assert main([*argv, "--write"]) == 2
    assert "comments in it would be lost" in capsys.readouterr().err
    assert [path.name for path in file.parent.iterdir()] == ["opencode.json"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "translator" in json.loads(out)["provider"]
    assert "opencode -m translator/org/gpt" in err


def test_the_usual_file_is_where_opencode_looks(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["opencode", "--config", str(settings), "--write"]
    monkeypatch.delenv("OPENCODE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert main(argv) == 0
    assert (tmp_path / "xdg" / "opencode" / "opencode.json").exists()
    monkeypatch.setenv("OPENCODE_CONFIG", str(tmp_path / "named.json"))
    assert main(argv) == 0
    assert (tmp_path / "named.json").exists()


@pytest.mark.parametrize("text", ["[]", "7"])
def test_a_file_that_holds_something_else_is_not_touched(
    settings: Path, file: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir()
    file.write_text(text)
    argv = ["opencode", "--config", str(settings), "--file", str(file), "--write"]
    assert main(argv) == 2
    assert "is not a JSON object" in capsys.readouterr().err
    assert file.read_text() == text
