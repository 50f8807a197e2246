"""The declaration of a hosted search: what is refused, and what is done without and said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.replaying import translation
from tests.rounds import FUNCTION, REQUEST, SEARCH, Loop, call, play, says, turn
from translator import InvalidRequest, Options, Translation
from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.common.web_search import MAX_DOMAINS, domain_of


def _asked(*, by_country: bool = True, **fields: Any) -> Translation:
    request = {**REQUEST, "tools": [{**SEARCH, **fields}]}
    return Loop(request, hosted=Hosted(search_by_country=by_country)).translation()


def _notices(translation: Translation) -> list[tuple[str, str]]:
    return [(one.path.removeprefix("tools[0]."), one.code) for one in translation.notices]


@pytest.mark.parametrize("field", ["allowed_domains", "blocked_domains"])
@pytest.mark.parametrize(
    "domain", ["", " ", ".", "*.", "https://", "exa mple", "a..b", "a.com:80", "a" * 64, "é" * 80]
)
def test_what_is_no_domain_is_refused(field: str, domain: str) -> None:
    """Left out, it would let everything pass."""
    with pytest.raises(InvalidRequest) as caught:
        _asked(filters={field: ["a.com", domain]})
    assert caught.value.param == f"tools[0].filters.{field}[1]"
    assert caught.value.code == "invalid_value"


def test_domains_are_bounded() -> None:
    many = [f"{number}.com" for number in range(MAX_DOMAINS + 1)]
    assert _asked(filters={"allowed_domains": many[1:]}).notices == ()
    with pytest.raises(InvalidRequest) as caught:
        _asked(filters={"blocked_domains": many})
    assert caught.value.param == "tools[0].filters.blocked_domains"
    assert caught.value.code == "array_above_max_length"


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("a.com", "a.com"),
        ("*.a.com", "a.com"),
        ("https://WWW.a.com/x?y", "www.a.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_dmarc.a-b.com.", "_dmarc.a-b.com"),
        (".".join(["a" * 60] * 5), ""),
    ],
)
def test_a_domain_in_other_forms(text: str, domain: str) -> None:
    assert domain_of(text) == domain


def test_a_domain_that_is_read_as_another_is_said() -> None:
    asked = _asked(filters={"allowed_domains": ["A.com", "*.b.com", "http://c.com/x", "bücher.de"]})
    assert _notices(asked) == [
        ("filters.allowed_domains[1]", "weakened"),
        ("filters.allowed_domains[2]", "weakened"),
    ]


def test_the_place_of_the_user_is_used_as_far_as_it_can_be() -> None:
    place = {"type": "approximate", "country": "DE", "city": "Ulm", "region": "", "timezone": "UTC"}
    unused = [("user_location.city", "ignored"), ("user_location.timezone", "ignored")]
    country = [("user_location.country", "ignored")]
    assert _notices(_asked(user_location=place)) == unused
    assert _notices(_asked(user_location=place, by_country=False)) == unused + country
    assert _notices(_asked(user_location={"country": "Germany"})) == country
    assert _notices(_asked(user_location={"type": "approximate"}, by_country=False)) == []


def test_an_unknown_context_size_is_refused() -> None:
    assert _asked(search_context_size="low").notices == ()
    with pytest.raises(InvalidRequest) as caught:
        _asked(search_context_size="huge")
    assert caught.value.param == "tools[0].search_context_size"
    assert caught.value.code == "invalid_value"


def _refused(call_: HostedCall) -> Outcome:
    return Outcome((f"{call_.name} is not run.",), failed=True)


def test_a_function_that_the_model_was_not_told_of_is_no_call_of_the_client() -> None:
    """Where nothing new is fetched, pages are not declared; a model may call them nevertheless."""
    tool = {**SEARCH, "external_web_access": False}
    request = {**REQUEST, "tools": [tool]}
    turns = [turn(call("open_page", url="https://a.test/")), says("So.")]
    played = play(request, turns, _refused)
    assert [one["function"]["name"] for one in played.bodies[0]["tools"]] == ["web_search"]
    assert played.kinds == ["web_search_call", "reasoning", "message"]
    assert played.output[0]["status"] == "failed"
    assert played.bodies[1]["messages"][-1]["content"] == "open_page is not run."


def test_a_function_of_the_client_keeps_the_name_of_one_that_is_not_declared() -> None:
    own = {**FUNCTION, "name": "open_page"}
    request = {**REQUEST, "tools": [{**SEARCH, "external_web_access": False}, own]}
    played = play(request, [turn(call("open_page", url="https://a.test/"))])
    names = [one["function"]["name"] for one in played.bodies[0]["tools"]]
    assert names == ["open_page", "web_search"]
    assert [item["type"] for item in played.output if item["type"] != "reasoning"] == [
        "function_call"
    ]


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("web_search", "[tools.search]"),
        ("web_search_preview", "[tools.search]"),
        ("mcp", "[tools.mcp]"),
    ],
)
def test_a_tool_that_does_not_run_names_what_has_it_run(kind: str, section: str) -> None:
    tool = {"type": kind, "server_label": "a"}
    request = {**REQUEST, "tools": [tool]}
    [dropped] = translation(request).notices
    assert dropped.message.endswith(f"The service runs it with {section}.")
    with pytest.raises(InvalidRequest) as caught:
        translation(request, options=Options(hosted_tools="reject"))
    assert caught.value.message.endswith(f"The service runs it with {section}.")


def test_a_tool_that_runs_nowhere_names_nothing() -> None:
    [dropped] = translation({**REQUEST, "tools": [{"type": "file_search"}]}).notices
    assert dropped.message == "A tool of type file_search cannot run here; it was left out."


def test_a_chosen_search_that_does_not_run_names_what_has_it_run() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translation({**REQUEST, "tool_choice": SEARCH})
    assert caught.value.param == "tool_choice"
    assert caught.value.message.endswith("The service runs it with [tools.search].")
    with pytest.raises(InvalidRequest) as caught:
        translation({**REQUEST, "tool_choice": {"type": "file_search"}})
    assert caught.value.message == "The chosen tool cannot run here."
