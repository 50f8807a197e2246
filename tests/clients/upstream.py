"""A chat-only upstream that reads a script and forgives nothing.

It plays `Turn`s in order, one per accepted request, and refuses with 400 whatever some real
upstream refuses: a tool that is not a function, a role of another API, a key that Chat Completions
does not know, a call without its result, a result without its call, and an assistant turn with
calls that comes back without the reasoning it was given.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
REQUEST_KEYS = frozenset(
    "model messages tools tool_choice parallel_tool_calls stream stream_options response_format"
    " max_tokens max_completion_tokens temperature top_p presence_penalty frequency_penalty seed"
    " stop n logit_bias logprobs top_logprobs reasoning_effort user prompt_cache_key".split()
)
MESSAGE_KEYS = {  # by role
    "system": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls", "reasoning_content"},
    "tool": {"role", "content", "tool_call_id"},
}


@dataclass(frozen=True)
class Call:
    """One function call that the scripted model makes."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the scripted model says once."""

    text: str = ""
    reasoning: str = ""
    calls: Sequence[Call] = ()
    cut: bool = False  # the connection closes before the finish reason


@dataclass(frozen=True)
class Trouble:
    """A request that the upstream answers with an error, although nothing is wrong with it."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


class ScriptedUpstream:
    """The server, on a free port of 127.0.0.1, as long as the `with` block lasts."""

    def __init__(self, *script: Turn | Trouble) -> None:
        self._script = list(script)
        self._given: dict[str, str] = {}  # call id -> the reasoning of its turn
        self._lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []  # bodies, the refused ones too
        self.keys: list[str | None] = []  # the Authorization header of each request
        self.refusals: list[str] = []

        upstream = self

        class Handler(_Handler):
            owner = upstream

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing the server waits for answers
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def left(self) -> int:
        """How many turns have not been played."""
        return len(self._script)

    def __enter__(self) -> ScriptedUpstream:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: dict[str, Any], key: str | None) -> Turn | Trouble:
        """The next step of the script, or the reason why this request does not get it."""
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            reason = refusal(body, self._given)
            if reason is None and not self._script:
                reason = "the script is over"
            if reason is not None:
                self.refusals.append(reason)
                return Trouble(400, reason)
            step = self._script.pop(0)
            if isinstance(step, Turn) and step.reasoning and not step.cut:
                self._given.update({call.id: step.reasoning for call in step.calls})
            return step


def refusal(body: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
    """Why a strict upstream refuses this request, or None.

    `given` is the reasoning that each call id was made with.
    """
    return next(itertools.chain(_request_faults(body), _message_faults(body, given)), None)


def _request_faults(body: Mapping[str, Any]) -> Iterator[str]:
    for key in body.keys() - REQUEST_KEYS:
        yield f"{key}: Extra inputs are not permitted"
    if body.get("stream") is not True:
        yield "stream: this upstream only streams"
    names: list[str] = []
    for index, tool in enumerate(body.get("tools", [])):
        if tool.get("type") != "function":
            yield f"tools[{index}].type: 'type' of tool must be 'function'"
        elif tool.keys() != {"type", "function"}:
            yield f"tools[{index}]: expected the keys type and function"
        elif not TOOL_NAME.fullmatch(tool["function"].get("name", "")):
            yield f"tools[{index}].function.name: is not a name"
        else:
            names.append(tool["function"]["name"])
    if len(names) != len(set(names)):
        yield "tools: a name comes twice"
    if not body.get("messages"):
        yield "messages: is empty"


def _message_faults(body: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    unanswered: list[str] = []
    for index, message in enumerate(body.get("messages", [])):
        at, role = f"messages[{index}]", message.get("role")
        if role not in MESSAGE_KEYS:
            yield f"{at}.role: {role} is not one of {', '.join(MESSAGE_KEYS)}"
            continue
        for key in message.keys() - MESSAGE_KEYS[role]:
            yield f"{at}.{key}: Extra inputs are not permitted"
        if role == "tool":
            if message.get("tool_call_id") not in unanswered:
                yield f"{at}: a tool message must follow the call that it answers"
            else:
                unanswered.remove(message["tool_call_id"])
        elif unanswered:
            yield f"{at}: insufficient tool messages following tool_calls: {unanswered}"
        if role == "assistant" and message.get("tool_calls"):
            unanswered = [call["id"] for call in message["tool_calls"]]
            yield from _call_faults(message, at, given)
        elif not isinstance(message.get("content"), str | list):
            yield f"{at}.content: is missing"
    if unanswered:
        yield f"messages: insufficient tool messages following tool_calls: {unanswered}"


def _call_faults(message: Mapping[str, Any], at: str, given: Mapping[str, str]) -> Iterator[str]:
    for call in message["tool_calls"]:
        if call.get("type") != "function":
            yield f"{at}.tool_calls: 'type' must be 'function'"
        try:
            is_object = isinstance(json.loads(call["function"]["arguments"]), dict)
        except ValueError:
            is_object = False
        if not is_object:
            yield f"{at}.tool_calls: the arguments of {call['id']} are not a JSON object"
        reasoning = given.get(call["id"])
        if reasoning is not None and message.get("reasoning_content") != reasoning:
            yield f"{at}.reasoning_content: must be passed back as it was given"


def chunks(turn: Turn, *, usage: bool) -> Iterator[dict[str, Any]]:
    """A turn in small pieces, in the order of real reasoning models."""
    yield _chunk({"role": "assistant", "content": ""})
    for piece in _pieces(turn.reasoning, 9):
        yield _chunk({"reasoning_content": piece})
    for piece in _pieces(turn.text, 7):
        yield _chunk({"content": piece})
    for index, call in enumerate(turn.calls):
        head = {"index": index, "id": call.id, "type": "function"}
        yield _chunk({"tool_calls": [head | {"function": {"name": call.name, "arguments": ""}}]})
        for piece in _pieces(json.dumps(call.arguments), 5):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if turn.cut:
        return
    yield _chunk({}, finish_reason="tool_calls" if turn.calls else "stop")
    if usage:
        counts = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}
        yield _chunk({}) | {"choices": [], "usage": counts}


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
    }
    return head | {"choices": [choice]}


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


class _Handler(BaseHTTPRequestHandler):
    owner: ScriptedUpstream
    timeout = 30  # seconds that a client may be silent

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._error(Trouble(404, f"there is no {self.path}"))
            return
        step = self.owner.answer(body, self.headers["authorization"])
        if isinstance(step, Trouble):
            self._error(step)
        else:
            self._stream(step, usage=bool(body.get("stream_options", {}).get("include_usage")))

    def _stream(self, turn: Turn, *, usage: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for chunk in chunks(turn, usage=usage):
            self.wfile.write(b"data: %s\n\n" % json.dumps(chunk).encode())
            self.wfile.flush()
        if not turn.cut:
            self.wfile.write(b"data: [DONE]\n\n")

    def _error(self, trouble: Trouble) -> None:
        kind = "invalid_request_error" if trouble.status < 500 else "server_error"
        error = {"message": trouble.message, "type": kind, "param": None, "code": None}
        content = json.dumps({"error": error}).encode()
        self.send_response(trouble.status)
        for name, value in trouble.headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Tests print what they need themselves."""
