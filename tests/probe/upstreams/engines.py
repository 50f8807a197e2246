"""Engines as they were recorded, with a tiny model that calls once and writes Hermes calls."""

from __future__ import annotations

from collections.abc import Iterator

from tests.probe.scripted import (
    JSON,
    ModelOutput,
    Refusal,
    Upstream,
    has_image,
    openai_error,
    slices,
)

from .servers import Vllm


def written_calls(output: ModelOutput) -> str:
    """Calls as the model writes them, where the engine does not parse them."""
    return "\n".join(
        f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
        for city in output.calls
    )


class Vllm032(Vllm):
    """vLLM 0.32.0: a schema is a grammar, and with `none` a call is in the text."""

    model = "tiny-qwen3"
    grammar_rules = True

    def obey(self, body: JSON) -> ModelOutput:
        if body.get("tool_choice") == "none":
            output = super().obey({**body, "tool_choice": "auto"})
            return ModelOutput(text=written_calls(output) or output.text)
        output = super().obey(body)
        return ModelOutput(output.reasoning, output.text, output.calls[:1], output.finish)

    def check(self, body: JSON) -> None:
        super().check(body)
        if body["model"] != self.model:
            raise openai_error(404, f"The model `{body['model']}` does not exist.")

    def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
        chunk = Upstream.chunk(self, delta, finish)
        chunk["choices"][0] |= {"stop_reason": None, "token_ids": None}
        return chunk | {"system_fingerprint": "vllm-0.32.0-f967b354"}


class LlamaCppServer(Upstream):
    """llama.cpp b11549: the template switches thinking, a schema is a grammar."""

    model = "tiny-qwen3"
    owner = "llamacpp"
    server = "llama.cpp"
    reads_developer = False
    sees = False
    grammar_rules = True

    def check(self, body: JSON) -> None:
        if has_image(body):
            message = "image input is not supported - hint: you may need to provide the mmproj"
            raise Refusal(500, {"error": {"code": 500, "message": message, "type": "server_error"}})

    def thinks(self, body: JSON) -> bool:
        off = body.get("chat_template_kwargs", {}).get("enable_thinking") is False
        return not off and body.get("reasoning_effort") != "none"

    def envelope(self, choices: list[JSON]) -> JSON:
        return super().envelope(choices) | {"system_fingerprint": "b11549-0a1b2c3"}


class TransformersServe(Upstream):
    """transformers serve 5.19.0: strict about names of fields, and reads few of them.

    Reasoning and calls stay in the text; there is no `[DONE]`.
    """

    model = "tiny-qwen3"
    reads_reasoning: frozenset[str] = frozenset()
    reads_developer = False
    reads_limits = frozenset({"max_tokens"})
    reads_choice = False
    reads_parallel = False
    reads_formats: frozenset[str] = frozenset()
    usage_unasked = True
    sees = False
    knows = frozenset(
        "model messages stream stream_options max_tokens max_completion_tokens temperature top_p"
        " presence_penalty frequency_penalty logprobs top_logprobs user prompt_cache_key n stop"
        " tools tool_choice parallel_tool_calls response_format reasoning_effort seed store"
        " service_tier verbosity safety_identifier metadata logit_bias chat_template_kwargs"
        " generation_config".split()
    )
    wording = "Unexpected fields in the request: {names}"

    def check(self, body: JSON) -> None:
        if unknown := sorted(body.keys() - self.knows):
            names = f"{{{', '.join(map(repr, unknown))}}}"
            raise Refusal(422, {"detail": self.wording.format(names=names)})

    def thinks(self, body: JSON) -> bool:
        return body.get("chat_template_kwargs", {}).get("enable_thinking") is not False

    def say(self, body: JSON) -> ModelOutput:
        output = super().say(body)
        thought = f"<think>{output.reasoning}</think>\n\n" if output.reasoning else ""
        return ModelOutput("", f"{thought}{written_calls(output) or output.text}")

    def deltas(self, output: ModelOutput) -> Iterator[JSON]:
        yield {"role": "assistant"}
        for text in slices(output.text):
            yield {"content": text}

    def chunks(self, body: JSON, output: ModelOutput) -> Iterator[JSON | bytes]:
        for chunk in super().chunks(body, output):
            if chunk != b"[DONE]":
                yield chunk
