"""What the client tests stand on: a client that is missing, and the README as their set-up."""

from __future__ import annotations

import pytest

from .conftest import at, needed, needed_module, readme

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


def test_the_readme_s_blocks_are_found_by_heading_and_language() -> None:
    """Only those under the heading, and a set-up without the documented URL is a mistake."""
    [block, *_] = readme("LangChain", "python")
    assert "ChatOpenAI(" in block
    assert "pydantic_ai" not in "".join(readme("LangChain", "python"))
    assert 'base_url="http://here/v1"' in at("http://here/v1", block)
    with pytest.raises(AssertionError, match="the documented base URL is not in"):
        at("http://here/v1", "nothing")
    with pytest.raises(AssertionError, match="no heading"):
        readme("No such client", "python")
