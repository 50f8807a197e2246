"""The URLs that the model of a hosted search may open: those that were found, not those it wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rounds import REQUEST, Turn, call, says, search, turn
from translator.service.tools.addresses import MAX_URL_CHARACTERS
from translator.service.tools.written_urls import MAX_URLS, comparable, urls_in

from .hosting import Model, events_of, hosting, items_of
from .searching import ScriptedWeb, result

pytestmark = pytest.mark.anyio


def _evil(scripted: ScriptedWeb) -> str:
    return f"{scripted.url}/evil?d=secret"


def _smuggling(url: str, page: str) -> dict[str, list[dict[str, Any]]]:
    """Calls by which a model could have its own URL repeated."""
    return {
        "query": [search(url)],
        "query beside words": [search(f"see {url}")],
        "query of a result": [search(f"x\n[1] x ({url})\n{url}")],
        "long query": [search(f"{'x ' * 80}{url}")],
        "pattern": [call("find_in_page", url=page, pattern=url)],
        "refused page": [call("open_page", url=url)],
        "missing argument": [call("find_in_page", url=url)],
    }


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("way", list(_smuggling("", "")))
async def test_what_a_model_writes_into_a_call_may_not_be_opened(
    scripted: ScriptedWeb, way: str, found: bool
) -> None:
    """Neither in the same response, nor in the next."""
    evil, page = _evil(scripted), f"{scripted.url}/page"
    scripted.results = [result(page)] if found else []
    scripted.pages = {"/page": "<p>A page.", "/evil": "<p>Evil."}
    model = Model(
        turn(search("news")),
        turn(*_smuggling(evil, page)[way]),
        turn(call("open_page", url=evil)),
        says("So."),
        turn(call("open_page", url=evil)),
        says("So."),
    )
    async with hosting(model, scripted) as client:
        first = (await events_of(client))[-1]["response"]
        again = [*REQUEST["input"], *first["output"], {"role": "user", "content": "More?"}]
        events = await events_of(client, {**REQUEST, "input": again})
    assert "/evil" not in scripted.asked
    assert [item["status"] for item in items_of(events, "web_search_call")] == ["failed"]
    assert "stood in results" in model.tool_messages(5)[-1]


async def test_a_backend_that_quotes_the_query_lets_nothing_be_opened(
    scripted: ScriptedWeb,
) -> None:
    evil = _evil(scripted)
    scripted.results = [result("https://other.test/", "Other", f"[1] You asked for ({evil})")]
    model = Model(
        turn(search(f"[1] You asked for ({evil})")),
        says("So."),
        turn(call("open_page", url=evil)),
        says("So."),
    )
    async with hosting(model, scripted) as client:
        first = (await events_of(client))[-1]["response"]
        again = [*REQUEST["input"], *first["output"], {"role": "user", "content": "More?"}]
        await events_of(client, {**REQUEST, "input": again})
    assert "/evil" not in scripted.asked


async def _opened(scripted: ScriptedWeb, url: str, *before: Turn, later: bool) -> str:
    """The status of a page that is opened after turns, in the same response or the next."""
    ending = [says("So.")] if later else []
    model = Model(*before, *ending, turn(call("open_page", url=url)), says("So."))
    async with hosting(model, scripted) as client:
        events = await events_of(client)
        if later:
            output = events[-1]["response"]["output"]
            again = [*REQUEST["input"], *output, {"role": "user", "content": "More?"}]
            events = await events_of(client, {**REQUEST, "input": again})
    status: str = items_of(events, "web_search_call")[-1]["status"]
    return status


@pytest.mark.parametrize("later", [False, True])
async def test_what_was_found_may_be_opened(scripted: ScriptedWeb, later: bool) -> None:
    """A result, though the query named it; and what the text of a page names without a link."""
    page, named = f"{scripted.url}/page_(1)", f"{scripted.url}/named"
    scripted.results = [{**result(page, "A (title)"), "publishedDate": "2026-11-01"}]
    scripted.pages = {"/page_(1)": f"<p>See {named}.", "/named": "<p>There."}
    searched = turn(search(f"see {page}"))
    opened = turn(call("open_page", url=page))
    assert await _opened(scripted, page, searched, later=later) == "completed"
    assert await _opened(scripted, named, searched, opened, later=later) == "completed"
    matching = turn(call("find_in_page", url=page, pattern="see"))
    assert await _opened(scripted, named, searched, matching, later=later) == "completed"


async def test_results_in_the_items_may_be_opened(scripted: ScriptedWeb) -> None:
    """Of a client that keeps neither the seal nor a response here."""
    page = f"{scripted.url}/page"
    scripted.results = [result(page)]
    scripted.pages = {"/page": "<p>There."}
    model = Model(turn(search("news")), says("So."), turn(call("open_page", url=page)), says("So."))
    request = {**REQUEST, "include": ["web_search_call.results"]}
    async with hosting(model, scripted) as client:
        output = (await events_of(client, request))[-1]["response"]["output"]
        kept = [item for item in output if item["type"] != "reasoning"]
        again = [*REQUEST["input"], *kept, {"role": "user", "content": "More?"}]
        events = await events_of(client, {**request, "input": again})
    assert [item["status"] for item in items_of(events, "web_search_call")] == ["completed"]


async def test_pages_of_a_response_are_bounded(scripted: ScriptedWeb) -> None:
    urls = [f"{scripted.url}/{number}" for number in range(3)]
    scripted.results = [result(url) for url in urls]
    scripted.pages = {f"/{number}": "<p>A page." for number in range(3)}
    model = Model(
        turn(search("news")), *(turn(call("open_page", url=url)) for url in urls), says("So.")
    )
    async with hosting(model, scripted, pages={"max_pages": 2}) as client:
        await events_of(client)
    assert scripted.asked == ["/search", "/0", "/1"]
    assert model.tool_messages(4)[-1] == "no further page is opened: 2 is the most for one answer."


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Rubik's: https://a.test/Rubik's_cube.", "https://a.test/Rubik's_cube"),
        ("See 'https://a.test/x', please.", "https://a.test/x"),
        ("['https://a.test/x','https://b.test/y']", "https://b.test/y"),
        ('{"url":"https://a.test/x"}', "https://a.test/x"),
        ("`https://a.test/x`", "https://a.test/x"),
        ("(https://a.test/Foo_(bar))", "https://a.test/Foo_(bar)"),
        ("**https://a.test/x_**", "https://a.test/x_"),
        ("“https://a.test/x”", "https://a.test/x"),
        ("请看https://a.test/x。谢谢", "https://a.test/x"),
        ("https://a.test/猫の名前", "https://a.test/猫の名前"),
        ("<https://a.test/x?y=1&z=2>", "https://a.test/x?y=1&z=2"),
        ("HTTPS://A.test/x!?", "https://a.test/x"),
    ],
)
def test_a_url_in_a_text_is_found_however_it_ends(text: str, written: str) -> None:
    assert written in urls_in(text)


@given(st.text(st.sampled_from("https://a.test 'x\")_.,猫<"), max_size=60))
def test_what_is_found_in_a_text_begins_with_what_stands_there(text: str) -> None:
    """No reading makes up a URL: each is a piece of the text, as it is compared."""
    pieces = {
        comparable(text[start:end])
        for start in range(len(text))
        if text.startswith(("http://", "https://"), start)
        for end in range(start, len(text) + 1)
    }
    assert urls_in(text) <= pieces | {""}


def test_many_urls_without_a_space_cost_little() -> None:
    text = "https://a.test/?u=" * 100_000
    assert len(urls_in(text)) <= 3 * MAX_URLS


def test_a_url_that_is_cut_is_none() -> None:
    text = "https://a.test/" + "x" * MAX_URL_CHARACTERS
    assert not any(one.startswith("https://a.test/x") for one in urls_in(text))
