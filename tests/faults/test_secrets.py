"""A hostile upstream repeats what it was sent wherever it can: no client and no log learns a key."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.service.chat_bodies import COMPLETION, HELLO, chunk, frame
from tests.service.responses_api import PATH, events
from tests.service.wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    serving,
)
from translator.service.live.progress import Progress, ProgressObserverFactory

pytestmark = pytest.mark.anyio

OPERATOR = "sk-operator/planted+1"
HEADER = "planted-header-secret"
CLIENT = "sk-client/planted+2"
CHAT = "/v1/chat/completions"
COMPACT = "/v1/responses/compact"
ASK: dict[str, Any] = {"model": "m", "input": "Hi"}
ASK_CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ROUTES = {
    "responses": (PATH, ASK),
    "stream": (PATH, ASK | {"stream": True}),
    "compact": (COMPACT, ASK),
    "chat": (CHAT, ASK_CHAT),
    "chat stream": (CHAT, ASK_CHAT | {"stream": True}),
}
OWN = {"key": OPERATOR, "upstream": {"headers": {"x-auth-token": HEADER}}}
SETTINGS: dict[str, dict[str, Any]] = {"operator": OWN, "client": {}}
RATE = "x-ratelimit-remaining-requests"


def sent(call: Call) -> str:
    """The secrets in the headers of a call, in several spellings."""
    plain = [call.headers.get("authorization", ""), call.headers.get("x-auth-token", "")]
    keys = " ".join(plain).replace("Bearer ", "")
    spelled = "".join(f"\\u{ord(one):04x}" for one in keys)
    basic = base64.b64encode(f"user:{keys}".encode()).decode()
    return " | ".join([*plain, spelled, quote(keys, safe=""), basic])


def spellings(key: str) -> list[str]:
    escaped = "".join(f"\\u{ord(one):04x}" for one in key)
    coded = [
        base64.b64encode(before + key.encode()).decode()[4:-4] for before in (b"", b"1", b"12")
    ]
    return [key, escaped, key.replace("/", "\\/"), quote(key, safe=""), *coded]


def raw(text: str) -> bytes:
    """A JSON string whose own escapes are those of the text."""
    return b'"%b"' % text.replace('"', '\\"').encode()


SHAPES: dict[str, Callable[[str], bytes]] = {
    "envelope": lambda text: (
        b'{"error":{"message":%b,"type":%b,"param":%b,"code":%b}}'
        % (raw(text), raw(text), raw(text), raw(text))
    ),
    "string": lambda text: b'{"error":%b}' % raw(text),
    "spring": lambda text: (
        b'{"message":%b,"error":"Bad Request","path":%b}' % (raw(text), raw(text))
    ),
    "detail": lambda text: b'{"detail":%b}' % raw(text),
    "nested": lambda text: b'{"error":{"message":"no","metadata":{"raw":%b}}}' % raw(text),
    "name": lambda text: b'{"error":{"message":"no",%b:1}}' % raw(text),
    "list": lambda text: b'[{"error":{"message":%b}}]' % raw(text),
    "text": lambda text: text.encode(),
    "page": lambda text: b"<html><title>%b</title></html>" % text.encode(),
    "long": lambda text: b'{"error":{"message":"%b%b"}}' % (b"x" * 990, text.encode()),
    "longer": lambda text: b" " * (16 * 1024 - 40) + text.encode(),
    "empty": lambda _: b"",
}


class Ears:
    """Everything that a client and the operator hear."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        caplog.set_level(logging.DEBUG, "translator")
        self._log = caplog
        self.heard: list[str] = []

    def hear(self, answer: httpx.Response) -> httpx.Response:
        self.heard.append(f"{answer.headers}\n{answer.text}")
        return answer

    def check(self) -> None:
        assert self.heard
        logged = [logging.Formatter().format(record) for record in self._log.records]
        for text in (*self.heard, *logged):
            for key in (OPERATOR, HEADER, CLIENT):
                for spelled in spellings(key):
                    assert spelled not in text, text


@pytest.fixture
def ears(caplog: pytest.LogCaptureFixture) -> Ears:
    return Ears(caplog)


async def ask_all(url: str, ears: Ears) -> list[httpx.Response]:
    """The answers of all routes; that of a WebSocket is heard only."""
    headers = {"authorization": f"Bearer {CLIENT}"}
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=BOUND_S) as client:
        for path, body in ROUTES.values():
            with suppress(httpx.RemoteProtocolError):
                answers.append(ears.hear(await client.post(path, json=body)))
        for path in ("/v1/models", "/v1/models/m", "/v1/models?client_version=1"):
            with suppress(httpx.RemoteProtocolError):
                ears.hear(await client.get(path))
        ears.hear(await client.get("/metrics"))
    async with connect(f"ws{url[4:]}{PATH}", additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "response.create"} | ASK))
        while True:
            text = str(await bounded(socket.recv()))
            ears.heard.append(text)
            if json.loads(text)["type"] in ("error", "response.failed", "response.completed"):
                return answers


class Echo:
    """A script that repeats a call's secrets in an answer of some shape and status."""

    def __init__(self, shape: Callable[[str], bytes]) -> None:
        self.shape = shape
        self.status = 400

    async def __call__(self, call: Call) -> None:
        text = sent(call)
        header = text.partition(" | ")[0].removeprefix("Bearer ")
        odd = {
            RATE: header,
            "x-ratelimit-echo": header,
            f"x-ratelimit-{header.lower().replace('/', '')}": "1",
            "retry-after": header,
            "x-request-id": header,
            "set-cookie": f"{header}={header}",
        }
        await call.answer(self.shape(text), self.status, f"application/json; k={header}", odd)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_no_error_tells_a_key(
    upstream: ScriptedUpstream, ears: Ears, settings: dict[str, Any], shape: Callable[[str], bytes]
) -> None:
    """In a body or a header; with an error status, or a 200."""
    upstream.script = echo = Echo(shape)
    headers = {"authorization": f"Bearer {CLIENT}"}
    async with upstream.client(**settings, retries=0) as client:
        for echo.status in (400, 200):
            for path, body in ROUTES.values():
                answer = ears.hear(await client.post(path, json=body, headers=headers))
                assert {RATE, "retry-after"}.isdisjoint(answer.headers)
    ears.check()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_no_status_and_no_route_tells_a_key(
    upstream: ScriptedUpstream, ears: Ears, settings: dict[str, Any]
) -> None:
    upstream.script = echo = Echo(SHAPES["envelope"])
    async with upstream.service(**settings, retries=0) as url:
        for echo.status in (200, 400, 401, 429, 500):
            assert len(await ask_all(url, ears)) == len(ROUTES)
    ears.check()
    keys = {call.headers["authorization"] for call in upstream.calls}
    assert keys == {f"Bearer {OPERATOR if settings else CLIENT}"}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_no_event_tells_a_key(
    upstream: ScriptedUpstream, ears: Ears, settings: dict[str, Any]
) -> None:
    """Wherever the network cuts a stream, and after the model has said something."""
    size = 0

    async def script(call: Call) -> None:
        text = sent(call)
        await call.head(headers={"x-ratelimit-limit": text.partition(" | ")[0]})
        body = b"".join(
            [
                b": %b\n\n" % text.encode(),
                HELLO[0],
                chunk({"content": "Hello"}),
                b'data: {"error":{"message":%b,"code":%b}}\n\n' % (raw(text), raw(text)),
                b'data: {"id":"x","choices":[{"delta":{"content":""}}],"error":%b}\n\n' % raw(text),
            ]
        )
        for start in range(0, len(body), size):
            await call.send(body[start : start + size])
        await call.end()

    upstream.script = script
    async with upstream.service(**settings) as url:
        for one in (37, 10_000):
            size = one
            assert len(await ask_all(url, ears)) == len(ROUTES)
    ears.check()


async def test_what_the_model_says_is_never_changed(upstream: ScriptedUpstream) -> None:
    """Even if it is the key, on every route."""

    async def script(call: Call) -> None:
        if b'"stream":true' in call.body.replace(b" ", b""):
            await call.head()
            await call.send(*HELLO[:1], chunk({"content": OPERATOR}), *HELLO[3:])
            await call.end()
        else:
            choice = {"message": {"content": OPERATOR}, "finish_reason": "stop"}
            await call.answer(COMPLETION | {"choices": [choice]})

    upstream.script = script
    async with upstream.client(**OWN) as client:
        for path, body in ROUTES.values():
            if path != COMPACT:
                answer = await client.post(path, json=body)
                assert OPERATOR in answer.text, path


async def test_an_ordinary_text_is_not_delayed(upstream: ScriptedUpstream) -> None:
    """Half an event goes on, as soon as it shows that the model speaks in it."""
    seen = asyncio.Event()
    event = chunk({"content": "Hello world"})

    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[0], event[:-30])
        await bounded(seen.wait())
        await call.send(event[-30:], HELLO[-1])
        await call.end()

    upstream.script = script
    body = b""
    async with (
        upstream.socket_client(**OWN) as client,
        client.stream("POST", CHAT, json=ASK_CHAT | {"stream": True}) as answer,
    ):
        async for piece in answer.aiter_raw():
            body += piece
            if b"Hello w" in body:
                seen.set()
    assert body == HELLO[0] + event + HELLO[-1]


async def test_an_endless_error_is_bounded_and_tells_nothing(
    upstream: ScriptedUpstream, ears: Ears
) -> None:
    message = f"{'x' * 5000} {OPERATOR} " * 400

    async def script(call: Call) -> None:
        if call.json.get("stream"):
            await call.head()
            await call.send(HELLO[0], frame({"error": {"message": message}}), HELLO[1])
            await call.end()
        else:
            await call.answer({"error": {"message": message}}, 400)

    upstream.script = script
    async with upstream.client(**OWN) as client:
        answer = ears.hear(await client.post(CHAT, json=ASK_CHAT))
        assert answer.status_code == 400
        assert len(answer.content) < 20_000
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        answer = ears.hear(await client.post(CHAT, json=ASK_CHAT | {"stream": True}))
        assert answer.content.startswith(HELLO[0])
        assert answer.content.endswith(HELLO[1])
        assert answer.content.count(b"[removed]") == 400
    ears.check()


@pytest.mark.parametrize("encoding", ["gzip", "br"])
@pytest.mark.parametrize("status", [200, 400])
async def test_a_compressed_answer_hides_nothing(
    upstream: ScriptedUpstream, ears: Ears, encoding: str, status: int
) -> None:
    body = frame({"error": {"message": OPERATOR}})

    async def script(call: Call) -> None:
        packed = gzip.compress(body) if encoding == "gzip" else body
        await call.answer(packed, status, "text/event-stream", {"content-encoding": encoding})

    upstream.script = script
    async with upstream.client(**OWN) as client:
        answer = ears.hear(await client.post(CHAT, json=ASK_CHAT | {"stream": True}))
        assert "content-encoding" not in answer.headers
        if encoding == "gzip":
            assert b"[removed]" in answer.content
        else:
            assert answer.status_code == (502 if status == 200 else 400)
    ears.check()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_an_answer_that_is_no_http_tells_the_log_nothing(
    upstream: ScriptedUpstream, ears: Ears, settings: dict[str, Any]
) -> None:
    """Libraries quote in their errors what they cannot parse."""

    async def script(call: Call) -> None:
        text = sent(call).encode()
        head = {"header": b"HTTP/1.1 200 OK\r\n%b\r\n\r\n", "status": b"HTTP/1.1 %b\r\n\r\n"}
        form = head["header" if len(upstream.calls) % 2 else "status"]
        call._writer.write(form % text)
        call._writer.close()

    upstream.script = script
    async with upstream.service(**settings, retries=0) as url:
        for answer in await ask_all(url, ears):
            assert answer.status_code == 502
    ears.check()


# --- headers ----------------------------------------------------------------------------------------


async def test_headers_are_passed_on_by_a_list(upstream: ScriptedUpstream) -> None:
    listed = {
        "retry-after": "7",
        "retry-after-ms": "6999",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "2m59.5s",
        "x-ratelimit-limit-tokens-prompt": "60",
        "x-ratelimit-reset": "1",
    }
    others = {"x-ratelimit-other": "1", "x-ratelimit-": "1", "x-ratelimit-limit-": "1"}
    odd = {"x-ratelimit-limit": '"<script>"', "x-ratelimit-remaining": "9" * 101}

    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, 429, headers=listed | others | odd)

    upstream.script = script
    async with upstream.client(retries=0) as client:
        for path, body in ROUTES.values():
            answer = await client.post(path, json=body)
            found = {name: value for name, value in answer.headers.items() if name in listed}
            assert found == listed, path
            assert not (others | odd).keys() & answer.headers.keys()


async def test_the_log_has_bounded_words_of_an_upstream(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "translator")

    async def script(call: Call) -> None:
        error = {"message": "no", "code": f"{OPERATOR}<b>\u2028{'c' * 999}", "param": "p" * 999}
        await call.answer({"error": error}, 400)

    upstream.script = script
    async with upstream.client(**OWN) as client:
        await client.post(PATH, json=ASK)
    [line] = [text for text in caplog.messages if "outcome=" in text]
    assert "outcome=[removed]?b??ccc" in line
    assert len(line) < 500
    reported: list[Progress] = []
    settings = make_settings(upstream.url, **OWN)
    async with client_of(settings, observe=ProgressObserverFactory(reported.append)) as client:
        await client.post(PATH, json=ASK)
    assert reported[-1].detail.startswith("[removed]?b??ccc")
    assert len(reported[-1].detail) <= 200


# --- whose fault it is --------------------------------------------------------------------------------

WRONG_KEY: list[tuple[int, dict[str, Any]]] = [
    (
        400,
        {"error": {"message": "Incorrect API key provided: sk-1***.", "type": "invalid_request"}},
    ),
    (400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided."}),
    (400, {"error": {"message": "API key not valid. Please pass a valid API key.", "code": 400}}),
    (400, {"error": {"message": "no", "code": "invalid_api_key"}}),
    (422, {"detail": "Authentication failed"}),
    (404, {"error": {"message": "The api key you gave does not exist"}}),
    (500, {"error": {"message": "invalid credentials", "type": "server_error"}}),
    (401, {"error": {"message": "no"}}),
    (403, {"error": {"message": "no"}}),
    (200, {"error": {"message": "no", "code": "authentication_error"}}),
    (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}),
]
EMPTY: list[tuple[int, dict[str, Any]]] = [
    (402, {"error": {"message": "Insufficient Balance"}}),
    (402, {"a": 1}),
    (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
    (429, {"error": {"message": "no", "type": "exceeded_current_quota_error"}}),
    (429, {"error": {"message": "no", "code": "project_spend_limit_exceeded"}}),
    (403, {"error": {"message": "Your account has insufficient credit."}}),
    (400, {"error": {"message": "Your credit balance is too low to access the API."}}),
    (200, {"error": {"message": "no credits", "code": 402}}),
    (200, {"error": {"message": "no", "code": "insufficient_quota"}}),
]
OTHERS: list[tuple[int, dict[str, Any]]] = [
    (400, {"error": {"message": "Unsupported parameter: 'api_key'.", "param": "api_key"}}),
    (400, {"error": {"message": "Invalid 'messages[0].content'.", "code": "invalid_value"}}),
    (400, {"error": {"message": f"Bad input: {'x' * 400} invalid api key, out of credits"}}),
    (404, {"error": {"message": "The model m does not exist", "code": "model_not_found"}}),
    (429, {"error": {"message": "Rate limit reached for API key", "code": "rate_limit_exceeded"}}),
]


@pytest.mark.parametrize("route", ROUTES)
async def test_what_only_the_operator_can_mend_is_a_502(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    """The client learns nothing of it, and the operator all."""
    status, body = WRONG_KEY[0]

    async def script(call: Call) -> None:
        await call.answer(body, status, headers={"x-ratelimit-limit": "1"})

    upstream.script = script
    path, ask = ROUTES[route]
    async with upstream.client(**OWN, retries=0) as client:
        for status, body in WRONG_KEY + EMPTY:
            caplog.clear()
            answer = await client.post(path, json=ask)
            assert answer.status_code == 502, body
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("upstream_error", "server_error")
            assert answer.headers["x-should-retry"] == "false"
            is_key = (status, body) in WRONG_KEY
            told = "refused the gateway's own credential" if is_key else "has no credit left"
            assert len([text for text in caplog.messages if told in text]) == 1, body
        metrics = (await client.get("/metrics")).text
    for kind, count in (("credential_refused", len(WRONG_KEY)), ("insufficient_quota", len(EMPTY))):
        assert f'errors_total{{kind="{kind}",upstream="up"}} {count}.0' in metrics


@pytest.mark.parametrize(("status", "body"), OTHERS)
@pytest.mark.parametrize("route", ["responses", "chat"])
async def test_what_is_the_clients_stays_the_clients(
    upstream: ScriptedUpstream, status: int, body: dict[str, Any], route: str
) -> None:
    async def script(call: Call) -> None:
        await call.answer(body, status)

    upstream.script = script
    path, ask = ROUTES[route]
    async with upstream.client(**OWN, retries=0) as client:
        answer = await client.post(path, json=ask)
    assert answer.status_code == status


@pytest.mark.parametrize(("status", "body"), [*WRONG_KEY, *EMPTY])
async def test_with_the_clients_own_key_all_is_the_clients(
    upstream: ScriptedUpstream, status: int, body: dict[str, Any]
) -> None:
    async def script(call: Call) -> None:
        await call.answer(body, status)

    upstream.script = script
    async with upstream.client(retries=0) as client:
        headers = {"authorization": f"Bearer {CLIENT}"}
        chat = await client.post(CHAT, json=ASK_CHAT, headers=headers)
        whole = await client.post(PATH, json=ASK, headers=headers)
    assert (chat.status_code, chat.json()) == (status, body)
    assert whole.status_code != 502
    assert "gateway" not in whole.text


async def test_an_account_that_is_empty_in_mid_stream(upstream: ScriptedUpstream) -> None:
    """The model has spoken: an event says it, and not the upstream's."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2], frame({"error": {"message": "pay us", "code": 402}}))
        await call.end()

    upstream.script = script
    async with upstream.client(**OWN) as client:
        chat = await client.post(CHAT, json=ASK_CHAT | {"stream": True})
        metrics = (await client.get("/metrics")).text
        answer = await client.post(PATH, json=ASK | {"stream": True})
    assert 'upstream_errors_total{kind="insufficient_quota",upstream="up"} 1.0' in metrics
    assert chat.content.startswith(HELLO[0] + HELLO[1])
    assert "pay us" not in chat.text + answer.text
    assert b'"code":"upstream_error"' in chat.content
    assert events(answer.content)[-1]["response"]["error"]["code"] == "server_error"


async def test_the_status_waits_for_the_first_event_only_so_long(
    upstream: ScriptedUpstream,
) -> None:
    """An upstream that keeps a stream alive before it answers does not keep its client waiting."""
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(b": processing\n\n")
        await bounded(seen.wait())
        await call.send(*HELLO)
        await call.end()

    upstream.script = script
    async with (
        upstream.socket_client(**OWN, headers_grace_s=0.05) as client,
        client.stream("POST", CHAT, json=ASK_CHAT | {"stream": True}) as answer,
    ):
        assert answer.status_code == 200
        seen.set()
        assert await answer.aread() == b": processing\n\n" + b"".join(HELLO)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_proxys_password_is_not_told(
    upstream: ScriptedUpstream, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(call: Call) -> None:
        asked = call.headers.get("proxy-authorization", "none")
        await call.answer({"error": {"message": f"{asked} {HEADER}"}}, 400)

    upstream.script = script
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", f"http://me:{HEADER}@{upstream.url[7:-3]}")
    async with serving(make_settings("http://up.test/v1", retries=0)) as url:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        async with httpx.AsyncClient(timeout=BOUND_S, trust_env=False) as client:
            for path, body in ROUTES.values():
                answer = ears.hear(await client.post(url + path, json=body))
                assert answer.status_code == 400
                assert "[removed]" in answer.text
                assert base64.b64encode(f"me:{HEADER}".encode()).decode() not in answer.text
    assert upstream.calls[0].path.startswith("http://up.test/")
    ears.check()
