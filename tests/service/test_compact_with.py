"""`compact_with`: another model of the table writes the summaries of conversations."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from websockets.asyncio.client import connect

from translator.request.compaction import SUMMARY_REQUEST, read_summary
from translator.service.base.keys import new_key, store
from translator.service.config.loading import override, read_table
from translator.service.config.settings import Settings, SettingsError
from translator.service.observe.record import LogLine

from .chat_bodies import COMPLETION
from .responses_api import events
from .wire import Call, ScriptedUpstream, bounded, client_of, serving

pytestmark = pytest.mark.anyio

TRIGGER = {"type": "compaction_trigger"}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello, who are you?"},
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]},
]
TO_COMPACT = {
    "/v1/responses": {"input": [*TALK, TRIGGER]},
    "/v1/responses/compact": {"input": TALK},
}
MODELS: dict[str, Any] = {
    "coder": {"upstream": "up", "compact_with": "writer"},
    "writer": {
        "upstream": "other",
        "upstream_model": "writer-1",
        "dialect": "openai",
        "max_output_tokens": 100,
        "vision": False,
        "compact_with": "third",
    },
    "third": {"upstream": "up"},
}
IMAGE_TOKENS = 1000
HEADER = "x-translator-model"


def table_of(url: str, models: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings with an upstream at `/v1` and another one at `/v1/other`."""
    return {
        "upstreams": {
            "up": {"base_url": url, "headers": {"authorization": "Bearer up-key"}},
            "other": {"base_url": f"{url}/other", "headers": {"authorization": "Bearer other-key"}},
        },
        "models": MODELS if models is None else models,
    }


def settings_of(url: str, models: dict[str, Any] | None = None) -> Settings:
    return read_table(table_of(url, models), {})


@pytest.mark.parametrize("path", TO_COMPACT)
async def test_a_summary_is_written_by_the_other_model(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """With its own upstream, key, dialect and limits; the client's model is still its own."""
    caplog.set_level("INFO", "translator")
    body = TO_COMPACT[path] | {"model": "coder", "max_output_tokens": 5000}
    async with client_of(settings_of(upstream.url)) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers[HEADER] == "writer"
    [call] = upstream.calls
    assert call.path == "/v1/other/chat/completions"
    assert call.headers["authorization"] == "Bearer other-key"
    assert call.json["model"] == "writer-1"
    assert call.json["max_completion_tokens"] == 100
    assert b"image_url" not in call.body
    assert call.json["messages"][-1]["content"] == SUMMARY_REQUEST
    assert answer.json().get("model", "coder") == "coder"
    [line] = [record.msg for record in caplog.records if isinstance(record.msg, LogLine)]
    logged = [line.facts()[name] for name in ("model", "served_by", "dialect", "upstream")]
    assert " model=coder served_by=writer dialect=openai " in str(line)
    assert logged == ["coder", "writer", "openai", "other"]


async def test_any_other_request_goes_to_the_model_itself(upstream: ScriptedUpstream) -> None:
    """Also one whose trigger is not at its end, which is refused as it always was."""
    async with client_of(settings_of(upstream.url)) as client:
        for given in ("Hi", TALK):
            answer = await client.post("/v1/responses", json={"model": "coder", "input": given})
            assert (answer.status_code, HEADER in answer.headers) == (200, False)
        wrong = {"model": "coder", "input": [TRIGGER, *TALK]}
        refused = await client.post("/v1/responses", json=wrong)
        itself = await client.post("/v1/responses/compact", json={"model": "third", "input": TALK})
    assert (refused.status_code, HEADER in refused.headers) == (400, False)
    assert (itself.status_code, HEADER in itself.headers) == (200, False)
    assert [(call.path, call.json["model"]) for call in upstream.calls] == [
        ("/v1/chat/completions", "coder"),
        ("/v1/chat/completions", "coder"),
        ("/v1/chat/completions", "third"),
    ]


async def test_a_chain_is_not_followed(upstream: ScriptedUpstream) -> None:
    """`coder` compacts with `writer`, which itself compacts with `third`."""
    async with client_of(settings_of(upstream.url)) as client:
        for model in ("coder", "writer"):
            await client.post("/v1/responses/compact", json={"model": model, "input": TALK})
    assert [call.json["model"] for call in upstream.calls] == ["writer-1", "third"]


async def test_whatever_model_comes_next_reads_the_summary(upstream: ScriptedUpstream) -> None:
    async with client_of(settings_of(upstream.url)) as client:
        made = await client.post("/v1/responses/compact", json={"model": "coder", "input": TALK})
        output = made.json()["output"]
        more = [*output, {"role": "user", "content": "And now?"}]
        for model in MODELS:
            answer = await client.post("/v1/responses", json={"model": model, "input": more})
            assert answer.json()["model"] == model
    assert output[-1]["type"] == "compaction"
    for call in upstream.calls[1:]:
        told = call.json["messages"][-2]
        assert (told["role"], told["content"]) == (
            "user",
            read_summary(output[-1]["encrypted_content"], ""),
        )


async def test_a_stream_and_a_websocket_are_compacted_there_too(upstream: ScriptedUpstream) -> None:
    """On a WebSocket a request may hold nothing but the trigger."""
    async with serving(settings_of(upstream.url)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            body = {"model": "coder", "input": [*TALK, TRIGGER], "stream": True}
            answer = await client.post("/v1/responses", json=body)
        address = url.replace("http://", "ws://") + "/v1/responses"
        async with connect(address) as socket:
            said: list[Any] = []
            for given in (TALK, [TRIGGER], [{"role": "user", "content": "And now?"}]):
                last = said[-1]["id"] if said else None
                create = {"type": "response.create", "model": "coder", "input": given}
                await socket.send(json.dumps(create | {"previous_response_id": last}))
                event: dict[str, Any] = {"type": ""}
                while event["type"] != "response.completed":
                    event = json.loads(await bounded(socket.recv()))
                    assert event["type"] != "error", event
                said.append(event["response"])
    assert answer.headers[HEADER] == "writer"
    completed = events(answer.content)[-1]["response"]
    assert {one["model"] for one in (completed, *said)} == {"coder"}
    assert [item["type"] for item in completed["output"]] == ["compaction"]
    used = ["writer-1", "coder", "writer-1", "coder"]
    assert [call.json["model"] for call in upstream.calls] == used
    assert upstream.calls[-1].json["messages"][-2]["content"].endswith("\n\nHello world")


async def test_the_tokens_of_a_compaction_are_counted_for_the_other_model(
    upstream: ScriptedUpstream,
) -> None:
    """The image, which that model does not see, does not count."""
    path, counted = "/v1/responses/input_tokens", list[int]()
    async with client_of(settings_of(upstream.url)) as client:
        for given, header in ((TALK, None), ([*TALK, TRIGGER], "writer")):
            answer = await client.post(path, json={"model": "coder", "input": given})
            assert (answer.status_code, answer.headers.get(HEADER)) == (200, header)
            counted.append(answer.json()["input_tokens"])
    assert counted[0] > IMAGE_TOKENS > counted[1]


async def test_a_limited_client_need_not_be_allowed_to_use_the_other_model(
    upstream: ScriptedUpstream,
) -> None:
    key = new_key()
    table = table_of(upstream.url)
    table["clients"] = {"alice": {"keys": [str(store(key))], "models": ["coder"]}}
    async with client_of(read_table(table, {})) as client:
        client.headers["authorization"] = f"Bearer {key}"
        for path, body in TO_COMPACT.items():
            answer = await client.post(path, json=body | {"model": "coder"})
            assert (answer.status_code, answer.headers[HEADER]) == (200, "writer")
            refused = await client.post(path, json=body | {"model": "writer"})
            assert refused.status_code == 404
            assert "writer" not in refused.json()["error"]["message"].partition("Models:")[2]
    assert [call.json["model"] for call in upstream.calls] == ["writer-1", "writer-1"]


@pytest.mark.parametrize("path", TO_COMPACT)
async def test_a_conversation_too_long_for_the_other_model_is_an_error(
    upstream: ScriptedUpstream, path: str
) -> None:
    """Nothing is cut, and the requested model is not asked instead."""

    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "maximum context length is 10 tokens"}}, 400)

    upstream.script = script
    async with client_of(settings_of(upstream.url)) as client:
        refused = await client.post(path, json=TO_COMPACT[path] | {"model": "coder"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert refused.headers[HEADER] == "writer"
    assert [call.json["model"] for call in upstream.calls] == ["writer-1"]


async def test_what_one_model_refuses_is_not_learned_for_the_other(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        if call.json["model"] == "writer-1" and "seed" in call.json:
            await call.answer({"error": {"message": "Unsupported parameter: 'seed'"}}, 400)
        else:
            await call.answer(COMPLETION)

    upstream.script = script
    async with client_of(settings_of(upstream.url)) as client:
        for path in ("/v1/responses/compact", "/v1/responses"):
            body = {"model": "coder", "input": TALK, "seed": 1}
            assert (await client.post(path, json=body)).status_code == 200
    assert ["seed" in call.json for call in upstream.calls] == [True, False, True]


async def test_the_catch_all_can_compact_with_a_listed_model(upstream: ScriptedUpstream) -> None:
    models = {"*": {"upstream": "up", "compact_with": "writer"}, "writer": {"upstream": "other"}}
    async with client_of(override(settings_of(upstream.url, models), {"strict": True})) as client:
        body = {"model": "gpt-9", "input": TALK}
        assert (await client.post("/v1/responses/compact", json=body)).headers[HEADER] == "writer"
        assert HEADER not in (await client.post("/v1/responses", json=body)).headers
    assert [call.json["model"] for call in upstream.calls] == ["writer", "gpt-9"]


@pytest.mark.parametrize(
    ("model", "shown"),
    [("Org/model:1.5-Q4_K", "Org/model:1.5-Q4_K"), ("schön 5%\n", "sch%C3%B6n 5%25%0A")],
)
async def test_any_id_fits_into_the_header(
    upstream: ScriptedUpstream, model: str, shown: str
) -> None:
    models = {"m": {"upstream": "up", "compact_with": model}, model: {"upstream": "up"}}
    async with client_of(settings_of(upstream.url, models)) as client:
        answer = await client.post("/v1/responses/compact", json={"model": "m", "input": TALK})
    assert (answer.status_code, answer.headers[HEADER]) == (200, shown)


async def test_the_python_sdk_compacts_with_the_other_model(upstream: ScriptedUpstream) -> None:
    async with serving(settings_of(upstream.url)) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
            raw = await client.responses.with_raw_response.compact(model="coder", input="Hi")
    assert raw.headers[HEADER] == "writer"
    assert [item.type for item in raw.parse().output] == ["message", "compaction"]


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        (
            {"a": {"upstream": "up", "compact_with": "b"}, "c": {"upstream": "up"}},
            'models."a".compact_with: there is no section of a model "b"; known: c',
        ),
        (
            {"a": {"upstream": "up", "compact_with": "*"}, "*": {"upstream": "up"}},
            'models."a".compact_with: there is no section of a model "*"; known: none',
        ),
        (
            {"a": {"upstream": "up", "compact_with": "a"}},
            'models."a".compact_with: is the model itself, which is the default; leave it out',
        ),
        (
            {"*": {"upstream": "up", "compact_with": "*"}},
            'models."*".compact_with: is the model itself, which is the default; leave it out',
        ),
        (
            {"a": {"upstream": "up", "compact_with": ""}, "ü": {"upstream": "up"}},
            'models."a".compact_with: there is no section of a model ""; known: ü',
        ),
        (
            {"a": {"upstream": "up", "compact_with": 5}},
            'models."a".compact_with: expected str | null, got int',
        ),
    ],
)
def test_it_names_another_model_of_the_table(models: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of("http://up.test/v1", models)
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize(("host", "key"), [("127.0.0.1", "Bearer mine"), ("localhost", None)])
async def test_the_clients_key_goes_to_no_other_host(
    upstream: ScriptedUpstream, host: str, key: str | None
) -> None:
    table = table_of(upstream.url) | {
        "upstreams": {
            "up": {"base_url": upstream.url},
            "other": {"base_url": upstream.url.replace("127.0.0.1", host)},
        }
    }
    async with client_of(read_table(table, {})) as client:
        body = TO_COMPACT["/v1/responses"] | {"model": "coder"}
        await client.post("/v1/responses", json=body, headers={"authorization": "Bearer mine"})
    [call] = upstream.calls
    assert call.headers.get("authorization") == key
