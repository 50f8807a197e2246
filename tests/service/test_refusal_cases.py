"""Refusals of real upstreams, each in a folder: what is sent, what is refused, what is right.

    refusals/<case>/request.json     what the client sends
                   /upstream.json    { "attempts": [ { status, headers, body }, … ] }
                   /case.toml        what is right

The attempts are answered one after the other, the last one again and again. An answer with
`while_has` (`while_lacks`) is that of a strict upstream: it is given as long as the pattern is found
(is not found) in the chat request, written as JSON without blanks, before all others. Where all
are of that sort, any other request gets a short answer.

    stream = false          true, where it is not given
    dialect = "vllm"        settings = { retries = 0 }       of the service; "base", none
    attempts = 2            of the first request, or fewer, `at_least` so many; `later` of a second
                            one, the same: 1
    status = 200            code, type, says: of an error
    notices = ["reasoning.effort refused_upstream"]      all; or one of the path `loses`
    [sent]                  of the accepted chat request: the value at a path
    "reasoning_effort" = "xhigh"
    "messages.1.reasoning_content" = false       it is not there
    model = "m"             where the dialect knows by now what the file's model wants
    conversation = "thought"                     of a request without a file: CONVERSATIONS
    [request]                                    and its other fields
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from translator.service.observe.observer import AttemptWritten, ObservedEvent
from translator.service.observe.record import Record

from .chat_bodies import COMPLETION, HELLO
from .responses_api import PATH, events
from .wire import Call, ScriptedUpstream, client_of, make_settings

pytestmark = pytest.mark.anyio

CASES = Path(__file__).parent / "refusals"


LS: dict[str, Any] = {
    "type": "function",
    "name": "ls",
    "parameters": {"type": "object", "properties": {}},
}
CALL: list[dict[str, Any]] = [
    {"role": "user", "content": "What is here?"},
    {"type": "function_call", "call_id": "call_abc", "name": "ls", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_abc", "output": "README.md"},
    {"role": "user", "content": "Go on."},
]
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look."}]}
CONVERSATIONS: dict[str, Any] = {
    "short": "Hi",
    "call": CALL,
    "thought": [CALL[0], THOUGHT, *CALL[1:]],
    "two users": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Go on."}],
    "system later": [CALL[0], {"role": "developer", "content": "Be brief."}],
    "developer": [{"role": "developer", "content": "Say hello."}],
    "two calls": [
        CALL[0],
        *({**CALL[1], "call_id": one} for one in ("c1", "c2")),
        *({**CALL[2], "call_id": one} for one in ("c1", "c2")),
    ],
}


def request_of(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """The request of a case: its file, or what `conversation` and `[request]` say."""
    if (folder / "request.json").exists():
        request: dict[str, Any] = json.loads((folder / "request.json").read_text())
        return request
    spoken = case.get("conversation", "short")
    tools = [] if spoken == "short" else [LS]
    return {"model": "m", "input": CONVERSATIONS[spoken], "tools": tools, **case.get("request", {})}


def is_given(answer: dict[str, Any], sent: str) -> bool:
    """Whether a strict upstream gives an answer to a chat request."""
    if "while_has" in answer:
        return re.search(answer["while_has"], sent) is not None
    return "while_lacks" in answer and re.search(answer["while_lacks"], sent) is None


class Upstream:
    """A script that gives the answers of a case."""

    def __init__(self, attempts: list[dict[str, Any]]) -> None:
        self._strict = [one for one in attempts if one.keys() & {"while_has", "while_lacks"}]
        self._plain = [one for one in attempts if one not in self._strict]

    async def __call__(self, call: Call) -> None:
        sent = json.dumps(call.json, separators=(",", ":"), ensure_ascii=False)
        answer = next((one for one in self._strict if is_given(one, sent)), None)
        if answer is None and self._plain:
            answer = self._plain[0]
            self._plain = self._plain[1:] or self._plain
        if answer is not None and answer["status"] != 200:
            headers = {name.lower(): value for name, value in answer["headers"].items()}
            body, kind = answer["body"].encode(), headers.pop("content-type", "application/json")
            await call.answer(body, answer["status"], kind, headers)
        elif answer is not None and answer["body"]:
            await call.answer(answer["body"].encode(), 200, answer["headers"]["content-type"])
        elif call.json.get("stream"):
            await call.answer(b"".join(HELLO), 200, "text/event-stream")
        else:
            await call.answer(COMPLETION)


class Notices:
    """The notices of the latest attempt."""

    wants: frozenset[type[ObservedEvent]] = frozenset({AttemptWritten})

    def __init__(self) -> None:
        self.latest: list[str] = []

    def __call__(self, record: Record) -> Notices:
        return self

    def on(self, event: ObservedEvent) -> None:
        assert isinstance(event, AttemptWritten)
        self.latest = sorted(f"{one.path} {one.code}" for one in event.notices)


def at(path: str, value: Any) -> Any:
    """The value at a path of names and indexes; False where there is none."""
    for step in path.split("."):
        key = int(step) if step.isdigit() else step
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return False
    return value


def check_notices(found: list[str], case: dict[str, Any]) -> None:
    if "loses" in case:
        assert [one for one in found if one.startswith(case["loses"])]
    else:
        assert found == case.get("notices", [])


@pytest.mark.parametrize("name", sorted(one.name for one in CASES.iterdir()))
async def test_refusals(upstream: ScriptedUpstream, name: str) -> None:
    case: dict[str, Any] = tomllib.loads((CASES / name / "case.toml").read_text())
    stream = case.get("stream", True)
    request = request_of(CASES / name, case) | {"stream": stream}
    request["model"] = case.get("model", request["model"])
    attempts = json.loads((CASES / name / "upstream.json").read_text())["attempts"]
    upstream.script = Upstream(attempts)
    notices = Notices()
    section = {"dialect": case.get("dialect", "base")}
    settings = make_settings(upstream.url, upstream=section, **case.get("settings", {}))
    async with client_of(settings, observe=notices) as client:
        answer = await client.post(PATH, json=request)
        assert answer.status_code == case.get("status", 200), answer.text
        first = len(upstream.calls)
        assert case.get("at_least", case["attempts"]) <= first <= case["attempts"]
        if answer.status_code == 200:
            last = events(answer.content)[-1]["response"] if stream else answer.json()
            assert last["status"] == "completed"
            check_notices(notices.latest, case)
            for path, value in case.get("sent", {}).items():
                assert at(path, upstream.calls[-1].json) == value, path
        else:
            error = answer.json()["error"]
            assert error["code"] == case.get("code")
            assert error["type"] == case.get("type", "invalid_request_error")
            assert case.get("says", "") in error["message"]
        upstream.calls.clear()
        again = await client.post(PATH, json=request)
        assert again.status_code == answer.status_code
        assert len(upstream.calls) == min(case.get("later", 1), first)
        if again.status_code == 200:
            check_notices(notices.latest, case)
