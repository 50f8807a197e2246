"""`describe_images_with`: another model describes images for one that takes text only."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from translator.captures.folder import Capture
from translator.captures.replay import compare, replay
from translator.request.content import DESCRIBED, IMAGE_OMITTED
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings, SettingsError

from .capture.captured import kept, tracing
from .chat_bodies import COMPLETION
from .responses_api import PATH, events
from .wire import Call, ScriptedUpstream, bounded, client_of, say_hello, serving

pytestmark = pytest.mark.anyio


def picture(name: str = "AAAA") -> str:
    return f"data:image/png;base64,{name}"


def user(*parts: str) -> dict[str, Any]:
    """A message of the user: words, and images by URL."""
    content = [
        {"type": "input_image", "image_url": part}
        if ":" in part
        else {"type": "input_text", "text": part}
        for part in parts
    ]
    return {"role": "user", "content": content}


def shown(call_id: str, *urls: str) -> list[dict[str, Any]]:
    """A call that shows images, and its output, as of Codex's `view_image`."""
    call = {"type": "function_call", "call_id": call_id, "name": "view_image", "arguments": "{}"}
    output = [{"type": "input_image", "image_url": url} for url in urls]
    return [call, {"type": "function_call_output", "call_id": call_id, "output": output}]


MODELS: dict[str, Any] = {
    "coder": {"upstream": "up", "vision": False, "describe_images_with": "eyes"},
    "eyes": {"upstream": "other", "upstream_model": "eyes-1"},
}
ASK = {"model": "coder", "input": [user("What is wrong here?", picture())]}


def settings_of(
    url: str,
    models: dict[str, Any] = MODELS,
    *,
    keys: bool = True,
    clients: dict[str, Any] | None = None,
    **server: Any,
) -> Settings:
    """Settings with an upstream at `/v1`, and another one at `/v1/other`; both have keys."""
    up: dict[str, Any] = {"base_url": url}
    other: dict[str, Any] = {"base_url": f"{url}/other"}
    if keys:
        up["headers"] = {"authorization": "Bearer up-key"}
        other["headers"] = {"authorization": "Bearer other-key"}
    table: dict[str, Any] = {
        "server": server,
        "upstreams": {"up": up, "other": other},
        "models": models,
    }
    if clients is not None:
        table["clients"] = clients
    return read_table(table, {})


def looks(call: Call) -> bool:
    """Whether a request is one for a description."""
    return call.path == "/v1/other/chat/completions"


def content_of(call: Call) -> list[dict[str, Any]]:
    """The parts that the describing model is asked with."""
    return call.json["messages"][-1]["content"]


def url_in(call: Call) -> str:
    return content_of(call)[-1]["image_url"]["url"]


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return COMPLETION | {"choices": [choice | {"finish_reason": "stop"}]}


class Eyes:
    """A script: each description names its image and how often an image was described so far."""

    def __init__(self, first: Callable[[Call], Awaitable[bool]] | None = None) -> None:
        """`first(call)` may answer in its place; then it returns True."""
        self.looked: list[Call] = []
        self._first = first

    async def __call__(self, call: Call) -> None:
        if not looks(call):
            await say_hello(call)
            return
        self.looked.append(call)
        number = len(self.looked)
        if self._first is None or not await self._first(call):
            await call.answer(completion(f"seen {url_in(call)[-4:]} {number}"))


@pytest.fixture
def eyes(upstream: ScriptedUpstream) -> Eyes:
    upstream.script = found = Eyes()
    return found


def asked(upstream: ScriptedUpstream) -> list[list[dict[str, Any]]]:
    """The messages of each request for an answer."""
    return [call.json["messages"] for call in upstream.calls if not looks(call)]


def described(text: str) -> str:
    return DESCRIBED.format(text)


async def test_an_image_is_described_where_it_stood(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    """By the other model, on its upstream, with its key; the client is told of the loss."""
    async with client_of(settings_of(upstream.url)) as client:
        answer = await client.post(PATH, json=ASK)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-translator-notices"] == "1; image_described"
    assert answer.json()["model"] == "coder"
    assert answer.json()["usage"]["total_tokens"] == 5, "the description's are not among them"
    [look] = eyes.looked
    assert look.headers["authorization"] == "Bearer other-key"
    assert look.json["model"] == "eyes-1"
    assert url_in(look) == picture()
    assert "What is wrong here?" in content_of(look)[0]["text"]
    assert look.json["max_tokens"] <= 4096
    [messages] = asked(upstream)
    assert messages[-1]["content"] == f"What is wrong here?\n{described('seen AAAA 1')}"


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_the_same_in_every_later_turn(
    upstream: ScriptedUpstream, eyes: Eyes, *, stream: bool
) -> None:
    """Images of messages, of outputs, of both kinds; each is described once, wherever it stands."""
    custom = [
        {"type": "custom_tool_call", "call_id": "c2", "name": "shoot", "input": ""},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_image", "image_url": picture("CCCC")}],
        },
    ]
    talk: list[dict[str, Any]] = [user("Look", picture("AAAA"))]
    bodies: list[bytes] = []
    async with client_of(settings_of(upstream.url)) as client:
        for more in ([], shown("c1", picture("BBBB")), custom, [user(picture("AAAA"), "again")]):
            talk += more
            body = {"model": "coder", "input": talk, "stream": stream}
            answer = await client.post(PATH, json=body)
            assert answer.status_code == 200, answer.text
            bodies.append(answer.content)
    assert [url_in(look)[-4:] for look in eyes.looked] == ["AAAA", "BBBB", "CCCC"]
    assert "Look" in content_of(eyes.looked[1])[0]["text"], "the hint is what the user said last"
    turns = asked(upstream)
    for before, after in pairwise(turns):
        assert json.dumps(after)[: len(json.dumps(before)) - 1] == json.dumps(before)[:-1]
    text = json.dumps(turns[-1])
    assert [text.count(f"seen {name}") for name in ("AAAA", "BBBB", "CCCC")] == [2, 1, 1]
    assert IMAGE_OMITTED not in text
    if stream:
        assert events(bodies[-1])[-1]["type"] == "response.completed"


async def test_urls_are_passed_on_as_they_are(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    """Nothing is fetched here; escapes of JSON make no other image."""
    url = "https://pictures.test/a/b.png"
    async with client_of(settings_of(upstream.url)) as client:
        for text in (json.dumps(ASK), json.dumps(ASK).replace("/", "\\/")):
            body = text.replace(picture(), url).replace(picture().replace("/", "\\/"), url)
            body = body.replace(url, url.replace("/", "\\/")) if "\\/" in text else body
            answer = await client.post(PATH, content=body.encode())
            assert answer.status_code == 200, answer.text
    [look] = eyes.looked
    assert url_in(look) == url


async def test_images_are_described_at_once_and_shared(upstream: ScriptedUpstream) -> None:
    """Images of a request in parallel; requests with the same image wait for one description."""
    both = asyncio.Event()

    async def wait(call: Call) -> bool:
        if len(script.looked) == 2:
            both.set()
        await bounded(both.wait())
        return False

    upstream.script = script = Eyes(wait)
    body = {"model": "coder", "input": [user("Compare", picture("AAAA"), picture("BBBB"))]}
    async with client_of(settings_of(upstream.url)) as client:
        answers = await bounded(asyncio.gather(*(client.post(PATH, json=body) for _ in range(3))))
    assert {answer.status_code for answer in answers} == {200}
    assert len(script.looked) == 2
    first, *others = asked(upstream)
    assert others == [first, first]


async def test_an_image_that_fails_again_and_again_is_let_alone(
    upstream: ScriptedUpstream,
) -> None:
    """For ten minutes; other images are described meanwhile."""

    async def dislike(call: Call) -> bool:
        return url_in(call).endswith("AAAA") and await refuse(call)

    now = 0.0
    upstream.script = script = Eyes(dislike)
    settings = settings_of(upstream.url, retries=0)
    async with client_of(settings, timer=lambda: now) as client:
        for _ in range(5):
            await client.post(PATH, json=ASK)
        assert len(script.looked) == 3
        other = await client.post(PATH, json=ASK | {"input": [user(picture("BBBB"))]})
        assert other.headers["x-translator-notices"] == "1; image_described"
        now = 601.0
        await client.post(PATH, json=ASK)
    assert [url_in(look)[-4:] for look in script.looked] == [*["AAAA"] * 3, "BBBB", "AAAA"]


async def refuse(call: Call) -> bool:
    await call.answer({"error": {"message": "No quota for sk-other-secret."}}, 400)
    return True


async def babble(call: Call) -> bool:
    await call.answer(completion("  "))
    return True


async def no_json(call: Call) -> bool:
    await call.answer(b"<html>", 200, "text/html")
    return True


@pytest.mark.parametrize("fail", [refuse, babble, no_json])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_becomes_the_placeholder(
    upstream: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
    fail: Callable[[Call], Awaitable[bool]],
    *,
    stream: bool,
) -> None:
    """With its notice, and no trace in the cache: the next turn has the description."""
    caplog.set_level("INFO", "translator")
    upstream.script = Eyes(fail)
    async with client_of(settings_of(upstream.url, retries=0)) as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
        upstream.script = Eyes()
        again = await client.post(PATH, json=ASK | {"stream": stream})
    assert answer.status_code == again.status_code == 200
    assert answer.headers["x-translator-notices"] == "1; image_omitted"
    assert again.headers["x-translator-notices"] == "1; image_described"
    first, second = asked(upstream)
    assert first[-1]["content"].endswith(IMAGE_OMITTED)
    assert second[-1]["content"].endswith(described("seen AAAA 1"))
    assert "IMAGE input[0].content[1]" in caplog.text
    assert "sk-other-secret" not in caplog.text


async def test_a_description_that_takes_too_long_is_not_waited_for(
    upstream: ScriptedUpstream,
) -> None:
    """The client of a stream gets its heartbeats meanwhile; then the model is let alone a while."""

    async def silence(call: Call) -> bool:
        await call.gone()
        return True

    upstream.script = script = Eyes(silence)
    settings = settings_of(
        upstream.url, describe_timeout_s=0.5, headers_grace_s=0.05, heartbeat_s=0.05
    )
    async with client_of(settings) as client:
        answer = await bounded(client.post(PATH, json=ASK | {"stream": True}))
        again = await bounded(client.post(PATH, json=ASK | {"input": [user(picture("BBBB"))]}))
    found = events(answer.content)
    kinds = [event["type"] for event in found]
    assert kinds[0] == "response.created"
    assert kinds.count("response.created") == 1
    assert kinds.count("response.in_progress") > 2
    assert kinds[-1] == "response.completed"
    assert "x-translator-notices" not in answer.headers, "what is lost was not known by then"
    assert again.headers["x-translator-notices"] == "1; image_omitted"
    assert len(script.looked) == 1
    assert all(messages[-1]["content"].endswith(IMAGE_OMITTED) for messages in asked(upstream))


async def test_the_latest_images_are_described_within_the_limit(
    upstream: ScriptedUpstream, eyes: Eyes
) -> None:
    """The others get the placeholder, until a later turn has room for them."""
    names = ["AAAA", "BBBB", "CCCC", "DDDD"]
    body = {"model": "coder", "input": [user("Look", *map(picture, names))]}
    async with client_of(settings_of(upstream.url, max_described_images=3)) as client:
        for codes in ("4; image_omitted,image_described", "4; image_described"):
            answer = await client.post(PATH, json=body)
            assert answer.headers["x-translator-notices"] == codes
    assert {url_in(look)[-4:] for look in eyes.looked[:3]} == set(names[1:])
    assert len(eyes.looked) == 4


async def test_a_client_that_leaves_ends_its_descriptions(upstream: ScriptedUpstream) -> None:
    """Nobody would read them; another client's wait for the same image goes on."""
    reached, gone = asyncio.Event(), asyncio.Event()

    async def hang(call: Call) -> bool:
        reached.set()
        await bounded(call.gone())
        gone.set()
        return True

    upstream.script = Eyes(hang)
    async with (
        serving(settings_of(upstream.url)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        asking = asyncio.create_task(client.post(PATH, json=ASK | {"stream": True}))
        await bounded(reached.wait())
        asking.cancel()
        await bounded(gone.wait())


async def test_a_shared_description_outlives_a_client_that_leaves(
    upstream: ScriptedUpstream,
) -> None:
    """The other one that waits for it gets it, and it is asked for once."""
    reached, left = asyncio.Event(), asyncio.Event()

    async def wait(call: Call) -> bool:
        reached.set()
        await bounded(left.wait())
        return False

    upstream.script = script = Eyes(wait)
    async with (
        serving(settings_of(upstream.url, headers_grace_s=0.05)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as client,
    ):
        first = client.stream("POST", PATH, json=ASK | {"stream": True})
        await bounded(first.__aenter__())  # its heartbeats have begun
        await bounded(reached.wait())
        second = client.stream("POST", PATH, json=ASK | {"stream": True})
        answer = await bounded(second.__aenter__())
        await first.__aexit__(None, None, None)
        while (
            'translator_requests_open{endpoint="responses"} 2.0'
            in (await client.get("/metrics")).text
        ):
            await asyncio.sleep(0)
        left.set()
        body = await bounded(answer.aread())
        await second.__aexit__(None, None, None)
    assert events(body)[-1]["type"] == "response.completed"
    assert len(script.looked) == 1
    assert asked(upstream)[-1][-1]["content"].endswith(described("seen AAAA 1"))


async def test_what_an_upstream_refuses_is_still_learned_after_a_long_look(
    upstream: ScriptedUpstream,
) -> None:
    """The time of describing is none of the minute in which a request may be sent anew."""
    now = 0.0

    async def slow(call: Call) -> bool:
        nonlocal now
        now += 61.0
        return False

    eyes = Eyes(slow)

    async def script(call: Call) -> None:
        if not looks(call) and "temperature" in call.json:
            await call.answer({"error": {"message": "Unknown parameter: 'temperature'."}}, 400)
        else:
            await eyes(call)

    upstream.script = script
    async with client_of(settings_of(upstream.url), timer=lambda: now) as client:
        answer = await client.post(PATH, json=ASK | {"temperature": 0.5})
    assert answer.status_code == 200, answer.text
    assert len(asked(upstream)) == 2


async def test_a_clients_key_goes_to_its_own_upstream_only(upstream: ScriptedUpstream) -> None:
    """Where the operator has no key: to no other host, whatever the describing model is on."""
    upstream.script = Eyes()
    key = {"authorization": "Bearer client-key"}
    async with ScriptedUpstream().running() as stranger:
        table: dict[str, Any] = {
            "upstreams": {"up": {"base_url": upstream.url}, "other": {"base_url": stranger.url}},
            "models": MODELS,
        }
        async with client_of(read_table(table, {})) as client:
            answer = await client.post(PATH, json=ASK, headers=key)
        assert answer.headers["x-translator-notices"] == "1; image_described"
        [look], [ask] = stranger.calls, upstream.calls
        assert "authorization" not in look.headers
        assert ask.headers["authorization"] == "Bearer client-key"
    async with client_of(settings_of(upstream.url, keys=False)) as client:
        assert (await client.post(PATH, json=ASK, headers=key)).status_code == 200
    assert {call.headers["authorization"] for call in upstream.calls} == {"Bearer client-key"}
    assert len(upstream.calls) == 3


async def test_what_one_client_said_of_an_image_is_not_told_another(
    upstream: ScriptedUpstream, eyes: Eyes
) -> None:
    """A description may repeat it, so each client has its own."""
    keys = {name: new_key() for name in ("ann", "bob")}
    clients = {
        name: {"keys": [str(store(key))], "models": ["coder"], "tokens_per_minute": 1000}
        for name, key in keys.items()
    }
    async with client_of(settings_of(upstream.url, clients=clients)) as client:
        headers: dict[str, str] = {}
        for name in ("ann", "ann", "bob"):
            headers = {"authorization": f"Bearer {keys[name]}"}
            answer = await client.post(PATH, json=ASK, headers=headers)
            assert answer.status_code == 200, answer.text
        refused = await client.post(PATH, json=ASK | {"model": "eyes"}, headers=headers)
    assert refused.status_code == 404, "clients need not be allowed to use it"
    assert len(eyes.looked) == 2


async def test_the_client_pays_for_its_descriptions(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    """Once: the tokens that the describing model states, beside those of the request."""
    key = new_key()
    clients = {"ann": {"keys": [str(store(key))], "tokens_per_minute": 1000}}
    settings = settings_of(upstream.url, clients=clients)
    headers = {"authorization": f"Bearer {key}"}
    left = [1000]
    async with client_of(settings, clock=lambda: 0.0) as client:
        for _ in range(2):
            await client.post(PATH, json=ASK, headers=headers)
            listed = await client.get("/v1/models", headers=headers)
            left.append(int(listed.headers["x-ratelimit-remaining-tokens"]))
    assert [before - after for before, after in pairwise(left)] == [10, 5]


async def test_a_fallback_that_sees_nothing_has_eyes_of_its_own(
    upstream: ScriptedUpstream, eyes: Eyes
) -> None:
    """The first choice sees the image itself; the text-only one after it gets the description."""
    models = MODELS | {
        "seer": {"upstream": "up", "upstream_model": "broken", "fallbacks": ["coder"]},
    }

    async def script(call: Call) -> None:
        if call.json["model"] == "broken":
            await call.answer({"error": {"message": "down"}}, 500)
        else:
            await eyes(call)

    upstream.script = script
    async with client_of(settings_of(upstream.url, models, retries=0)) as client:
        for stream in (True, False):
            answer = await client.post(PATH, json=ASK | {"model": "seer", "stream": stream})
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-translator-notices"] == "2; fallback,image_described"
    assert len(eyes.looked) == 1
    assert asked(upstream)[-1][-1]["content"].endswith(described("seen AAAA 1"))


async def test_earlier_responses_on_a_websocket(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    """The image of the response that a request continues keeps its description."""
    async with (
        serving(settings_of(upstream.url)) as url,
        connect(f"ws{url.removeprefix('http')}{PATH}") as socket,
    ):
        previous: dict[str, Any] = {}
        for item in (user("Look", picture()), user("And now?")):
            create = {"type": "response.create", "model": "coder", "input": [item]}
            await socket.send(json.dumps(create | previous))
            while (event := json.loads(await bounded(socket.recv())))["type"] != (
                "response.completed"
            ):
                assert not event["type"].endswith(("failed", "error")), event
            previous = {"previous_response_id": event["response"]["id"]}
    assert len(eyes.looked) == 1
    first, second = asked(upstream)
    assert first[-1]["content"] == f"Look\n{described('seen AAAA 1')}"
    assert second[: len(first)] == first


async def test_a_large_request(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    """A screenshot of a megabyte goes the same way, in slices."""
    image = picture("A" * 1_000_000 + "ZZZZ")
    body = {"model": "coder", "input": [user("Look", image)], "stream": True}
    async with client_of(settings_of(upstream.url)) as client:
        answer = await client.post(PATH, json=body)
    assert events(answer.content)[-1]["type"] == "response.completed"
    [look] = eyes.looked
    assert url_in(look) == image
    assert asked(upstream)[0][-1]["content"] == f"Look\n{described('seen ZZZZ 1')}"


async def test_the_file_keeps_descriptions_over_a_restart(
    upstream: ScriptedUpstream, eyes: Eyes, tmp_path: Path
) -> None:
    """For its owner alone; damaged lines count for nothing, and break no line after them."""
    file = tmp_path / "descriptions.jsonl"
    settings = settings_of(upstream.url, image_descriptions=str(file))
    async with client_of(settings) as client:
        await client.post(PATH, json=ASK)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [line] = file.read_bytes().splitlines()
    assert json.loads(line)["text"] == "seen AAAA 1"
    file.write_bytes(b'{"key": 1}\n\xff\n' + line + b'\n{"key": "half')
    more = ASK | {"input": [user("And this?", picture("BBBB"))]}
    async with client_of(settings) as client:
        assert (await client.post(PATH, json=ASK)).status_code == 200
        assert (await client.post(PATH, json=more)).status_code == 200
    async with client_of(settings) as client:
        assert (await client.post(PATH, json=more)).status_code == 200
    assert [url_in(look)[-4:] for look in eyes.looked] == ["AAAA", "BBBB"]
    assert asked(upstream)[0] == asked(upstream)[1]


async def test_workers_share_the_file(
    upstream: ScriptedUpstream, eyes: Eyes, tmp_path: Path
) -> None:
    """Each looks there for what another has had described, before it asks itself."""
    settings = settings_of(upstream.url, image_descriptions=str(tmp_path / "kept"))
    more = ASK | {"input": [user("And this?", picture("BBBB"))]}
    async with client_of(settings) as one, client_of(settings) as other:
        for client in (one, other, one):
            await client.post(PATH, json=ASK)
        for client in (other, one):
            await client.post(PATH, json=more)
    assert len(eyes.looked) == 2


async def test_a_file_that_cannot_be_used_is_a_warning(
    upstream: ScriptedUpstream, eyes: Eyes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(upstream.url, image_descriptions=str(tmp_path))
    async with client_of(settings) as client:
        for _ in range(2):
            assert (await client.post(PATH, json=ASK)).status_code == 200
    assert len(eyes.looked) == 1
    assert "descriptions of images cannot be" in caplog.text


async def test_a_capture_can_be_replayed(
    upstream: ScriptedUpstream, eyes: Eyes, tmp_path: Path
) -> None:
    """It holds the descriptions, so that the chat request is the same again."""
    async with tracing(settings_of(upstream.url, trace_folder=str(tmp_path))) as client:
        await client.post(PATH, json=ASK | {"stream": True})
    [folder] = kept(tmp_path)
    capture = Capture(folder)
    assert list(capture.manifest.target["descriptions"].values()) == ["seen AAAA 1"]
    compared = compare(capture, replay(capture))
    assert compared
    assert [one.name for one in compared if one.diff] == []


async def test_metrics_and_log(
    upstream: ScriptedUpstream, eyes: Eyes, caplog: pytest.LogCaptureFixture
) -> None:
    """A line with the id of the request; its tokens are counted apart from those of requests."""
    caplog.set_level("INFO", "translator")
    async with client_of(settings_of(upstream.url)) as client:
        await client.post(PATH, json=ASK, headers={"x-request-id": "req-1"})
        metrics = (await client.get("/metrics")).text
    assert 'translator_image_descriptions_total{model="eyes",result="described"} 1.0' in metrics
    name = "translator_image_description_tokens_total"
    assert f'{name}{{kind="input",model="eyes"}} 3.0' in metrics
    assert 'translator_tokens_total{kind="input",model="coder"} 3.0' in metrics
    [line] = [one.getMessage() for one in caplog.records if "IMAGE" in one.getMessage()]
    assert line.startswith("IMAGE input[0].content[1] 200 ")
    assert "tokens=3+2 model=eyes" in line
    assert line.endswith("id=req-1")


async def test_without_the_setting_nothing_changes(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    models = {"coder": {"upstream": "up", "vision": False}}
    async with client_of(settings_of(upstream.url, models)) as client:
        answer = await client.post(PATH, json=ASK)
        metrics = (await client.get("/metrics")).text
    assert answer.headers["x-translator-notices"] == "1; image_omitted"
    assert asked(upstream)[0][-1]["content"].endswith(IMAGE_OMITTED)
    assert "translator_image_description" not in metrics


def test_without_the_setting_nothing_is_loaded() -> None:
    """Neither at the start nor by a request's first import: the describer is for those who ask."""
    code = """if True:
        import sys
        from translator.service.config.loading import read_table
        from translator.service.http.app import create_app
        up = {"up": {"base_url": "http://up.test/v1"}}
        models = {"a": {"upstream": "up", "vision": False}, "b": {"upstream": "up"}}
        create_app(read_table({"upstreams": up, "models": models}, {}))
        names = {f"translator.service.turns.{name}" for name in sys.argv[1].split()}
        assert not names & set(sys.modules)
        models["a"]["describe_images_with"] = "b"
        create_app(read_table({"upstreams": up, "models": models}, {}))
        assert names & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code, "describer descriptions images"], check=True)


async def test_a_url_goes_to_no_model_that_fetches_none(
    upstream: ScriptedUpstream, eyes: Eyes
) -> None:
    """It would be asked to describe a placeholder."""
    models = MODELS | {"eyes": {"upstream": "other", "dialect": "lm_studio"}}
    body = ASK | {"input": [user("Look", "https://pictures.test/a.png", picture())]}
    async with client_of(settings_of(upstream.url, models)) as client:
        answer = await client.post(PATH, json=body)
    assert answer.headers["x-translator-notices"] == "2; image_omitted,image_described"
    assert [url_in(look) for look in eyes.looked] == [picture()]


async def test_clients_see_a_model_that_takes_images(upstream: ScriptedUpstream) -> None:
    """Else Codex would not send them, and have no `view_image`."""
    async with client_of(settings_of(upstream.url)) as client:
        listed = (await client.get("/v1/models")).json()
    assert [one["vision"] for one in listed["data"]] == [True, True]
    assert listed["models"][0]["input_modalities"] == ["text", "image"]


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ({"a": {"describe_images_with": "a"}}, '"a".describe_images_with: is the model itself'),
        (
            {"a": {"describe_images_with": "c"}},
            '"a".describe_images_with: "c": there is no such model',
        ),
        (
            {"a": {"describe_images_with": "b"}, "b": {"vision": False}},
            '"a".describe_images_with: the model "b" takes no images itself',
        ),
        (
            {"a": {"describe_images_with": "b"}, "b": {"facts": {"images": False}}},
            '"a".describe_images_with: the model "b" takes no images itself',
        ),
        (
            {"a": {"describe_images_with": "b", "vision": True}, "b": {}},
            '"a".describe_images_with: the model takes images itself',
        ),
        (
            {"*": {"describe_images_with": "b", "vision": True}, "b": {}},
            '"*".describe_images_with: needs vision = false',
        ),
        ({"b": {"describe_images_with": "*"}, "*": {}}, "there is no such model"),
    ],
)
def test_a_mistake_in_the_settings(models: dict[str, Any], problem: str) -> None:
    rows = {
        name: {"upstream": "up"}
        | ({"vision": False} if "describe_images_with" in row else {})
        | row
        for name, row in models.items()
    }
    with pytest.raises(SettingsError) as caught:
        settings_of("http://up.test/v1", rows)
    [found] = caught.value.problems
    assert found.startswith("models.")
    assert problem in found


def test_all_mistakes_of_a_section_are_told_at_once() -> None:
    row = {"upstream": "nowhere", "vision": False, "describe_images_with": "eyse"}
    with pytest.raises(SettingsError) as caught:
        settings_of("http://up.test/v1", MODELS | {"coder": row})
    first, second = caught.value.problems
    assert "nowhere" in first
    assert 'describe_images_with: "eyse": there is no such model; did you mean eyes?' in second


async def test_every_other_name_may_have_eyes(upstream: ScriptedUpstream, eyes: Eyes) -> None:
    models = {"*": MODELS["coder"], "eyes": MODELS["eyes"]}
    async with client_of(settings_of(upstream.url, models)) as client:
        answer = await client.post(PATH, json=ASK | {"model": "whatever"})
    assert answer.headers["x-translator-notices"] == "1; image_described"
    assert len(eyes.looked) == 1
