"""Servers that operators run themselves."""

from __future__ import annotations

from collections.abc import Iterator

from tests.probe.scripted import JSON, ModelOutput, Refusal, Upstream, asked, has_image, slices


class Vllm(Upstream):
    """Its template switches thinking off. Unknown fields are only logged."""

    model = "Qwen/Qwen3-32B"
    owner = "vllm"
    reasoning_key = "reasoning"
    reads_reasoning = frozenset({"reasoning", "reasoning_content"})
    reads_developer = False
    sees = False

    def check(self, body: JSON) -> None:
        if body["model"] != self.model:
            raise self.bad(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        choice = body.get("tool_choice", "auto")
        if isinstance(choice, str) and choice not in ("auto", "none", "required"):
            raise self.bad(400, f"Invalid value for `tool_choice`: {choice}!")
        if has_image(body):
            raise self.bad(400, f"{self.model} is not a multimodal model")

    def bad(self, status: int, text: str, kind: str = "BadRequestError") -> Refusal:
        return Refusal(
            status, {"error": {"message": text, "type": kind, "param": None, "code": status}}
        )

    def thinks(self, body: JSON) -> bool:
        return body.get("chat_template_kwargs", {}).get("enable_thinking") is not False

    def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
        chunk = super().chunk(delta, finish)
        if finish:
            chunk["choices"][0]["stop_reason"] = 151645
        return chunk


class VllmWithoutParallel(Vllm):
    """A gateway in front of vLLM that rejects one field."""

    def check(self, body: JSON) -> None:
        super().check(body)
        if "parallel_tool_calls" in body:
            raise self.bad(400, "Unknown parameter: 'parallel_tool_calls'")


class Ollama(Upstream):
    """Ignores other fields than those of its API: no `tool_choice`, no `parallel_tool_calls`."""

    model = "qwen3:32b"
    owner = "library"
    reasoning_key = "reasoning"
    reads_reasoning = frozenset({"reasoning"})
    reads_developer = False
    reads_limits = frozenset({"max_tokens"})
    reads_choice = False
    reads_parallel = False
    sees = False

    def thinks(self, body: JSON) -> bool:
        return body.get("reasoning_effort") != "none"

    def envelope(self, choices: list[JSON]) -> JSON:
        return super().envelope(choices) | {"system_fingerprint": "fp_ollama"}


class LmStudio(Upstream):
    """Reasoning between tags in the text; rejects some values and ignores most."""

    model = "qwen3-8b"
    owner = "organization_owner"
    reads_reasoning: frozenset[str] = frozenset()
    reads_developer = False
    reads_parallel = False
    reads_formats = frozenset({"json_schema"})
    sees = False

    def check(self, body: JSON) -> None:
        super().check(body)
        if body.get("response_format", {}).get("type") == "json_object":
            raise Refusal(400, {"error": "'response_format.type' must be 'json_schema' or 'text'"})
        choice = body.get("tool_choice", "auto")
        if not isinstance(choice, str):
            raise Refusal(
                400,
                {
                    "error": "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"
                },
            )
        for tool in body.get("tools", []):
            for schema in tool["function"]["parameters"]["properties"].values():
                if not isinstance(schema["type"], str):
                    raise Refusal(
                        400,
                        {
                            "error": "Error in iterating prediction stream: ValueError: 'type' must be a string"
                        },
                    )
        if has_image(body):
            raise Refusal(
                400, {"error": "Model does not support images. Please use a model that does."}
            )

    def deltas(self, output: ModelOutput) -> Iterator[JSON]:
        yield {"role": "assistant"}
        thought = f"<think>\n{output.reasoning}\n</think>\n\n" if output.reasoning else ""
        for text in slices(thought + output.text):
            yield {"content": text}
        for call in self.calls(output):
            yield {"tool_calls": [call]}

    def completion(self, body: JSON, output: ModelOutput) -> JSON:
        output = ModelOutput(
            "", f"<think>\n{output.reasoning}\n</think>\n\n{output.text}", output.calls
        )
        return super().completion(body, output)


class LlamaCpp(Upstream):
    """With gpt-oss: the template fails, with 500, on text beside reasoning and calls."""

    model = "gpt-oss-20b"
    owner = "llamacpp"
    reads_developer = False
    reads_parallel = True
    sees = False

    def check(self, body: JSON) -> None:
        for message in body["messages"]:
            thinks = message.get("reasoning_content") and message.get("content")
            if message.get("tool_calls") and thinks:
                raise self.failed(
                    "Cannot pass both content and thinking in an assistant message with tool calls!"
                )
        if any(at > 0 for at in asked(body, "system")):
            raise self.failed("Jinja Exception: System message must be at the beginning.")
        if has_image(body):
            raise self.failed(
                "image input is not supported - hint: if this is unexpected, you may need to "
                "provide the mmproj"
            )

    def obey(self, body: JSON) -> ModelOutput:
        """A choice that is an object is taken for "auto"."""
        if isinstance(body.get("tool_choice"), dict):
            body = body | {"tool_choice": "auto"}
        return super().obey(body)

    def failed(self, text: str) -> Refusal:
        return Refusal(500, {"error": {"code": 500, "message": text, "type": "server_error"}})

    def chunks(self, body: JSON, output: ModelOutput) -> Iterator[JSON | bytes]:
        for chunk in super().chunks(body, output):
            if isinstance(chunk, dict) and chunk.get("usage"):
                chunk["timings"] = {"cache_n": 0, "prompt_n": 12, "prompt_ms": 40.0}
            yield chunk
