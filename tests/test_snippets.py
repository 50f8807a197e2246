"""The snippets of the README and of docs/ do what the text beside them says."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

import translator
from translator.service.config.loading import read_table

from .clients.conftest import serving
from .clients.upstream import ScriptedUpstream, Turn
from .test_docs import DOCS, README, blocks

URL = "http://127.0.0.1:8080/v1"
UPSTREAM = {"base_url": "http://up.test/v1"}


@pytest.fixture
def upstream() -> Any:
    with ScriptedUpstream(Turn(text="Hello.")) as running:
        yield running


@pytest.mark.parametrize(("page", "streamed"), [(README, True), (DOCS / "start.md", False)])
def test_the_first_question_is_answered(
    page: Path, streamed: bool, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command as it is documented, with the lines that the text promises."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    [ask] = [code for code in blocks(page, "sh") if code.startswith("curl ")]
    assert f"{URL}/responses" in ask
    monkeypatch.setenv("FIREWORKS_API_KEY", "k-of-the-upstream")
    with serving(upstream.base_url, "--dialect", "fireworks") as base_url:
        done = subprocess.run(
            ["sh", "-c", ask.replace(URL, base_url)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert upstream.keys == ["Bearer k-of-the-upstream"]
    if streamed:
        lines = done.stdout.strip().splitlines()
        assert (lines[0], lines[-1]) == ("event: response.created", "data: [DONE]")
        text = page.read_text("utf-8")
        assert f"first line that comes is `{lines[0]}`" in text
        assert f"the last one `{lines[-1]}`" in text
    else:
        assert '"status":"completed"' in done.stdout
        assert '"status":"completed"' in page.read_text("utf-8")


def test_the_library_in_fifteen_lines_is_a_whole_program(upstream: ScriptedUpstream) -> None:
    [code] = blocks(README, "python")
    statements = [line for line in code.splitlines() if line and not line.startswith("import ")]
    assert len(statements) <= 16
    at = "http://127.0.0.1:8000/v1"
    assert at in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace(at, upstream.base_url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("event: response.created\n")
    assert '"type":"response.output_text.done"' in done.stdout
    assert "event: response.completed\n" in done.stdout


def test_the_library_with_everything_passed_in() -> None:
    """The page's names stand for what a program has: they are given here."""
    [code] = blocks(DOCS / "library.md", "python")
    sent: list[bytes] = []
    posted: list[bytes] = []
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    names: dict[str, Any] = {
        "request": {"model": "m", "input": "Hello", "stream": True},
        "unguessable": lambda: secrets.token_hex(24),
        "now": lambda: int(time.time()),
        "post_upstream": posted.append,
        "send": sent.append,
        "upstream_body": [chunk[:20], chunk[20:], b"data: [DONE]\n\n"],
    }
    exec(code, names)
    assert b'"messages"' in posted[0]
    assert b"response.completed" in sent[-1]


def test_what_the_page_of_the_library_names_is_there() -> None:
    text = (DOCS / "library.md").read_text("utf-8")
    ask = {"model": "m", "input": "Hello"}
    t = translator.Translation(ask, response_id="resp_1", created_at=1, new_id=str)
    for owner, name in re.findall(r"`(t|Options)\.(\w+)", text):
        assert hasattr(translator.Options if owner == "Options" else t, name)
    for name in re.findall(r"`([A-Z][A-Za-z]+)[`(]", text):
        assert hasattr(translator, name), name


@pytest.mark.parametrize("page", ["start.md", "dialects.md", "operations.md", "accounts.md"])
def test_settings_are_valid(page: str) -> None:
    """Each block of TOML by itself; an upstream that it only names, or leaves out, is added."""
    found = blocks(DOCS / page, "toml")
    assert found
    for code in found:
        table = tomllib.loads(code)
        upstreams = table.setdefault("upstreams", {})
        for model in table.get("models", {}).values():
            names = model["upstream"]
            for name in [names] if isinstance(names, str) else names:
                upstreams.setdefault(name, UPSTREAM)
        if not upstreams:
            upstreams["fireworks"] = UPSTREAM
        settings = read_table(table, {"FIREWORKS_API_KEY": "k", "DOCS_KEY": "k"})
        assert settings.upstreams.keys() == upstreams.keys()
