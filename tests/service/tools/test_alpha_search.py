"""`POST /v1/alpha/search`, as Codex uses it: each command, its bounds, and what is not available."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import jsonschema
import pytest
from aiohttp import web

from tests.service.log import Log
from tests.service.wire import ScriptedUpstream, bounded, client_of, make_settings, serving
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table

from .searching import PATH, Codex, ScriptedWeb, codex_of, result, settings_of

pytestmark = pytest.mark.anyio

ARTICLE = """<html><head><title>The article</title></head><body>
<nav><a href="/menu">Menu</a></nav>
<h1>Head</h1><p>Some text on <a href="/second">the second page</a>.
<p>A line with the needle in it.
</body></html>"""


@pytest.fixture
def two_pages(scripted: ScriptedWeb) -> ScriptedWeb:
    scripted.results = [result(f"{scripted.url}/first", "First", "What it is about.")]
    scripted.pages = {"/first": ARTICLE, "/second": "<title>Second</title><p>The end."}
    return scripted


async def test_scenario_38_every_command_is_answered(two_pages: ScriptedWeb) -> None:
    async with codex_of(two_pages) as codex:
        output = await codex.ask(search_query=[{"q": "it", "recency": 3}])
        [found] = codex.results
        ref = found["ref_id"]
        assert ref.startswith("turn") and ref.endswith("search0")
        assert f"[{ref}] First ({two_pages.url}/first)\nWhat it is about." in output
        assert found == {"ref_id": ref, "url": f"{two_pages.url}/first", "title": "First"}

        output = await codex.ask(open=[{"ref_id": ref}])
        page = codex.results[0]["ref_id"]
        assert f"[{page}] The article ({two_pages.url}/first)" in output
        assert "L1: # Head" in output and "Some text on [0│the second page]." in output
        assert "Menu" not in output

        assert "The end." in await codex.ask(click=[{"ref_id": page, "id": 0}])
        output = await codex.ask(find=[{"ref_id": page, "pattern": "NEEDLE"}])
        assert "A line with the needle in it." in output and "# Head" not in output
        output = await codex.ask(open=[{"ref_id": page, "lineno": 5}])
        assert "L5: A line with the needle" in output and "L1:" not in output
        output = await codex.ask(time=[{"utc_offset": "+03:00"}])
        assert "UTC+03:00" in output
        for name, entry in (
            ("image_query", {"q": "cats"}),
            ("screenshot", {"ref_id": page, "pageno": 0}),
            ("finance", {"ticker": "AMD", "type": "equity"}),
            ("weather", {"location": "Rome"}),
            ("sports", {"fn": "schedule"}),
            ("literature_search_query", {"q": "cells"}),
            ("brand_new", {"x": 1}),
        ):
            output = await codex.ask(**{name: [entry]})
            assert "search_query" in output or "open" in output
    assert two_pages.asked == ["/search", "/first", "/second"], "a page is fetched once"
    assert two_pages.calls[0].query["time_range"] == "week"


async def test_scenario_38_what_is_not_known_is_answered_in_words(two_pages: ScriptedWeb) -> None:
    """With status 200: a 4xx would be words for the model, too, but of the wrong kind."""
    async with codex_of(two_pages) as codex:
        await codex.ask(search_query=[{"q": "it"}])
        ref = codex.results[0]["ref_id"]
        for commands, words in (
            ({}, "No command"),
            ({"response_length": "long"}, "No command"),
            ({"open": [{"ref_id": "turn0search99"}]}, "not known here"),
            ({"open": [{"ref_id": "nonsense"}]}, "not known here"),
            ({"open": [{}]}, "no ref_id"),
            ({"open": [{"ref_id": f"{two_pages.url}/absent"}]}, "only pages that stood"),
            ({"click": [{"ref_id": ref}]}, "no id"),
            ({"click": [{"ref_id": ref, "id": 7}]}, "no link 7"),
            ({"find": [{"ref_id": ref}]}, "no pattern"),
            ({"find": [{"ref_id": ref, "pattern": "absent"}]}, "is not on this page"),
            ({"search_query": [{"q": ""}]}, "no q"),
            ({"search_query": [7, None]}, "no q"),
            ({"time": [{"utc_offset": "+99:00"}]}, "utc_offset"),
            ({"time": [{"utc_offset": "here"}]}, "utc_offset"),
            ({"open": 7, "click": {"a": {}}, "find": "x"}, "not known here"),
        ):
            assert words in await codex.ask(**commands), commands


@pytest.mark.parametrize("length", [None, "short", "medium", "long"])
@pytest.mark.parametrize("tokens", [1, 50, 500, 2500])
async def test_scenario_38_the_output_is_within_the_budget(
    two_pages: ScriptedWeb, tokens: int, length: str | None
) -> None:
    """Of four characters for a token, however long results and pages are."""
    two_pages.results = [
        result(f"{two_pages.url}/first{n}", "Title " * 100, "word " * 10_000) for n in range(20)
    ]
    two_pages.pages = {f"/first{n}": "<p>" + "long text " * 20_000 for n in range(20)}
    async with codex_of(two_pages) as codex:
        codex.max_output_tokens = tokens
        more = {} if length is None else {"response_length": length}
        output = await codex.ask(search_query=[{"q": "a"}, {"q": "b"}], **more)
        assert 0 < len(output) <= 4 * tokens
        refs = [{"ref_id": one["ref_id"]} for one in codex.results[:3]]
        output = await codex.ask(open=refs, find=[refs[0] | {"pattern": "text"}], **more)
        assert 0 < len(output) <= 4 * tokens


async def test_a_long_page_is_read_in_parts(two_pages: ScriptedWeb) -> None:
    """Each part says from which line on the next one is; together they are the page."""
    two_pages.pages["/first"] = "".join(f"<p>paragraph {n} {'x' * 90}" for n in range(300))
    async with codex_of(two_pages) as codex:
        codex.max_output_tokens = 1000
        await codex.ask(search_query=[{"q": "it"}])
        ref, line, seen = codex.results[0]["ref_id"], 1, ""
        for _ in range(60):
            output = await codex.ask(open=[{"ref_id": ref, "lineno": line}])
            seen += output
            if "For more, open" not in output:
                break
            line = int(output.partition("with lineno ")[2].partition(".")[0])
            ref = codex.results[0]["ref_id"]
        assert all(f"paragraph {n} " in seen for n in range(300))
    assert two_pages.asked.count("/first") == 1


@pytest.mark.parametrize("status", [301, 403, 429, 500])
async def test_scenario_34_a_backend_that_fails(
    scripted: ScriptedWeb, status: int, log: Log
) -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=status, text="the backend's own words")

    scripted.search = fail
    async with codex_of(scripted) as codex:
        output = await codex.ask(search_query=[{"q": "a"}])
        assert f"The search failed (HTTP {status})." in output and "own words" not in output
        metrics = (await codex.client.get("/metrics")).text
    assert 'translator_tool_calls_total{result="failed",tool="search"} 1.0' in metrics
    assert any(f"search with searxng failed: HTTP {status}" in str(line) for line in log.lines)


async def test_scenario_34_a_backend_without_results(scripted: ScriptedWeb) -> None:
    async with codex_of(scripted) as codex:
        assert 'No results for "a b".' in await codex.ask(search_query=[{"q": "a b"}])


@pytest.mark.parametrize("body", [b"", b"not json", b"[" * 100_000, b"7", b'{"results":7}'])
async def test_scenario_34_a_backend_that_talks_nonsense(
    scripted: ScriptedWeb, body: bytes
) -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    scripted.search = nonsense
    async with codex_of(scripted) as codex:
        output = await codex.ask(search_query=[{"q": "a"}])
        assert "not JSON" in output or "No results" in output


async def test_scenario_34_a_backend_that_is_silent(scripted: ScriptedWeb) -> None:
    """The time limit of the backend, and that of all commands, whichever is first."""

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    scripted.search = silent
    async with codex_of(scripted, search={"timeout_s": 0.1}) as codex:
        output = await bounded(codex.ask(search_query=[{"q": "a"}], time=[{"utc_offset": "Z"}]))
        assert "it took more than 0.1 s" in output and "UTC+00:00" in output
    async with codex_of(scripted, tools={"call_timeout_s": 0.1}) as codex:
        output = await bounded(codex.ask(search_query=[{"q": "a"}], time=[{"utc_offset": "Z"}]))
        assert "not done within 0.1 s" in output and "UTC+00:00" in output


async def test_scenario_34_a_backend_that_is_not_there() -> None:
    async with codex_of(settings_of("http://127.0.0.1:9")) as codex:
        assert "could not be reached" in await codex.ask(search_query=[{"q": "a"}])


async def test_scenario_35_only_allowed_domains(scripted: ScriptedWeb) -> None:
    """The backend ignores the filter; it is applied again, to pages as well."""
    hosts = ("a.com", "www.a.com", "nota.com", "a.com.evil.test", "b.com", "x.blocked.a.com")
    scripted.results = [result(f"https://{host}/") for host in hosts]
    async with codex_of(scripted) as codex:
        codex.settings["filters"] = {
            "allowed_domains": ["a.com"],
            "blocked_domains": ["blocked.a.com"],
        }
        await codex.ask(search_query=[{"q": "x"}])
        assert [one["url"] for one in codex.results] == ["https://a.com/", "https://www.a.com/"]
        assert scripted.calls[-1].query["q"] == "x site:a.com -site:blocked.a.com"

        await codex.ask(search_query=[{"q": "x", "domains": ["www.a.com", "b.com"]}])
        assert [one["url"] for one in codex.results] == ["https://www.a.com/"]
        await codex.ask(search_query=[{"q": "x", "domains": ["b.com"]}])
        assert codex.results == []

        codex.input = [{"role": "user", "content": f"open {scripted.url}/x"}]
        assert "its domain is not among" in await codex.ask(open=[{"ref_id": f"{scripted.url}/x"}])
    assert scripted.asked == ["/search"] * 3


async def test_scenario_36_without_access_no_page_is_fetched(two_pages: ScriptedWeb) -> None:
    async with codex_of(two_pages) as codex:
        codex.settings = {"external_web_access": False}
        await codex.ask(search_query=[{"q": "it"}])
        ref = codex.results[0]["ref_id"]
        for commands in (
            {"open": [{"ref_id": ref}]},
            {"click": [{"ref_id": ref, "id": 0}]},
            {"find": [{"ref_id": ref, "pattern": "x"}]},
        ):
            assert 'web_search = "live"' in await codex.ask(**commands)
        assert [call.path for call in two_pages.calls] == ["/search"]

        codex.settings = {"external_web_access": True}
        await codex.ask(open=[{"ref_id": ref}])
        codex.settings = {"external_web_access": False}
        assert 'web_search = "live"' in await codex.ask(open=[{"ref_id": ref}])


async def test_scenario_36_nor_is_the_backend_asked_where_the_operator_wants_none(
    two_pages: ScriptedWeb,
) -> None:
    async with codex_of(two_pages, search={"cached": "off"}) as codex:
        codex.settings = {"external_web_access": False}
        assert 'web_search = "live"' in await codex.ask(search_query=[{"q": "it"}])
    assert two_pages.calls == []


@pytest.mark.parametrize(
    "indexed", [{"external_web_access": "indexed"}, {"indexed_web_access": True}]
)
async def test_with_an_index_only_results_are_opened(
    two_pages: ScriptedWeb, indexed: dict[str, Any]
) -> None:
    async with codex_of(two_pages, pages={"open": "any"}) as codex:
        codex.settings = indexed
        codex.input = [{"role": "user", "content": f"see {two_pages.url}/second"}]
        await codex.ask(search_query=[{"q": "it"}])
        ref = codex.results[0]["ref_id"]
        assert "# Head" in await codex.ask(open=[{"ref_id": ref}])
        assert "# Head" in await codex.ask(open=[{"ref_id": f"{two_pages.url}/first"}])
        for commands in (
            {"click": [{"ref_id": ref, "id": 0}]},
            {"open": [{"ref_id": f"{two_pages.url}/second"}]},
        ):
            assert "only pages that stood in results" in await codex.ask(**commands)


async def test_urls_of_the_users_messages_may_be_opened(two_pages: ScriptedWeb) -> None:
    """Of theirs alone: what the model has said may carry what it knows."""
    url = f"{two_pages.url}/second"
    async with codex_of(two_pages) as codex:
        codex.input = [{"role": "assistant", "content": [{"type": "output_text", "text": url}]}]
        assert "only pages that stood" in await codex.ask(open=[{"ref_id": url}])
        codex.input += [{"role": "user", "content": [{"type": "input_text", "text": f"({url})."}]}]
        assert "The end." in await codex.ask(open=[{"ref_id": url}])
        secret = f"{url}?q=secret"
        assert "only pages that stood" in await codex.ask(open=[{"ref_id": secret}])
    async with codex_of(two_pages, pages={"open": "any"}) as codex:
        assert "The end." in await codex.ask(open=[{"ref_id": secret}])


async def test_bounds_on_commands_and_pages(two_pages: ScriptedWeb) -> None:
    two_pages.pages |= {f"/{n}": f"<p>page {n}" for n in range(5)}
    async with codex_of(two_pages, pages={"open": "any", "max_pages": 3}) as codex:
        output = await codex.ask(open=[{"ref_id": f"{two_pages.url}/{n}"} for n in range(5)])
        assert output.count("3 is the most for one answer") == 2
        output = await codex.ask(time=[{"utc_offset": "Z"}] * 40)
        assert output.count("UTC+00:00") == 30 and "10 more commands were not run" in output


async def test_h16_no_client_shares_refs_or_pages(two_pages: ScriptedWeb) -> None:
    """Not even with the same session id; a page is fetched anew for each of them."""
    keys = [new_key(), new_key()]
    clients = {name: {"keys": [str(store(key))]} for name, key in zip("ab", keys, strict=True)}
    async with client_of(settings_of(two_pages, clients=clients)) as client:
        mine, other = (Codex(client, key) for key in keys)
        await mine.ask(search_query=[{"q": "it"}])
        ref = [{"ref_id": mine.results[0]["ref_id"]}]
        assert "# Head" in await mine.ask(open=ref)
        assert "not known here" in await other.ask(open=ref)
        assert "only pages that stood" in await other.ask(
            open=[{"ref_id": f"{two_pages.url}/first"}]
        )
        await other.ask(search_query=[{"q": "it"}])
        assert "# Head" in await other.ask(open=[{"ref_id": other.results[0]["ref_id"]}])
    assert two_pages.asked.count("/first") == 2


async def test_h16_nor_do_keys_that_are_the_upstreams(two_pages: ScriptedWeb) -> None:
    async with client_of(settings_of(two_pages)) as client:
        mine, other, nobody = Codex(client, "k1"), Codex(client, "k2"), Codex(client)
        await mine.ask(search_query=[{"q": "it"}])
        ref = [{"ref_id": mine.results[0]["ref_id"]}]
        for one in (other, nobody):
            assert "not known here" in await one.ask(open=ref)
        mine.session = "another"
        assert "not known here" in await mine.ask(open=ref)


async def test_h12_no_secret_comes_out(scripted: ScriptedWeb, log: Log) -> None:
    """Neither the backend's key, which it repeats, nor the client's: it is sent nowhere."""
    key = "planted-key-of-the-backend"

    async def repeat(request: web.Request) -> web.Response:
        assert request.headers["authorization"] == f"Bearer {key}"
        return web.json_response({"error": key}, status=401, reason=key)

    scripted.search = repeat
    settings = settings_of(scripted, search={"key_env": "KEY"}, environ={"KEY": key})
    assert key not in repr(settings.tools)
    async with client_of(settings) as client:
        codex = Codex(client, "planted-key-of-the-client")
        answer = await codex.post({"search_query": [{"q": "a"}]})
        metrics = (await client.get("/metrics")).text
    assert "planted" not in answer.text + str(answer.headers) + metrics
    assert "planted" not in str(log.lines)
    assert all("of-the-client" not in str(call.headers) for call in scripted.calls)
    await asyncio.sleep(0)


async def test_limits_of_a_client_hold(scripted: ScriptedWeb) -> None:
    key = new_key()
    clients = {"a": {"keys": [str(store(key))], "requests_per_minute": 2}}
    async with client_of(settings_of(scripted, clients=clients)) as client:
        assert (await client.post(PATH, json={"commands": {}})).status_code == 401
        codex = Codex(client, key)
        await codex.ask(time=[{}])
        answer = await codex.post({})
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await codex.post({})).status_code == 429


async def test_clients_that_may_not_search_are_told_so(scripted: ScriptedWeb) -> None:
    keys = {name: new_key() for name in "ab"}
    clients = {name: {"keys": [str(store(key))]} for name, key in keys.items()}
    settings = settings_of(scripted, clients=clients, search={"clients": ["a"]})
    async with client_of(settings) as client:
        assert (await Codex(client, keys["a"]).post({})).status_code == 200
        answer = await Codex(client, keys["b"]).post({})
    assert answer.status_code == 404
    assert "not allowed for this key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"commands":7}', b"{}", b'{"commands":{},"id":7}', b"[" * 100_000]
)
async def test_what_is_no_such_request_is_a_400(scripted: ScriptedWeb, body: bytes) -> None:
    async with client_of(settings_of(scripted)) as client:
        answer = await client.post(PATH, content=body)
        assert answer.status_code == 400
        assert (await client.get(PATH)).status_code == 405


async def test_what_is_left_out_of_a_request_is_the_default(two_pages: ScriptedWeb) -> None:
    async with client_of(settings_of(two_pages)) as client:
        odd = {"settings": {"filters": 7, "user_location": [], "search_context_size": "huge"}}
        for more in ({}, odd, {"input": "text"}, {"input": 7}, {"max_output_tokens": -1}):
            body = {"commands": {"search_query": {"q": "it"}}, **more}
            answer = await client.post("/alpha/search", json=body)
            assert "What it is about." in answer.json()["output"]


@pytest.mark.parametrize("tools", [None, {}])
async def test_without_a_backend_it_is_a_404_that_says_what_to_set(
    upstream: ScriptedUpstream, tools: dict[str, Any] | None
) -> None:
    settings = make_settings(upstream.url)
    if tools is not None:
        settings = read_table({"upstreams": {"up": {"base_url": upstream.url}}, "tools": tools}, {})
    async with client_of(settings) as client:
        answer = await client.post(PATH, json={"commands": {"search_query": [{"q": "a"}]}})
        described = (await client.get("/openapi.json")).json()
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert "not configured" in message and 'web_search = "disabled"' in message
    assert PATH not in described["paths"]


async def test_it_is_described(two_pages: ScriptedWeb) -> None:
    async with codex_of(two_pages) as codex:
        described = (await codex.client.get("/openapi.json")).json()
        answer = await codex.post({"search_query": [{"q": "it"}]})
    operation = described["paths"][PATH]["post"]
    schemas = {"components": described["components"]}
    found = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**found, **schemas}).validate(answer.json())
    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    assert answer.request.content
    jsonschema.Draft202012Validator({**asked, **schemas}).validate(
        json.loads(answer.request.content)
    )


async def test_the_log_and_the_metrics_say_what_was_run(two_pages: ScriptedWeb, log: Log) -> None:
    async with codex_of(two_pages) as codex:
        await codex.ask(search_query=[{"q": "it"}, {"q": ""}], time=[{"utc_offset": "Z"}])
        metrics = (await codex.client.get("/metrics")).text
    for line in (
        'translator_tool_calls_total{result="completed",tool="search"} 1.0',
        'translator_tool_calls_total{result="refused",tool="search"} 1.0',
        'translator_tool_calls_total{result="completed",tool="time"} 1.0',
        'translator_tool_duration_seconds_count{tool="search"} 2.0',
        'translator_request_duration_seconds_count{endpoint="search",model="other"} 1.0',
    ):
        assert line in metrics, line


async def test_a_client_that_leaves_takes_its_fetches_with_it(scripted: ScriptedWeb) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/html"})
        await answer.prepare(request)
        begun.set()
        try:
            while True:
                await answer.write(b"<p>more")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    scripted.pages["/slow"] = slow
    settings = settings_of(scripted, pages={"open": "any"})
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        asking = asyncio.create_task(Codex(client).ask(open=[{"ref_id": f"{scripted.url}/slow"}]))
        await bounded(begun.wait())
        asking.cancel()
        await bounded(ended.wait())


def test_without_the_section_nothing_of_it_is_imported() -> None:
    program = (
        "import sys, asyncio\n"
        "from translator.service.config.loading import read_table\n"
        "from translator.service.http.app import create_app\n"
        "create_app(read_table({'upstreams': {'up': {'base_url': 'http://up.test'}}}, {}))\n"
        "words = 'service.tools', 'alpha_search', 'rounds', 'round_stream', 'tool_round', 'hosting'\n"
        "print(*[one for one in sys.modules if any(word in one for word in words)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name for name in done.stdout.split() if name.startswith("translator")}
    assert loaded == set()
