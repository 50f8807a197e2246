"""Base of the scripted upstreams: a server, and a model that follows instructions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

JSON = dict[str, Any]

THOUGHT = "Let me work this out step by step."
NUMBERS = "\n".join(f"number {n}" for n in range(1, 61))
CHARACTERS_PER_TOKEN = 4


class Refusal(Exception):
    """An error response of a scripted upstream."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def openai_error(status: int, message: str, **more: Any) -> Refusal:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Refusal(status, {"error": error | more})


def answer(
    status: int, body: Any, kind: str = "application/json", **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": kind, **headers}
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


@dataclass
class ModelOutput:
    """The output of the model for one request."""

    reasoning: str = ""
    text: str = ""
    calls: list[str] = field(default_factory=list)
    finish: str = "stop"


class Upstream:
    """A tolerant server: accepts every field, and reads those that its attributes list.

    As a function it answers a request of httpx, so it can be a `MockTransport`.
    """

    model = "some-model"
    owner: str | None = None
    server: str | None = None
    """The header `server` of its answers."""
    path = "/v1"

    always_thinks = True
    reasoning_key = "reasoning_content"
    reads_reasoning: frozenset[str] = frozenset({"reasoning_content"})
    reads_developer = True
    reads_limits: frozenset[str] = frozenset({"max_tokens", "max_completion_tokens"})
    reads_choice = True
    reads_parallel = True
    reads_formats: frozenset[str] = frozenset({"json_object", "json_schema"})
    usage_unasked = False
    grammar_rules = False
    """A schema is a grammar over the whole answer: the model cannot write calls."""
    sees = True

    def __init__(self) -> None:
        self.bodies: list[JSON] = []
        self.authorizations: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        response = self.respond(request)
        if self.server is not None:
            response.headers["server"] = self.server
        return response

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.authorizations.append(request.headers.get("authorization"))
        if request.url.path == f"{self.path}/models":
            return self.list_models()
        assert request.url.path == f"{self.path}/chat/completions", request.url.path
        body = json.loads(request.content)
        self.bodies.append(body)
        try:
            self.check(body)
        except Refusal as refusal:
            return answer(refusal.status, refusal.body)
        output = self.say(body)
        if not body.get("stream"):
            return answer(200, self.completion(body, output))
        stream = b"".join(
            b"data: "
            + (chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
            + b"\n\n"
            for chunk in self.chunks(body, output)
        )
        return answer(200, stream, "text/event-stream")

    def list_models(self) -> httpx.Response:
        if self.owner is None:
            return answer(404, {"error": {"message": "Not Found"}})
        listed = {"id": self.model, "object": "model", "owned_by": self.owner}
        return answer(200, {"object": "list", "data": [listed]})

    # --- rejections ----------------------------------------------------------------------

    def check(self, body: JSON) -> None:
        """Raises Refusal."""
        if body["model"] != self.model:
            raise openai_error(404, f"The model `{body['model']}` does not exist.")

    # --- the model ------------------------------------------------------------------

    def thinks(self, body: JSON) -> bool:
        return self.always_thinks

    def say(self, body: JSON) -> ModelOutput:
        output = self.obey(body)
        if self.thinks(body):
            output.reasoning = THOUGHT
        limits = [body[name] for name in self.reads_limits if name in body]
        if limits:
            most = min(limits) * CHARACTERS_PER_TOKEN
            if len(output.reasoning + output.text) > most:
                output.text = output.text[: max(0, most - len(output.reasoning))]
                output.reasoning = output.reasoning[:most]
                output.finish = "length"
        return output

    def obey(self, body: JSON) -> ModelOutput:
        messages = body["messages"]
        asked = messages[-1]["content"]
        if isinstance(asked, list):
            return ModelOutput(text="Red" if self.sees else "I see no picture.")
        choice = body.get("tool_choice", "auto") if self.reads_choice else "auto"
        kind = body.get("response_format", {}).get("type")
        grammar = self.grammar_rules and kind is not None
        if body.get("tools") and choice != "none" and not grammar:
            if "Look both up" in asked:
                one = self.reads_parallel and body.get("parallel_tool_calls") is False
                return ModelOutput(
                    calls=["Paris"] if one else ["Paris", "Oslo"], finish="tool_calls"
                )
            if choice not in ("auto", "translator_probe"):
                return ModelOutput(calls=["London"], finish="tool_calls")
        if kind in self.reads_formats:
            properties: JSON = {"greeting": {"type": "string"}}
            if kind == "json_schema":
                properties = body["response_format"]["json_schema"]["schema"]["properties"]
            types = {"string": "Paris", "integer": 3}
            return ModelOutput(
                text=json.dumps({n: types[p["type"]] for n, p in properties.items()})
            )
        roles = ("system", "developer") if self.reads_developer else ("system",)
        for message in messages:
            if message["role"] in roles and "single word" in message["content"]:
                return ModelOutput(text="Pineapple")
        if "17 times 23" in asked:
            return ModelOutput(text="391")
        if "Count from 1" in asked:
            return ModelOutput(text=NUMBERS)
        if "capital of France" in asked:
            return ModelOutput(text="The capital of France is Paris.")
        return ModelOutput(text="No." if "yes or no" in asked else "Hello!")

    def prompt_tokens(self, body: JSON) -> int:
        size = 0
        for message in body["messages"]:
            read = {"content", "tool_calls", *self.reads_reasoning}
            size += len(json.dumps({k: v for k, v in message.items() if k in read}))
        return size // CHARACTERS_PER_TOKEN

    # --- responses ------------------------------------------------------------------------

    def usage(self, body: JSON, output: ModelOutput) -> JSON:
        prompt = self.prompt_tokens(body)
        written = len(output.reasoning + output.text) // CHARACTERS_PER_TOKEN + 20 * len(
            output.calls
        )
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }

    def calls(self, output: ModelOutput) -> list[JSON]:
        return [
            {
                "index": index,
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
            }
            for index, city in enumerate(output.calls)
        ]

    def completion(self, body: JSON, output: ModelOutput) -> JSON:
        message: JSON = {"role": "assistant", "content": output.text or None}
        if output.reasoning:
            message[self.reasoning_key] = output.reasoning
        if output.calls:
            message["tool_calls"] = self.calls(output)
        choice = {"index": 0, "message": message, "finish_reason": output.finish}
        return self.envelope([choice]) | {"usage": self.usage(body, output)}

    def envelope(self, choices: list[JSON]) -> JSON:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.model,
            "choices": choices,
        }

    def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
        return self.envelope([{"index": 0, "delta": delta, "finish_reason": finish}])

    def deltas(self, output: ModelOutput) -> Iterator[JSON]:
        yield {"role": "assistant", "content": ""}
        for text in slices(output.reasoning):
            yield {self.reasoning_key: text}
        for text in slices(output.text):
            yield {"content": text}
        for call in self.calls(output):
            yield {"tool_calls": [call]}

    def chunks(self, body: JSON, output: ModelOutput) -> Iterator[JSON | bytes]:
        for delta in self.deltas(output):
            yield self.chunk(delta)
        last = self.chunk({}, output.finish)
        asked = body.get("stream_options", {}).get("include_usage")
        if self.usage_unasked:
            last["usage"] = self.usage(body, output)
        yield last
        if asked and not self.usage_unasked:
            yield self.envelope([]) | {"usage": self.usage(body, output)}
        yield b"[DONE]"


def slices(text: str) -> Iterator[str]:
    for start in range(0, len(text), 8):
        yield text[start : start + 8]


def asked(body: JSON, role: str) -> list[int]:
    """The indexes of the messages of a role."""
    return [at for at, message in enumerate(body["messages"]) if message["role"] == role]


def has_image(body: JSON) -> bool:
    return any(isinstance(message.get("content"), list) for message in body["messages"])


def with_thought(usage: JSON, tokens: int) -> JSON:
    """Usage that counts hidden reasoning."""
    more = {name: usage[name] + tokens for name in ("completion_tokens", "total_tokens")}
    return usage | more | {"completion_tokens_details": {"reasoning_tokens": tokens}}
