"""The page at `/`: what is on it, and what never is."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import socket
import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from tests.service.responses_api import ASK
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.http import page
from translator.service.page import models, running, snippets
from translator.service.page.text import printable

from .wire import MODELS, Call, ScriptedUpstream, bounded, client_of, make_settings, serving

pytestmark = pytest.mark.anyio

OURS = {"host": "127.0.0.1:8080"}
ODD = "<img src=x onerror=alert(1)>'\"&`\\"
HIDDEN = "a\x00b\x1b[31m\u202ec\u2028d\ud800"
SECRET_WORDS = ("questionword", "instructionword", "thoughtword", "answerword", "argumentword")


class Elements(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.texts: dict[str, str] = {}
        self._id = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._id = dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._id:
            self.texts[self._id] = self.texts.get(self._id, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._id = ""


def settings_of(url: str, **server: Any) -> Settings:
    return make_settings(url, models=MODELS, **server)


def with_clients(url: str, **more: Any) -> tuple[Settings, list[str]]:
    """Settings with two clients, and their keys."""
    keys = [new_key(), new_key()]
    table = {
        "server": {"status_page": True},
        "upstreams": {"up": {"base_url": url}},
        "clients": {
            name: {"keys": [str(store(key))], **more} for name, key in zip("ab", keys, strict=True)
        },
    }
    return read_table(table, {}), keys


class Held:
    """An upstream's script that begins an answer, and ends it when it is told to."""

    def __init__(self, *deltas: dict[str, Any]) -> None:
        self.deltas = deltas or ({"content": "answerword " * 8},)
        self.end = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if call.method == "GET":
            await call.answer(b'{"data": [{"id": "listed"}]}')
            return
        await call.head()
        for delta in self.deltas:
            made = {"id": "x", "choices": [{"index": 0, "delta": delta}]}
            await call.send(b"data: %b\n\n" % json.dumps(made).encode())
        await self.end.wait()
        await call.send(b"data: [DONE]\n\n")
        await call.end()


@asynccontextmanager
async def asked(
    url: str, body: dict[str, Any], path: str = "/v1/responses", key: str = ""
) -> AsyncGenerator[None]:
    """A request whose answer has begun, until the block ends."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(
        base_url=url,
        timeout=20,
        headers=headers,
        verify=False,  # certificates take a while to load
    ) as client:
        async with client.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200
            reading = asyncio.create_task(answer.aread())
            try:
                yield
                await bounded(reading)
            finally:
                reading.cancel()


async def rows_of(client: httpx.AsyncClient, until: Callable[[Any], bool], key: str = "") -> Any:
    """The first update of the feed that is wanted."""
    headers = {"authorization": f"Bearer {key}"} if key else {}

    async def read() -> Any:
        async with client.stream("GET", "/page/live", headers=headers) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and until(found := json.loads(line[6:])):
                    return found
        raise AssertionError("the feed has ended")

    return await bounded(read())


# --- what is on it -------------------------------------------------------------------------------


async def test_the_model_is_chosen_by_the_address_and_only_a_known_one() -> None:
    async with client_of(settings_of("http://up.test")) as client:
        chosen = Elements((await client.get("/?model=org%2Flarge", headers=OURS)).text)
        assert '"org/large"' in chosen.texts["text-python"]
        forged = Elements((await client.get('/?model=x"; rm -rf ~', headers=OURS)).text)
        assert "rm -rf" not in forged.text
        content = (await client.get("/page/content?model=org/large", headers=OURS)).json()
        assert (content["model"], content["choices"]) == ("org/large", ["small", "org/large"])
        assert {one["id"]: one["text"] for one in content["snippets"]} == {
            name.removeprefix("text-"): text
            for name, text in chosen.texts.items()
            if name.startswith("text-")
        }


NASTY = ["plain", ODD, "$(touch x)`touch y`", "a'b'\\", 'q"q', "päpstlich 模型 🦊", "x" * 100]


@pytest.mark.parametrize("model", NASTY)
@pytest.mark.parametrize("key_env", [None, "TRANSLATOR_API_KEY"])
def test_each_snippet_says_the_model_in_its_own_language(model: str, key_env: str | None) -> None:
    url = "http://127.0.0.1:8080/v1"
    target = snippets.Target(base_url=url, model=model, key_env=key_env)
    text = {one.id: one.text for one in snippets.snippets(target)}
    codex = tomllib.loads(text["codex"])
    assert codex["model"] == model
    assert codex["model_providers"]["translator"]["base_url"] == url
    assert codex["model_providers"]["translator"].get("env_key") == key_env
    opencode = json.loads(text["opencode"])["provider"]["translator"]
    assert list(opencode["models"]) == [model]
    assert json.loads(text["pi"])["providers"]["translator"]["models"][0]["id"] == model
    assert json.loads(text["vscode"])[0]["models"][0]["id"] == model
    words = shlex.split(text["curl"].replace("\\\n", " "))
    assert json.loads(words[-1])["model"] == model
    assert f"COPILOT_MODEL={model}" in shlex.split(text["copilot"], comments=True)
    for name in ("python", "agents", "langchain", "pydantic-ai"):
        code = compile(text[name], name, "exec")
        assert any(model in constants for constants in _constants(code)), name
    for name in ("node", "ai-sdk"):
        assert json.dumps(model, ensure_ascii=False) in text[name]


def _constants(code: Any) -> list[tuple[Any, ...]]:
    inner = [one for one in code.co_consts if hasattr(one, "co_consts")]
    return [code.co_consts, *(found for one in inner for found in _constants(one))]


@pytest.mark.parametrize(
    ("key", "said"), [("sk-operators", "No key is needed"), (None, "No key is needed")]
)
async def test_an_upstream_on_this_machine_or_with_a_key_needs_none(
    key: str | None, said: str
) -> None:
    settings = make_settings("http://127.0.0.1:1/v1", models=MODELS, key=key)
    async with client_of(settings) as client:
        text = Elements((await client.get("/", headers=OURS)).text).text
        assert said in text
        assert "sk-operators" not in text


async def test_an_upstream_elsewhere_needs_the_clients_own_key() -> None:
    async with client_of(settings_of("https://up.example/v1")) as client:
        found = Elements((await client.get("/", headers=OURS)).text)
        assert 'env_key = "TRANSLATOR_API_KEY"' in found.texts["text-codex"]
        assert "The upstream's own key" in found.text


@pytest.mark.parametrize(
    "model", [ODD, HIDDEN, "y" * 5000, "</script><script>alert(1)</script>", "${x} $live"]
)
async def test_odd_names_are_text(model: str) -> None:
    plain = Elements(await client_page("small"))
    html = await client_page(model)
    found = Elements(html)
    assert found.names.count("script") == plain.names.count("script") == 1
    assert found.names.count("img") == plain.names.count("img")
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert printable(model, 120) in found.text
    assert len(html) < 100_000


async def client_page(model: str) -> str:
    async with client_of(
        make_settings("http://up.test", models={model: {"upstream": "up"}})
    ) as client:
        return (await client.get("/", headers=OURS)).text


@pytest.mark.parametrize("text", [HIDDEN, "a\nb", "\u200b", "\u2066", "\x7f", "\ud800"])
def test_what_does_not_show_is_shown_as_its_escape(text: str) -> None:
    shown = printable(text, 100)
    assert shown.isprintable()
    assert "\\" in shown
    assert len(printable("x" * 1000, 80)) == 80


# --- the upstream's list of models ---------------------------------------------------------------


async def test_the_upstreams_list_is_asked_for_once() -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = Held()
        async with upstream.client() as client:
            for _ in range(3):
                assert "listed" in (await client.get("/", headers=OURS)).text
        assert [call.path for call in upstream.calls] == ["/v1/models"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"{}", "only for a key"),
        (500, b"secret words", "status 500"),
        (200, b"not json", "cannot be read"),
        (200, b'{"data": 3}', "cannot be read"),
        (200, b'{"data": []}', "lists no models"),
        (
            200,
            b'{"data": [1, {"id": 3}, {"id": ""}, {"id": "%b"}]}' % (b"z" * 300),
            "lists no models",
        ),
        (200, b"[" * 100_000, "cannot be read"),
    ],
)
async def test_a_list_that_is_none_is_explained(status: int, body: bytes, said: str) -> None:
    async def answer(call: Call) -> None:
        await call.answer(body, status)

    async with ScriptedUpstream().running() as upstream:
        upstream.script = answer
        async with upstream.client(retries=0) as client:
            text = Elements((await client.get("/", headers=OURS)).text).text
            assert said in text
            assert "secret words" not in text
            assert '"MODEL"' in text


async def test_a_list_that_does_not_come_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LIST_S", 0.1)

    async def silent(call: Call) -> None:
        await call.gone()

    async with ScriptedUpstream().running() as upstream:
        upstream.script = silent
        async with upstream.client() as client:
            assert "in time" in (await client.get("/", headers=OURS)).text


async def test_a_long_list_is_cut() -> None:
    async def answer(call: Call) -> None:
        await call.answer(json.dumps({"data": [{"id": f"m{n}"} for n in range(999)]}).encode())

    async with ScriptedUpstream().running() as upstream:
        upstream.script = answer
        async with upstream.client() as client:
            content = (await client.get("/page/content", headers=OURS)).json()
            assert len(content["models"]) == models.MAX_MODELS
            assert "200 of 999" in content["remark"]


# --- what is being answered ----------------------------------------------------------------------

TELLING = {
    "model": "m",
    "instructions": "instructionword",
    "input": "questionword",
    "stream": True,
    "tools": [
        {"type": "function", "name": "shell", "description": "instructionword", "parameters": {}}
    ],
    "metadata": {"note": "questionword"},
}
CALL = {
    "tool_calls": [
        {"index": 0, "id": "c", "function": {"name": "shell", "arguments": '{"a": "argumentword'}}
    ]
}


@pytest.mark.parametrize(
    ("deltas", "phase", "detail"),
    [
        ([{"reasoning_content": "thoughtword " * 9}], "thinking", None),
        ([{"content": "answerword " * 9}], "answering", None),
        ([{"content": "answerword"}, CALL], "calling", "shell"),
    ],
)
async def test_an_answer_is_a_row_while_it_comes_without_its_words(
    deltas: list[dict[str, Any]], phase: str, detail: str | None
) -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held(*deltas)
        async with upstream.socket_client() as client:
            async with asked(str(client.base_url), TELLING):
                found = await rows_of(
                    client, lambda one: bool(one["rows"]) and one["rows"][0].get("phase") == phase
                )
                [row] = found["rows"]
                html = (await client.get("/")).text
                content = (await client.get("/page/content")).text
                held.end.set()
            assert (row["model"], row["upstream"], row.get("detail")) == ("m", "up", detail)
            assert row["tokens"] > 0
            assert "1 answer" in Elements(html).text
            assert phase in Elements(html).text
            for word in SECRET_WORDS:
                assert word not in json.dumps(found) + html + content
            assert await rows_of(client, lambda one: one["total"] == 0)
            assert "Nothing at the moment" in (await client.get("/")).text


async def test_a_chat_request_and_a_whole_answer_are_rows_too() -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        async with upstream.socket_client() as client:
            url = str(client.base_url)
            chat = {
                "model": "c",
                "stream": True,
                "messages": [{"role": "user", "content": "questionword"}],
            }
            whole = asyncio.create_task(
                client.post("/v1/responses", json=TELLING | {"model": "w", "stream": False})
            )
            async with asked(url, chat, "/v1/chat/completions"):
                found = await rows_of(client, lambda one: one["total"] == 2)
                assert {row["model"] for row in found["rows"]} == {"c", "w"}
                assert {row.get("detail") for row in found["rows"]} == {"passed through", None}
                assert "questionword" not in json.dumps(found)
                held.end.set()
            assert (await bounded(whole)).status_code == 200
            await rows_of(client, lambda one: one["total"] == 0)


async def test_odd_names_in_rows_are_cut_and_shown() -> None:
    async with ScriptedUpstream().running() as upstream:
        odd = ODD + "\x1b[31m\u202e" + "n" * 5000
        call = {
            "tool_calls": [
                {"index": 0, "id": "c", "function": {"name": "<b>shell</b>" * 30, "arguments": "{"}}
            ]
        }
        upstream.script = held = Held(call)
        async with upstream.socket_client() as client:
            async with asked(str(client.base_url), {**ASK, "model": odd}):
                [row] = (
                    await rows_of(
                        client,
                        lambda one: bool(one["rows"]) and one["rows"][0].get("phase") == "calling",
                    )
                )["rows"]
                found = Elements((await client.get("/")).text)
                held.end.set()
            assert row["model"] == printable(odd, running.MAX_NAME)
            assert len(row["detail"]) == running.MAX_NAME
            assert "b" not in found.names
            assert row["model"] in found.text


async def test_the_oldest_rows_are_shown_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "MAX_ROWS", 2)
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        async with upstream.socket_client() as client:
            url = str(client.base_url)
            async with asked(url, ASK), asked(url, ASK), asked(url, ASK):
                found = await rows_of(client, lambda one: one["total"] == 3)
                assert len(found["rows"]) == 2
                assert "3 answers, the oldest 2 shown" in (await client.get("/")).text
                held.end.set()


async def test_with_keys_each_sees_its_own_requests() -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        settings, [first, second] = with_clients(upstream.url)
        async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
            page_of_nobody = await client.get("/")
            assert page_of_nobody.status_code == 200
            assert "key-form" in page_of_nobody.text
            assert "listed" not in page_of_nobody.text
            for path in ("/page/live", "/page/content"):
                for headers in ({}, {"authorization": "Bearer tr-wrong"}):
                    assert (await client.get(path, headers=headers)).status_code == 401
            async with asked(url, ASK, key=first):
                own = await rows_of(client, lambda _: True, key=first)
                others = await rows_of(client, lambda _: True, key=second)
                nobody = (await client.get("/")).text
                held.end.set()
            assert [row["client"] for row in own["rows"]] == ["a"]
            assert (others["rows"], others["total"]) == ([], 0)
            assert "1 answer" not in nobody
            content = await client.get(
                "/page/content", headers={"authorization": f"Bearer {first}"}
            )
            assert content.json()["choices"] == ["listed"]


async def test_a_key_for_some_models_shows_these() -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = Held()
        settings, [key, _] = with_clients(upstream.url, models=["other"])
        async with client_of(settings) as client:
            content = await client.get("/page/content", headers={"authorization": f"Bearer {key}"})
            assert content.json()["choices"] == []


# --- bounds --------------------------------------------------------------------------------------


async def test_so_many_browsers_follow_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_FEEDS", 1)
    async with ScriptedUpstream().running() as upstream:
        async with upstream.socket_client() as client:
            async with client.stream("GET", "/page/live"):
                refused = await client.get("/page/live")
                assert (refused.status_code, refused.json()["error"]["code"]) == (
                    503,
                    "server_is_overloaded",
                )
                assert "retry-after" in refused.headers
            await rows_of(client, lambda _: True)  # the place is free again


async def test_nothing_is_sampled_for_a_browser_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = 0

    def many(*_: object) -> running.Running:
        nonlocal samples
        samples += 1
        return running.Running(
            [running.Row(id=f"{samples}-{n}", at=0, model="m" * 80) for n in range(50)], 50
        )

    monkeypatch.setattr(running, "running", many)
    monkeypatch.setattr(page, "UPDATE_S", 0)
    async with ScriptedUpstream().running() as upstream, upstream.service() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            slow.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(
                slow, f"GET /page/live HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode()
            )
            async with asyncio.timeout(20):
                before = -1
                while samples != before or samples == 0:
                    before = samples
                    await asyncio.sleep(0.2)


async def test_nobody_looks_and_nothing_is_counted_or_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A feed is open for minutes: it must not stand in the durations of requests."""
    caplog.set_level("INFO", "translator")
    async with ScriptedUpstream().running() as upstream:
        upstream.script = Held()
        async with upstream.socket_client() as client:
            await client.get("/")
            await rows_of(client, lambda _: True)
            await asyncio.sleep(0)
            metrics = (await client.get("/metrics")).text
    assert not re.search(r'translator_requests_total\{.*endpoint="other"', metrics)
    assert "/page" not in caplog.text


async def test_a_feed_ends_with_the_service() -> None:
    async with ScriptedUpstream().running() as upstream:
        async with upstream.service() as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
            async with client.stream("GET", "/page/live") as answer:
                assert answer.status_code == 200
        # `service` waits for the end of all connections
