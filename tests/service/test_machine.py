"""Whatever is asked in whatever order: the service answers, keeps its limits, and stays whole.

One machine is one service with two clients, an upstream whose mood changes, and a clock that only
moves when told to. It is asked anything, in any order; the rules hold after each step.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table

from .chat_bodies import COMPLETION, HELLO
from .wire import client_of

PER_MINUTE = 4
LIMITED, FREE = new_key(), new_key()
MOODS = ("well", "in pieces", "refuses", "own key", "busy", "html", "garbage", "cut", "gone", "elsewhere", "silent")  # fmt: skip
PATHS = ("/v1/responses", "/responses", "/v1/responses/compact", "/v1/chat/completions", "/v1/models", "/v1/models/m", "/v1/models/../x", "/healthz", "/metrics", "/openapi.json", "/nowhere")  # fmt: skip
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE")

WELL: dict[str, Any] = {"model": "m", "input": "Hi", "messages": [{"role": "user", "content": "x"}]}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("m"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ("model", "input", "stream", "tools", "messages", "include", "reasoning", "text", "metadata", "previous_response_id", "tool_choice", "max_output_tokens", "generate", "store")  # fmt: skip
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), ODD, max_size=4).map(
        lambda fields: json.dumps({**WELL, **fields}).encode()
    ),
    ODD.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["x-request-id", "origin", "content-type", "content-encoding", "content-length-x", "traceparent", "upgrade", "accept", "expect", "cookie"]
    ),
    st.sampled_from(["", "a", "websocket", "gzip", "text/plain", "application/json", "null", "é" * 3, "x" * 300]),
    max_size=3,
)  # fmt: skip


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, which may break off."""

    def __init__(self, *pieces: bytes, breaks: bool = False) -> None:
        self._pieces = pieces
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._breaks:
            raise httpx.ReadError("gone")


def replied(
    status: int, *pieces: bytes, kind: str = "application/json", breaks: bool = False, **more: str
) -> httpx.Response:
    """An answer whose body has not been read."""
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    stream = Pieces(*pieces, breaks=breaks)
    return httpx.Response(status, headers={"content-type": kind, **headers}, stream=stream)


class Service(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.open = AsyncExitStack()
        self.now = 1_000_000.0
        self.mood = "well"
        self.upstream_headers: list[httpx.Headers] = []
        self.admitted: list[float] = []
        self.wait_s = 0.0

    @initialize()
    def begin(self) -> None:
        table: dict[str, Any] = {
            "server": {"retries": 0, "max_body_bytes": 10_000, "max_input_items": 3},
            "upstreams": {"up": {"base_url": "http://up.test/v1"}},
            "models": {"m": {"upstream": "up"}},
            "clients": {
                "limited": {"keys": [str(store(LIMITED))], "requests_per_minute": PER_MINUTE},
                "free": {"keys": [str(store(FREE))]},
            },
        }
        serving = client_of(
            read_table(table, {}),
            transport=httpx.MockTransport(self.answer),
            clock=lambda: self.now,
        )
        self.http = self.loop.run_until_complete(self.open.enter_async_context(serving))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.open.aclose())
        self.loop.close()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """What the upstream does, in its mood."""
        self.upstream_headers.append(request.headers)
        kind = "text/event-stream"
        match self.mood:
            case "well" if b'"stream":true' not in request.content:
                return replied(200, json.dumps(COMPLETION).encode())
            case "well":
                return replied(200, b"".join(HELLO), kind=kind)
            case "in pieces":
                return replied(200, *HELLO, kind=kind)
            case "cut":
                return replied(200, *HELLO[:2], kind=kind, breaks=True)
            case "silent":
                return replied(200, kind=kind)
            case "garbage":
                return replied(200, b"\xff{]\x00")
            case "html":
                return replied(500, b"<html>", kind="text/html")
            case "refuses":
                return replied(400, b'{"error":{"message":"no"}}')
            case "own key":
                return replied(401, b'{"error":{"message":"whose key?"}}')
            case "busy":
                return replied(429, b'{"error":"slow"}', retry_after="9")
            case "elsewhere":
                return replied(307, location="http://evil.test")
            case _:
                raise httpx.ConnectError("gone")

    def ask(self, method: str, path: str, key: str, **more: Any) -> httpx.Response | None:
        """One request; None where the answer was cut, which only bytes that pass through can be."""
        headers = more.pop("headers", {}) | ({"authorization": f"Bearer {key}"} if key else {})
        encoded = {name: value.encode("utf-8") for name, value in headers.items()}
        try:
            return self.loop.run_until_complete(
                self.http.request(method, path, headers=encoded, **more)
            )
        except AssertionError:  # how the transport says so
            assert self.mood == "cut"
            assert "chat" in path
            return None

    @rule(mood=st.sampled_from(MOODS))
    def the_upstream_changes_its_mood(self, mood: str) -> None:
        self.mood = mood

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.wait_s = max(0.0, self.wait_s - seconds)

    @rule(
        method=st.sampled_from(METHODS),
        path=st.sampled_from(PATHS),
        key=st.sampled_from(["", FREE, FREE[:-1], "é"]),
        body=BODIES,
        headers=HEADERS,
    )
    def anything_is_asked(
        self, method: str, path: str, key: str, body: bytes, headers: dict[str, str]
    ) -> None:
        """Answered by a status that exists, and an error by the whole envelope."""
        answer = self.ask(method, path, key, content=body, headers=headers)
        if answer is None:
            return
        assert answer.headers["x-request-id"]
        assert answer.status_code != 500 or self.mood in ("html", "garbage"), answer.text
        if answer.status_code >= 400 and "chat" not in path and method != "HEAD":
            error = answer.json()["error"]
            assert error.keys() == {"message", "type", "param", "code"}
        open_paths = ("/healthz", "/openapi.json")
        if key != FREE and path not in open_paths:
            assert answer.status_code in (401, 403)

    @rule(stream=st.booleans(), path=st.sampled_from(PATHS[:4]))
    def a_limited_client_asks(self, stream: bool, path: str) -> None:
        """It is let in, or told when to come back, and then it is let in."""
        answer = self.ask("POST", path, LIMITED, json=WELL | {"stream": stream})
        ours = answer is not None and "x-ratelimit-limit-requests" in answer.headers
        refused = (
            answer is not None
            and answer.status_code == 429
            and "requests per minute" in answer.text
        )
        assert answer is None or ours
        if refused:
            assert answer is not None
            self.wait_s = float(answer.headers["retry-after"])
            assert 0 < self.wait_s <= 60
        else:
            self.admitted.append(self.now)

    @precondition(lambda self: self.wait_s > 0)
    @rule()
    def it_comes_back_when_it_was_told(self) -> None:
        self.now += self.wait_s
        self.wait_s = 0
        answer = self.ask("POST", "/v1/responses", LIMITED, json=WELL)
        assert answer is not None
        assert "requests per minute" not in answer.text
        self.admitted.append(self.now)

    @invariant()
    def no_minute_holds_more_than_two_allowances(self) -> None:
        """A full one at its beginning, and what fills up until its end."""
        for moment in self.admitted:
            within = [one for one in self.admitted if moment <= one < moment + 60]
            assert len(within) < 2 * PER_MINUTE + 1

    @invariant()
    def no_key_of_a_client_has_gone_upstream(self) -> None:
        for headers in self.upstream_headers:
            assert "authorization" not in headers
        self.upstream_headers.clear()

    @rule()
    def it_still_works(self) -> None:
        self.mood = "well"
        answer = self.ask("POST", "/v1/responses", FREE, json=WELL)
        assert answer is not None
        assert answer.json()["status"] == "completed"


Service.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestService = Service.TestCase
