"""Clouds and routers, which host the models of others."""

from __future__ import annotations

from collections.abc import Iterator

from tests.probe.scripted import (
    JSON,
    ModelOutput,
    Refusal,
    Upstream,
    asked,
    has_image,
)


class Fireworks(Upstream):
    """Rejects unknown fields; its model stops thinking with effort `none`."""

    model = "accounts/fireworks/models/kimi-k2p6"
    path = "/inference/v1"
    usage_unasked = True
    grammar_rules = True
    knows = frozenset(
        "model messages stream stream_options max_tokens max_completion_tokens temperature top_p"
        " presence_penalty frequency_penalty logprobs top_logprobs user prompt_cache_key n stop"
        " tools tool_choice parallel_tool_calls response_format reasoning_effort thinking"
        " reasoning_history seed logit_bias metadata top_k min_p".split()
    )
    knows_of_messages = frozenset(
        "role content name tool_calls tool_call_id reasoning_content".split()
    )
    knows_of_calls = frozenset("id type function index".split())

    def check(self, body: JSON) -> None:
        super().check(body)
        unknown = [name for name in body if name not in self.knows]
        for at, message in enumerate(body["messages"]):
            path = f"messages[{at}]"
            unknown += [f"{path}.{key}" for key in message if key not in self.knows_of_messages]
            for n, call in enumerate(message.get("tool_calls", [])):
                keys = [key for key in call if key not in self.knows_of_calls]
                unknown += [f"{path}.tool_calls[{n}].{key}" for key in keys]
        if unknown:
            texts = [f"Extra inputs are not permitted, field: '{name}'" for name in unknown]
            text = "; ".join(texts)
            if len(texts) > 1:
                text = f"{len(texts)} request validation errors: {text}"
            raise self.invalid(text)
        if asked(body, "developer"):
            raise Refusal(
                422,
                {
                    "message": "openai_error",
                    "type": "bad_response_status_code",
                    "param": "",
                    "code": "bad_response_status_code",
                },
            )
        if "thinking" in body and "reasoning_effort" in body:
            raise self.invalid("thinking and reasoning_effort cannot both be given")

    def invalid(self, text: str) -> Refusal:
        kind = "invalid_request_error"
        error = {"object": "error", "type": kind, "code": kind, "message": text}
        return Refusal(400, {"error": error})

    def thinks(self, body: JSON) -> bool:
        off = body.get("thinking", {}).get("type") == "disabled"
        return not off and body.get("reasoning_effort") != "none"

    def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
        return super().chunk(delta, finish) | {"usage": None}


class FireworksQwen(Fireworks):
    """A model of Fireworks whose template wants one system message, at the beginning."""

    model = "accounts/fireworks/models/qwen3p6-plus"

    def check(self, body: JSON) -> None:
        super().check(body)
        if any(at > 0 for at in asked(body, "system")):
            raise self.invalid("System message must be at the beginning.")


class FireworksGptOss(Fireworks):
    """A model of Fireworks that always thinks, and has no vision."""

    model = "accounts/fireworks/models/gpt-oss-120b"
    sees = False

    def check(self, body: JSON) -> None:
        super().check(body)
        if body.get("reasoning_effort") == "none" or "thinking" in body:
            raise self.invalid("Invalid reasoning effort: none")
        if has_image(body):
            raise self.invalid("This model does not support image inputs")

    def thinks(self, body: JSON) -> bool:
        return True


class OpenRouter(Upstream):
    """Accepts everything; sends reasoning in two forms, always usage, and comments."""

    model = "z-ai/glm-5.1"
    path = "/api/v1"
    usage_unasked = True
    reasoning_key = "reasoning"
    reads_reasoning = frozenset({"reasoning", "reasoning_details"})

    def thinks(self, body: JSON) -> bool:
        reasoning = body.get("reasoning", {})
        off = reasoning.get("enabled") is False or reasoning.get("effort") == "none"
        return not off and body.get("reasoning_effort") != "none"

    def deltas(self, output: ModelOutput) -> Iterator[JSON]:
        for delta in super().deltas(output):
            if "reasoning" in delta:
                part = {"type": "reasoning.text", "text": delta["reasoning"], "index": 0}
                delta |= {"reasoning_details": [part]}
            yield {"role": "assistant", "content": "", **delta}

    def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
        chunk = super().chunk(delta, finish) | {"provider": "Novita"}
        chunk["choices"][0]["native_finish_reason"] = finish
        return chunk

    def chunks(self, body: JSON, output: ModelOutput) -> Iterator[JSON | bytes]:
        for chunk in super().chunks(body, output):
            yield chunk
            if isinstance(chunk, dict) and chunk.get("usage"):
                chunk["choices"][0]["delta"] = {"role": "assistant", "content": ""}
