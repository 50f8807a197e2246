"""`[models."*"]`: what serves every name that has no section of its own."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from translator.service.base.keys import new_key, store
from translator.service.config.loading import override, read_table
from translator.service.config.settings import Settings, SettingsError
from translator.service.models.table import MAX_CACHED_ROUTES, ModelTable
from translator.setup.client import select_models

from .wire import ScriptedUpstream, bounded, client_of, serving

pytestmark = pytest.mark.anyio

BACKGROUND = "gpt-6.1-terra"
"""What Codex asks for by itself, whatever model it was told."""

LISTED = {"upstream": "up", "upstream_model": "kimi-k2p6"}
CAUGHT = {"upstream": "up", "upstream_model": "kimi-k2p5"}


def settings_of(
    url: str, models: dict[str, Any], clients: dict[str, Any] | None = None, **server: Any
) -> Settings:
    """Settings with the upstreams "up" and "other"."""
    table: dict[str, Any] = {
        "server": server,
        "upstreams": {"up": {"base_url": url}, "other": {"base_url": f"{url}/other"}},
        "models": models,
    }
    return read_table(table | ({} if clients is None else {"clients": clients}), {})


def models_sent(upstream: ScriptedUpstream) -> list[str]:
    """The models of all chat requests, as they went upstream."""
    return [json.loads(call.body)["model"] for call in upstream.calls if call.body]


async def test_every_path_that_takes_a_model_serves_any_name(upstream: ScriptedUpstream) -> None:
    """A listed name keeps its own section."""
    settings = settings_of(upstream.url, {"kimi": LISTED, "*": CAUGHT})
    bodies = {
        "/v1/responses": {"input": "Write a title."},
        "/v1/responses/compact": {"input": "Write a title."},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi."}]},
    }
    async with client_of(settings) as client:
        for path, body in bodies.items():
            for model in (BACKGROUND, "kimi"):
                answer = await client.post(path, json={"model": model} | body)
                assert answer.status_code == 200, answer.text
                if path == "/v1/responses":
                    assert answer.json()["model"] == model
        sent = models_sent(upstream)
        counted = await client.post(
            "/v1/responses/input_tokens", json={"model": BACKGROUND, "input": "Hi."}
        )
        assert counted.status_code == 200
    assert sent == ["kimi-k2p5", "kimi-k2p6"] * len(bodies)


async def test_a_websocket_serves_any_name(upstream: ScriptedUpstream) -> None:
    settings = settings_of(upstream.url, {"kimi": LISTED, "*": CAUGHT})
    async with serving(settings) as base:
        async with connect(base.replace("http", "ws") + "/v1/responses") as socket:
            for model in (BACKGROUND, "kimi"):
                ask = {"type": "response.create", "model": model, "input": "Hi."}
                await socket.send(json.dumps(ask))
                while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                    pass
    assert models_sent(upstream) == ["kimi-k2p5", "kimi-k2p6"]


async def test_without_an_upstream_model_the_name_goes_upstream(
    upstream: ScriptedUpstream,
) -> None:
    """With the facts that its dialect has for that name, and the section's own limits."""
    section = {"upstream": "up", "dialect": "deepseek", "max_output_tokens": 50, "vision": False}
    settings = settings_of(upstream.url, {"*": section})
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    content = [{"type": "input_text", "text": "Look."}, image]
    body = {"input": [{"role": "user", "content": content}], "max_output_tokens": 100}
    async with client_of(settings) as client:
        for model in ("deepseek-chat", BACKGROUND):
            answer = await client.post("/v1/responses", json={"model": model} | body)
            assert answer.status_code == 200
        without = await client.post("/v1/responses", json={"input": "Hi."})
    assert models_sent(upstream) == ["deepseek-chat", BACKGROUND]
    for call in upstream.calls:
        assert json.loads(call.body)["max_tokens"] == 50
        assert b"AAAA" not in call.body
    assert (without.status_code, without.json()["error"]["param"]) == (400, "model")


@pytest.mark.parametrize("limited", [False, True])
async def test_an_empty_name_is_a_missing_one(upstream: ScriptedUpstream, limited: bool) -> None:
    """Where it keeps the name, and where it has one of its own; it has no entry, either."""
    key = new_key()
    client_section = {"a": {"keys": [str(store(key))], "models": ["*"]}} if limited else None
    for section in (CAUGHT, {"upstream": "up"}):
        settings = settings_of(upstream.url, {"kimi": LISTED, "*": section}, client_section)
        async with client_of(settings) as client:
            client.headers["authorization"] = f"Bearer {key}"
            for path, body in (
                ("/v1/responses", {"input": "Hi."}),
                ("/v1/responses/compact", {"input": "Hi."}),
                ("/v1/responses/input_tokens", {"input": "Hi."}),
                ("/v1/chat/completions", {"messages": []}),
            ):
                refused = await client.post(path, json={"model": ""} | body)
                missing = await client.post(path, json=body)
                assert refused.status_code == 400, path
                assert refused.json() == missing.json()
                assert refused.json()["error"]["code"] == "missing_required_parameter"
            assert (await client.get("/v1/models/")).json()["object"] == "list"
    assert upstream.calls == []


async def test_it_is_no_model_itself(upstream: ScriptedUpstream) -> None:
    """It is in no list, and no name; what it serves has an entry all the same."""
    section = CAUGHT | {"context_window": 1000, "vision": False}
    settings = settings_of(upstream.url, {"kimi": LISTED, "*": section})
    async with client_of(settings) as client:
        for query in ("", "?client_version=0.171.0"):
            listed = (await client.get(f"/v1/models{query}")).json()
            assert [entry["id"] for entry in listed["data"]] == ["kimi"]
            assert [entry["slug"] for entry in listed["models"]] == ["kimi"]
        entry = (await client.get(f"/v1/models/{BACKGROUND}")).json()
        star = await client.get("/v1/models/*")
        asked = await client.post("/v1/responses", json={"model": "*", "input": "Hi."})
    assert (entry["id"], entry["context_window"], entry["vision"]) == (BACKGROUND, 1000, False)
    for answer in (star, asked):
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "The model '*' does not exist. Models: kimi."
    assert upstream.calls == []


async def test_a_key_for_certain_models_reaches_it_by_its_name(upstream: ScriptedUpstream) -> None:
    keys = {name: new_key() for name in ("listed", "caught", "all")}
    lists = {"listed": ["kimi"], "caught": ["*"]}
    clients = {
        name: {"keys": [str(store(key))]} | ({"models": lists[name]} if name in lists else {})
        for name, key in keys.items()
    }
    settings = settings_of(upstream.url, {"kimi": LISTED, "*": CAUGHT}, clients)

    async def status(client: httpx.AsyncClient, name: str, model: str) -> int:
        headers = {"authorization": f"Bearer {keys[name]}"}
        statuses = {
            (await client.post(path, json={"model": model} | body, headers=headers)).status_code
            for path, body in (
                ("/v1/responses", {"input": "Hi."}),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi."}]}),
            )
        }
        statuses.add((await client.get(f"/v1/models/{model}", headers=headers)).status_code)
        [one] = statuses
        return one

    async with client_of(settings) as client:
        found = {
            (name, model): await status(client, name, model)
            for name in keys
            for model in ("kimi", BACKGROUND)
        }
    assert {pair for pair, one in found.items() if one == 404} == {
        ("listed", BACKGROUND),
        ("caught", "kimi"),
    }
    assert set(found.values()) == {200, 404}


async def test_without_it_other_names_stay_unknown(upstream: ScriptedUpstream) -> None:
    async with client_of(settings_of(upstream.url, {"kimi": LISTED})) as client:
        answer = await client.post("/v1/responses", json={"model": BACKGROUND, "input": "Hi."})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_its_routes_are_cached_within_a_bound() -> None:
    """Clients may send any name: one route each at most, and one for all where it is the same."""
    fixed = ModelTable(settings_of("http://up.test", {"*": CAUGHT}), 0)
    assert fixed.route("a") is fixed.route("b")
    each = ModelTable(settings_of("http://up.test", {"*": {"upstream": "up"}}), 0)
    assert each.route("a") is each.route("a")
    assert each.route("a") is not each.route("b")
    first = each.route("a")
    for number in range(MAX_CACHED_ROUTES):
        each.route(f"m{number}")
    assert each.route("a") is not first


def problems_of(models: dict[str, Any] | None, clients: dict[str, Any] | None = None) -> list[str]:
    """The mistakes in such settings with one upstream."""
    table: dict[str, Any] = {"upstreams": {"up": {"base_url": "http://up.test"}}}
    table |= {} if models is None else {"models": models}
    table |= {} if clients is None else {"clients": clients}
    with pytest.raises(SettingsError) as refusal:
        read_table(table, {})
    return list(refusal.value.problems)


def test_what_would_mean_nothing_is_an_error_at_the_start() -> None:
    """A pattern that matches nothing, a name that is none, a right to what is not there."""
    keys = {"keys": [str(store(new_key()))]}
    assert problems_of({"gpt-*": {"upstream": "up"}}) == [
        'models."gpt-*": is no pattern; "*" alone stands for every name that has no section'
    ]
    assert problems_of({"*": {"upstream": "up", "upstream_model": "*"}}) == [
        'models."*".upstream_model: "*" is no model; leave it out to keep the name'
    ]
    missing = 'clients.a.models: "*" needs a section [models."*"]; for all models, leave it out'
    assert problems_of({"kimi": LISTED}, {"a": keys | {"models": ["*"]}}) == [missing]
    assert problems_of(None, {"a": keys | {"models": ["*"]}}) == [missing]
    assert problems_of(None, {"a": keys | {"models": ["gpt-*"]}}) == [
        'clients.a.models: "gpt-*" is no pattern, and no name of a model'
    ]
    assert problems_of({"*": {}}) == ['models."*".upstream: is missing']


def test_options_of_the_command_line_hold_for_it_too() -> None:
    settings = settings_of("http://up.test", {"kimi": LISTED, "*": CAUGHT | {"strict": True}})
    assert settings.catch_all is not None
    assert settings.catch_all.options.strict
    caught = override(settings, {"strict": False, "reasoning_events": "text"}).catch_all
    assert caught is not None
    assert (caught.options.strict, caught.options.reasoning_events) == (False, "text")


def test_a_client_is_set_up_for_a_name_that_it_serves() -> None:
    settings = settings_of("http://up.test", {"kimi": LISTED, "*": CAUGHT})
    assert [model.id for model in select_models(settings)] == ["kimi"]
    found = select_models(settings, ["kimi", BACKGROUND])
    assert [(model.id, model.upstream) for model in found] == [("kimi", "up"), (BACKGROUND, "up")]
    for models, chosen in (({"kimi": LISTED, "*": CAUGHT}, ["*"]), ({"*": CAUGHT}, [])):
        with pytest.raises(SettingsError, match="--model"):
            select_models(settings_of("http://up.test", models), chosen)
