"""What the client tests stand on: a client that is missing, and the documented set-ups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, at, needed, needed_module, snippets

SENTENCE = "the client is not here: `make clients` installs it and runs these tests"


def test_a_missing_client_is_a_skip_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRANSLATOR_REQUIRE_CLIENTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=SENTENCE):
        needed("the client", None)
    with pytest.raises(pytest.skip.Exception, match=SENTENCE):
        needed_module("no_such_module", "the client")
    assert needed("the client", "found") == "found"


def test_a_missing_client_is_a_failure_where_clients_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRANSLATOR_REQUIRE_CLIENTS", "1")
    with pytest.raises(pytest.fail.Exception, match=SENTENCE):
        needed("the client", None)


def test_where_no_client_is_there_nothing_is_asserted(tmp_path: Path) -> None:
    """A test that skips in its body leaves a script behind of which no turn was asked for."""
    hidden = ("agents", "langchain_openai", "pydantic_ai")
    (tmp_path / "no_clients.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({hidden}))\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no_clients", "-p", "no:cacheprovider"]
    environment = os.environ | {
        "PATH": "/nowhere",
        "PYTHONPATH": str(tmp_path),
        "TRANSLATOR_CLIENTS": str(tmp_path),
        "TRANSLATOR_REQUIRE_CLIENTS": "",
    }
    done = subprocess.run(
        [*command, "-m", "heartbeats", "-k", "fireworks", "tests/clients"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " skipped" in done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]


def test_the_documented_blocks_are_found_by_heading_and_language() -> None:
    """Only those under the heading, and a set-up without the documented URL is a mistake."""
    [block, *_] = snippets("LangChain", "python")
    assert "ChatOpenAI(" in block
    assert "pydantic_ai" not in "".join(snippets("LangChain", "python"))
    assert 'base_url="http://here/v1"' in at("http://here/v1", block)
    with pytest.raises(AssertionError, match="the documented base URL is not in"):
        at("http://here/v1", "nothing")
    with pytest.raises(AssertionError, match="no heading"):
        snippets("No such client", "python")
