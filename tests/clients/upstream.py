"""A chat-only upstream that reads a script and forgives nothing.

It plays `Turn`s in order, one per accepted request, as a stream or as one JSON object, in the
dialect that it speaks; and it refuses with 400 whatever some real upstream refuses: a tool that is
not a function, a role of another API, a key that Chat Completions does not know, a call without its
result, a result without its call, and reasoning that does not come back as this dialect wants it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .spoken import SPOKEN, Spoken, refusal

__all__ = ["SLOW", "Call", "ScriptedUpstream", "Step", "Trouble", "Turn", "Usage", "refusal"]


@dataclass(frozen=True)
class Call:
    """One function call that the scripted model makes.

    Arguments that are a string are sent as they are, whether JSON or not.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] | str

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True)
class Usage:
    """Tokens of one turn. Those read from a cache are part of the prompt."""

    prompt: int = 120
    completion: int = 30
    cached: int = 0


@dataclass(frozen=True)
class Turn:
    """What the scripted model says once, in the order reasoning, text, calls."""

    text: str = ""
    reasoning: str = ""
    calls: Sequence[Call] = ()
    cut: bool = False  # the connection closes before the finish reason
    finish: str | None = None  # the finish reason, where it is neither "stop" nor "tool_calls"
    pause_s: float = 0  # silence after the status line, before the first chunk
    gap_s: float = 0  # silence between two chunks
    usage: Usage | None = field(default_factory=Usage)  # None: it says nothing of it

    @property
    def finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.calls else "stop")


@dataclass(frozen=True)
class Trouble:
    """A request that the upstream answers with an error, although nothing is wrong with it."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None


SLOW = Turn(reasoning="Hm.", text="Paris is sunny.", pause_s=0.35, gap_s=0.15)
"""A model that takes its time."""

Step = Turn | Trouble | Callable[[dict[str, Any]], Turn | Trouble]
"""One step of a script. A function chooses by the request, where two clients ask at once."""


class ScriptedUpstream:
    """The server, on a free port of 127.0.0.1, as long as the `with` block lasts.

    `speaks` is one of the dialects in `spoken`. One server can serve many tests: `play` gives it
    a new script and forgets what it saw.
    """

    def __init__(self, *script: Step, speaks: str = "fireworks") -> None:
        self.spoken = SPOKEN[speaks]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.play(*script)

        upstream = self

        class Handler(_Handler):
            owner = upstream

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing the server waits for answers
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def play(self, *script: Step) -> None:
        """Go on with another script, as if nothing had happened before."""
        with self._lock:
            self._script = list(script)
            self._given: dict[str, str] = {}  # call id -> the reasoning of its turn
            self.requests: list[dict[str, Any]] = []  # bodies, the refused ones too
            self.keys: list[str | None] = []  # the Authorization header of each request
            self.refusals: list[str] = []
            self.departures = 0  # clients that left in mid-answer

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
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: dict[str, Any], key: str | None) -> Turn | Trouble:
        """The next step of the script, or the reason why this request does not get it."""
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            reason = refusal(body, self._given, self.spoken)
            if reason is None and not self._script:
                reason = "the script is over"
            if reason is not None:
                self.refusals.append(reason)
                return Trouble(400, reason)
            step = self._script.pop(0)
            if not isinstance(step, Turn | Trouble):
                step = step(body)
            if isinstance(step, Turn) and step.reasoning and not step.cut:
                self._given.update({call.id: step.reasoning for call in step.calls})
            return step

    def rest(self, seconds: float) -> None:
        """Silence, shorter when the server is closed."""
        if seconds:
            self._closing.wait(seconds)

    def departed(self) -> None:
        with self._lock:
            self.departures += 1


def chunks(turn: Turn, spoken: Spoken, *, usage: bool) -> Iterator[dict[str, Any]]:
    """A turn in small pieces, in the order of real reasoning models."""
    yield _chunk(spoken.first)
    text = turn.text
    if spoken.reasoning is None:
        text = _tagged(turn)
    else:
        for piece in _pieces(turn.reasoning, 9):
            yield _chunk({**spoken.beside_reasoning, spoken.reasoning: piece})
    for piece in _pieces(text, 7):
        yield _chunk({**spoken.beside_text, "content": piece})
    for index, call in enumerate(turn.calls):
        head = {"index": index, "id": call.id, "type": "function"}
        yield _chunk({"tool_calls": [head | {"function": {"name": call.name, "arguments": ""}}]})
        for piece in _pieces(call.text, 5):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if turn.cut:
        return
    finish = _chunk(spoken.finish, turn.finish_reason)
    counts = _usage(turn.usage, spoken) if turn.usage else None
    if counts and spoken.usage == "on the finish":
        yield finish | {"usage": counts}
    else:
        yield finish
        if counts and usage:
            yield _chunk({}) | {"choices": [], "usage": counts}


def completion(turn: Turn, spoken: Spoken) -> dict[str, Any]:
    """A turn as one JSON object."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if spoken.reasoning is None:
        message["content"] = _tagged(turn)
    elif turn.reasoning:
        message[spoken.reasoning] = turn.reasoning
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.text},
            }
            for call in turn.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": turn.finish_reason}
    whole = _HEAD | {"object": "chat.completion", "choices": [choice]}
    return whole | ({"usage": _usage(turn.usage, spoken)} if turn.usage else {})


def error(trouble: Trouble, spoken: Spoken) -> dict[str, Any]:
    """The body of an error, in the shape that the dialect has for it."""
    kind = "invalid_request_error" if trouble.status < 500 else "server_error"
    if spoken.envelope == "text":
        return {"error": trouble.message}
    if spoken.envelope == "error with object":
        code = trouble.code or kind
        shown = {"object": "error", "type": kind, "code": code, "message": trouble.message}
        return {"error": shown}
    shown = {"message": trouble.message, "type": kind, "param": None, "code": trouble.code}
    return {"error": shown}


_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}


def _chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return _HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _tagged(turn: Turn) -> str:
    return f"<think>{turn.reasoning}</think>\n\n{turn.text}" if turn.reasoning else turn.text


def _usage(usage: Usage, spoken: Spoken) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    if spoken.cached == "hit and miss":
        counts["prompt_cache_hit_tokens"] = usage.cached
        counts["prompt_cache_miss_tokens"] = usage.prompt - usage.cached
    elif usage.cached:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    return counts


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


class _Handler(BaseHTTPRequestHandler):
    owner: ScriptedUpstream
    timeout = 30  # seconds that a client may be silent

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self._json(404, error(Trouble(404, f"there is no {self.path}"), self.owner.spoken))
            return
        model = {"id": self.owner.spoken.model, "object": "model", "created": 1, "owned_by": "me"}
        self._json(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        step: Turn | Trouble = Trouble(404, f"there is no {self.path}")
        if self.path == "/v1/chat/completions":
            step = self.owner.answer(body, self.headers["authorization"])
        try:
            if isinstance(step, Trouble):
                self._json(step.status, error(step, self.owner.spoken), step.headers)
            elif body.get("stream"):
                options = body.get("stream_options") or {}
                self._stream(step, usage=bool(options.get("include_usage")))
            else:
                self.owner.rest(step.pause_s)
                self._json(200, completion(step, self.owner.spoken), cut=step.cut)
        except ConnectionError:
            self.owner.departed()

    def _stream(self, turn: Turn, *, usage: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.owner.rest(turn.pause_s)
        for chunk in chunks(turn, self.owner.spoken, usage=usage):
            self.wfile.write(b"data: %s\n\n" % json.dumps(chunk).encode())
            self.wfile.flush()
            self.owner.rest(turn.gap_s)
        if not turn.cut:
            self.wfile.write(b"data: [DONE]\n\n")

    def _json(
        self,
        status: int,
        value: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *arguments: object) -> None:
        """Tests print what they need themselves."""
