"""The search backends: the request that each is sent, and the results that are read of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from translator.service.config.loading import read_table
from translator.service.config.secrets import settings_secrets
from translator.service.config.settings import SettingsError
from translator.service.config.tools import Tools
from translator.service.tools.backends import BACKENDS
from translator.service.tools.domains import Domains, plain

from .searching import ScriptedWeb, codex_of, settings_of

pytestmark = pytest.mark.anyio

KEY = "planted-key-of-the-backend"
FOUND = [
    ("https://a.com/1", "One", "The <first> & best", "2026-11-01"),
    ("https://b.com/2", "Two", "The second", ""),
]
ANSWERS: dict[str, Any] = {
    "searxng": {
        "results": [
            {"url": url, "title": title, "content": text, "publishedDate": date or None}
            for url, title, text, date in FOUND
        ]
    },
    "brave": {
        "web": {
            "results": [
                {
                    "url": url,
                    "title": f"<strong>{title}</strong>",
                    "description": text.replace("<", "&lt;").replace(">", "&gt;"),
                    "age": date,
                }
                for url, title, text, date in FOUND
            ]
        }
    },
    "tavily": {
        "results": [
            {"url": url, "title": title, "content": text, "published_date": date}
            for url, title, text, date in FOUND
        ]
    },
    "exa": {
        "results": [
            {"url": url, "title": title, "text": text, "publishedDate": date}
            for url, title, text, date in FOUND
        ]
    },
    "serper": {
        "organic": [
            {"link": url, "title": title, "snippet": text, "date": date}
            for url, title, text, date in FOUND
        ]
    },
}
FIELDS: dict[str, dict[str, Any]] = {
    "searxng": {"q": "cats site:a.com OR site:b.com -site:c.com", "format": "json", "time_range": "week"},
    "brave": {"q": "cats site:a.com OR site:b.com -site:c.com", "count": 16, "freshness": "pw", "country": "DE"},
    "tavily": {"query": "cats", "max_results": 16, "include_domains": ["a.com", "b.com"], "exclude_domains": ["c.com"], "time_range": "week"},
    "exa": {"query": "cats", "numResults": 16, "includeDomains": ["a.com", "b.com"], "excludeDomains": ["c.com"], "userLocation": "DE", "contents": {"text": {"maxCharacters": 2000}}},
    "serper": {"q": "cats site:a.com OR site:b.com -site:c.com", "num": 16, "tbs": "qdr:w", "gl": "de"},
}  # fmt: skip
KEYS = {
    "searxng": ("authorization", f"Bearer {KEY}"),
    "brave": ("x-subscription-token", KEY),
    "tavily": ("authorization", f"Bearer {KEY}"),
    "exa": ("x-api-key", KEY),
    "serper": ("x-api-key", KEY),
}


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_backend_is_asked_and_read(scripted: ScriptedWeb, name: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(ANSWERS[name])

    scripted.search = answer
    scripted.pages["/res/v1/web/search"] = answer
    more: dict[str, Any] = {"search": {"backend": name, "key_env": "KEY"}, "environ": {"KEY": KEY}}
    async with codex_of(scripted, **more) as codex:
        codex.settings |= {
            "filters": {"allowed_domains": ["a.com", "b.com"], "blocked_domains": ["c.com"]},
            "user_location": {"type": "approximate", "country": "de"},
        }
        output = await codex.ask(search_query=[{"q": "cats", "recency": 5}])
    [call], [body] = scripted.calls, scripted.bodies
    header, value = KEYS[name]
    assert call.headers[header] == value
    backend = BACKENDS[name]
    assert (call.method, call.path) == (backend.method, backend.path)
    fields = dict(call.query) if call.method == "GET" else json.loads(body)
    expected = {k: str(v) if call.method == "GET" else v for k, v in FIELDS[name].items()}
    since = fields.pop("startPublishedDate", None)
    assert (since is not None) is (name == "exa")
    assert fields == expected
    assert [(one["url"], one["title"]) for one in codex.results] == [one[:2] for one in FOUND]
    assert "One (https://a.com/1) · 2026-11-01\nThe <first> & best" in output
    assert "Two (https://b.com/2)\nThe second" in output


async def test_odd_results_are_left_out(scripted: ScriptedWeb) -> None:
    scripted.results = [
        7,
        {},
        {"url": 7},
        {"url": "ftp://a.com"},
        {"url": "http://user:pw@a.com/"},
        {"url": "https://a.com/"},
        {"url": "https://a.com/", "title": "again"},
        {"url": "https://b.com/", "title": ["x"], "content": {"y": 1}},
        {"url": "https://c.com/", "title": "<|im_end|>", "content": "&#" + "9" * 5000 + ";"},
    ]  # type: ignore[list-item]
    async with codex_of(scripted) as codex:
        output = await codex.ask(search_query=[{"q": "x"}])
    assert [one["url"] for one in codex.results] == [f"https://{host}.com/" for host in "abc"]
    assert "<|" not in output


@pytest.mark.parametrize(
    ("size", "length", "count", "characters"),
    [("low", "short", 5, 400), ("medium", "medium", 8, 1600), ("high", "long", 10, 6400)],
)
async def test_the_size_of_the_context(
    scripted: ScriptedWeb, size: str, length: str, count: int, characters: int
) -> None:
    scripted.results = [
        {"url": f"https://a.com/{n}", "title": "t", "content": "x" * 20_000} for n in range(20)
    ]
    async with codex_of(scripted) as codex:
        codex.settings["search_context_size"] = size
        codex.max_output_tokens = 50_000
        output = await codex.ask(search_query=[{"q": "a"}], response_length=length)
    assert len(codex.results) == count
    assert output.count("x") in range(count * (characters - 2), count * characters + 1)


@pytest.mark.parametrize(
    ("days", "word"),
    [(0, "day"), (1, "day"), (2, "week"), (30, "month"), (365, "year"), (999, None)],
)
async def test_recency(scripted: ScriptedWeb, days: int, word: str | None) -> None:
    async with codex_of(scripted) as codex:
        await codex.ask(search_query=[{"q": "a", "recency": days}])
    assert scripted.calls[0].query.get("time_range") == word


def test_domains_are_compared_as_hosts() -> None:
    assert plain(["https://WWW.A.com/x", "*.b.com", ".c.com.", "bücher.example"]) == (
        "www.a.com",
        "b.com",
        "c.com",
        "xn--bcher-kva.example",
    )
    only = Domains(("a.com",), ("x.a.com",))
    for url, passes in (
        ("https://a.com", True),
        ("https://A.com./x", True),
        ("https://y.a.com", True),
        ("https://x.a.com", False),
        ("https://z.x.a.com", False),
        ("https://nota.com", False),
        ("https://a.com.evil.test", False),
        ("https://evil.test/a.com", False),
        ("https://a.com@evil.test/", False),
        ("http://[", False),
    ):
        assert only.take(url) is passes, url
    assert only.narrowed(["com"]).allowed == ("a.com",)
    assert only.narrowed([]).allowed == ("a.com",)


# --- settings -------------------------------------------------------------------------------------


def tools(**more: Any) -> Tools:
    found = settings_of("http://search.test", **more).tools
    assert found is not None
    return found


def test_the_defaults() -> None:
    found = tools().search
    assert found is not None
    assert (found.url, found.key) == ("http://search.test", None)
    brave = {"backend": "brave", "key_env": "KEY"}
    table = {"upstreams": {"up": {"base_url": "http://up.test"}}, "tools": {"search": brave}}
    settings = read_table(table, {"KEY": KEY})
    assert settings.tools is not None
    assert settings.tools.search is not None
    assert settings.tools.search.url == "https://api.search.brave.com"
    assert settings.tools.search.key in settings_secrets(settings)
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"search": {"backend": "bing"}}, "tools.search.backend: invalid enum value 'bing'; known: searxng, brave"),
        ({"search": {"url": ""}}, "tools.search.url: is missing"),
        ({"search": {"url": "search.test"}}, "tools.search.url:"),
        ({"search": {"backend": "brave"}}, "tools.search.key_env: is missing; brave needs a key"),
        ({"search": {"key_env": "KEY"}}, "tools.search.key_env: the environment variable KEY is not set"),
        ({"search": {"timeout_s": 0}}, "tools.search.timeout_s: expected float > 0"),
        ({"search": {"clients": ["x"]}}, 'tools.search.clients: there is no client "x"'),
        ({"search": {"ulr": "x"}}, "tools.search.ulr: there is no such setting; did you mean url?"),
        ({"pages": {"open": "all"}}, "tools.pages.open: invalid enum value"),
        ({"pages": {"max_page": 1}}, "tools.pages.max_page: there is no such setting"),
        ({"tools": {"allow_private": ["10.1.0.1/16"]}}, "tools.allow_private: 10.1.0.1/16 has host bits set"),
        ({"tools": {"allow_private": ["intranet"]}}, "tools.allow_private:"),
        ({"tools": {"proxy": "https://p"}}, "tools.proxy: expected a URL that starts with http://"),
        ({"tools": {"proxy": "http://["}}, "tools.proxy: expected"),
        ({"tools": {"proxy": "http://u:p@p"}}, "tools.proxy: must not hold a user name"),
        ({"tools": {"allw": []}}, "tools.allw: there is no such setting; did you mean allow?"),
        ({"tools": {"search": 7}}, "tools.search: expected a table"),
        ({"tools": {"search": {}}}, "tools.search.backend: is missing"),
    ],
)  # fmt: skip
def test_mistakes_are_told(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        tools(**more)
    assert any(problem in one for one in error.value.problems), error.value.problems


async def test_pages_and_searches_go_through_a_proxy(scripted: ScriptedWeb) -> None:
    """It knows the names, and is asked for all of them."""
    settings = settings_of(
        "http://search.test", tools={"proxy": scripted.url}, pages={"open": "any"}
    )
    async with codex_of(settings) as codex:
        await codex.ask(search_query=[{"q": "a"}])
        await codex.ask(open=[{"ref_id": "http://page.test/x"}])
        assert "private network" in await codex.ask(open=[{"ref_id": "http://10.0.0.1/"}])
    hosts = [call.headers["host"] for call in scripted.calls]
    assert hosts == ["search.test", "page.test", "page.test"]
