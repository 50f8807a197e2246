"""Scripted upstreams, one class for each kind.

Their behaviour follows the documentation and recorded answers of each upstream. Nothing here uses
the dialects of the package: the tests show whether the probe finds them. The error messages are the
upstreams' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from .scripted import (
    JSON,
    ModelOutput,
    Refusal,
    Upstream,
    answer,
    asked,
    has_image,
    openai_error,
    slices,
    with_thought,
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


class DeepSeek(Upstream):
    """Ignores unknown fields, requires its reasoning back, and thinks with `auto` only."""

    model = "deepseek-v4-pro"
    path = ""
    reads_limits = frozenset({"max_tokens"})
    reads_parallel = False
    reads_formats = frozenset({"json_object"})
    roles = ("system", "user", "assistant", "tool", "latest_reminder")

    def check(self, body: JSON) -> None:
        if body["model"] != self.model:
            raise self.invalid(
                "The supported API model names are deepseek-v4-pro or deepseek-v4-flash, but you "
                f"passed {body['model']}."
            )
        for at, message in enumerate(body["messages"]):
            if message["role"] not in self.roles:
                known = ", ".join(f"`{role}`" for role in self.roles)
                raise self.undecodable(
                    f"messages[{at}].role: unknown variant `{message['role']}`, expected one of {known}"
                )
            if isinstance(message.get("content"), list):
                raise self.undecodable(
                    f"messages[{at}]: unknown variant `image_url`, expected `text`"
                )
        if body.get("reasoning_effort") not in (None, "low", "medium", "high", "xhigh", "max"):
            raise self.undecodable(
                f"reasoning_effort: unknown variant `{body['reasoning_effort']}`"
            )
        if body.get("response_format", {}).get("type") == "json_schema":
            raise self.invalid("This response_format type is unavailable now")
        if body.get("tool_choice", "auto") not in ("auto", "none") and self.thinks(body):
            raise self.invalid("Thinking mode does not support this tool_choice")
        if self.thinks(body):
            for message in body["messages"]:
                if message.get("tool_calls") and not message.get("reasoning_content"):
                    raise self.invalid(
                        "The `reasoning_content` in the thinking mode must be passed back to the API."
                    )

    def invalid(self, text: str) -> Refusal:
        return openai_error(400, text, code="invalid_request_error")

    def undecodable(self, text: str) -> Refusal:
        begin = "Failed to deserialize the JSON body into the target type: "
        return self.invalid(f"{begin}{text} at line 1 column 60")

    def thinks(self, body: JSON) -> bool:
        return body.get("thinking", {}).get("type") != "disabled"

    def usage(self, body: JSON, output: ModelOutput) -> JSON:
        usage = super().usage(body, output)
        prompt = usage["prompt_tokens"]
        return usage | {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": prompt}


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


class OpenAI(Upstream):
    """Hides its reasoning, and rejects unknown fields."""

    model = "gpt-5.4"
    always_thinks = False
    knows = frozenset(
        "model messages stream stream_options max_completion_tokens temperature top_p"
        " presence_penalty frequency_penalty logprobs top_logprobs user prompt_cache_key n stop"
        " tools tool_choice parallel_tool_calls response_format reasoning_effort seed store"
        " service_tier verbosity safety_identifier metadata".split()
    )
    knows_of_messages = frozenset("role content name tool_calls tool_call_id refusal".split())

    def check(self, body: JSON) -> None:
        super().check(body)
        if "max_tokens" in body:
            raise openai_error(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            )
        unknown = [name for name in body if name not in self.knows]
        for at, message in enumerate(body["messages"]):
            keys = [key for key in message if key not in self.knows_of_messages]
            unknown += [f"messages[{at}].{key}" for key in keys]
        if unknown:
            text = f"Unknown parameter: '{unknown[0]}'."
            raise openai_error(400, text, param=unknown[0], code="unknown_parameter")
        if "stream_options" in body and not body["stream"]:
            raise openai_error(
                400, "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            )

    def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
        chunk = super().chunk(delta, finish)
        if delta.get("content"):
            token = {"token": delta["content"], "logprob": -0.1, "bytes": None, "top_logprobs": []}
            chunk["choices"][0]["logprobs"] = {"content": [token]}
        return chunk

    def usage(self, body: JSON, output: ModelOutput) -> JSON:
        thought = 0 if body.get("reasoning_effort") == "none" else 64
        return with_thought(super().usage(body, output), thought)


class Mistral(Upstream):
    """Reasoning in content parts, call ids of nine characters, and 422 for unknown fields."""

    model = "mistral-medium-latest"
    owner = "mistralai"
    usage_unasked = True
    always_thinks = False
    reads_reasoning: frozenset[str] = frozenset()
    knows = frozenset(
        "model messages stream stream_options max_tokens temperature top_p presence_penalty"
        " frequency_penalty n stop tools tool_choice parallel_tool_calls response_format"
        " random_seed safe_prompt prompt_mode reasoning_effort prediction".split()
    )
    knows_of_messages = frozenset("role content name tool_calls tool_call_id prefix".split())

    def check(self, body: JSON) -> None:
        if body["model"] != self.model:
            message = f"Invalid model: {body['model']}"
            raise Refusal(
                400,
                {"object": "error", "message": message, "type": "invalid_model", "code": "1500"},
            )
        if "logprobs" in body:
            raise self.invalid("Logprobs are not enabled for this model", "3051")
        extra = [["body", name] for name in body if name not in self.knows]
        for at, message in enumerate(body["messages"]):
            keys = [key for key in message if key not in self.knows_of_messages]
            extra += [["body", "messages", at, message["role"], key] for key in keys]
            for n, call in enumerate(message.get("tool_calls", [])):
                keys = [key for key in call if key not in ("id", "type", "function", "index")]
                extra += [["body", "messages", at, "assistant", "tool_calls", n, k] for k in keys]
            if message["role"] not in ("system", "user", "assistant", "tool"):
                self.unprocessable(
                    [["body", "messages", at, "role"]], "literal_error", "Input should be 'system'"
                )
        if extra:
            self.unprocessable(extra, "extra_forbidden", "Extra inputs are not permitted")
        if body.get("reasoning_effort") not in (None, "none", "high"):
            self.unprocessable(
                [["body", "reasoning_effort"]], "enum", "Input should be 'none' or 'high'"
            )
        before = ""
        for message in body["messages"]:
            if message["role"] == "user" and before == "tool":
                raise self.invalid("Unexpected role 'user' after role 'tool'", "3230")
            before = message["role"]
            for call in message.get("tool_calls", []):
                if len(call["id"]) != 9 or not call["id"].isalnum():
                    raise self.invalid(
                        f"Tool call id was {call['id']} but must be a-z, A-Z, 0-9, with a length of "
                        "9.",
                        "3280",
                    )

    def invalid(self, text: str, code: str) -> Refusal:
        kind = "invalid_request_error"
        return Refusal(
            400,
            {"object": "error", "message": text, "type": kind, "param": None, "code": code},
        )

    def unprocessable(self, places: list[list[Any]], kind: str, text: str) -> None:
        detail = [{"type": kind, "loc": place, "msg": text, "input": False} for place in places]
        raise Refusal(
            422,
            {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"},
        )

    def thinks(self, body: JSON) -> bool:
        return body.get("reasoning_effort") == "high"

    def deltas(self, output: ModelOutput) -> Iterator[JSON]:
        yield {"role": "assistant", "content": ""}
        for text in slices(output.reasoning):
            yield {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        for text in slices(output.text):
            yield {"content": text}
        if output.calls:
            yield {"content": None, "tool_calls": self.calls(output)}


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


class MiniMax(LmStudio):
    """Tags in the text unless `reasoning_split` is set; errors in a 200, under `base_resp`."""

    model = "MiniMax-M2.7"
    owner = None
    reads_reasoning = frozenset({"reasoning_content", "reasoning_details"})
    reads_formats = frozenset()

    def check(self, body: JSON) -> None:
        if any(at > 0 for at in asked(body, "system")) or asked(body, "developer"):
            role = "developer" if asked(body, "developer") else "system"
            raise self.invalid(
                f"invalid params, chat content has invalid message role: {role} (2013)"
            )
        if body.get("tool_choice", "auto") not in ("auto", "none"):
            raise self.invalid("invalid params, invalid chat setting: tool_choice (2013)")
        if "response_format" in body:
            raise self.invalid("invalid params, response_format is for other models (2013)")
        if has_image(body):
            raise self.invalid("invalid params, this model does not take image_url (2013)")

    def invalid(self, text: str) -> Refusal:
        status = {"status_code": 2013, "status_msg": text}
        return Refusal(200, {"id": "", "choices": None, "base_resp": status})

    def say(self, body: JSON) -> ModelOutput:
        output = super().say(body)
        self.splits = bool(body.get("reasoning_split"))
        return output

    def deltas(self, output: ModelOutput) -> Iterator[JSON]:
        if not self.splits:
            yield from super().deltas(output)
            return
        same = {"role": "assistant", "name": "MiniMax AI", "audio_content": "", "content": ""}
        for text in slices(output.reasoning):
            part = {
                "type": "reasoning.text",
                "format": "MiniMax-response-v1",
                "index": 0,
                "text": text,
            }
            yield same | {"reasoning_content": text, "reasoning_details": [part]}
        for text in slices(output.text):
            yield same | {"content": text}
        for call in self.calls(output):
            yield same | {"tool_calls": [call]}


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


class DashScope(Upstream):
    """Thinks in streams only, with few tool choices then; its errors are events."""

    model = "qwen3.6-plus"
    path = "/compatible-mode/v1"
    reads_reasoning: frozenset[str] = frozenset()
    roles = ("system", "assistant", "user", "tool", "function")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        response = super().__call__(request)
        if response.status_code == 400 and b'"stream":true' in request.content:
            event = b"data: " + b"".join(response.stream) + b"\n\n"  # type: ignore[arg-type]
            return answer(400, event, "text/event-stream")
        return response

    def check(self, body: JSON) -> None:
        super().check(body)
        for at, message in enumerate(body["messages"]):
            if message["role"] not in self.roles:
                known = list(self.roles)
                raise self.invalid(
                    f"{message['role']} is not one of {known} - 'messages.[{at}].role'"
                )
        if any(at > 0 for at in asked(body, "system")):
            raise self.invalid("System message must be at the beginning.")
        if self.thinks(body) and not body.get("stream"):
            raise self.invalid(
                "parameter.enable_thinking must be set to false for non-streaming calls"
            )
        choice = body.get("tool_choice", "auto")
        if choice == "required" or (self.thinks(body) and choice not in ("auto", "none")):
            raise self.invalid(
                "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not "
                "support being set to required or object in thinking mode"
            )

    def invalid(self, text: str) -> Refusal:
        return openai_error(400, text, code="invalid_parameter_error")

    def thinks(self, body: JSON) -> bool:
        return body.get("enable_thinking") is not False


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


class Gemini(Upstream):
    """Hides its reasoning, and requires the signature of each call back."""

    model = "gemini-3-pro"
    path = "/v1beta/openai"
    always_thinks = False
    reads_parallel = False
    reads_formats = frozenset({"json_schema"})

    def check(self, body: JSON) -> None:
        super().check(body)
        known = Fireworks.knows - {"user", "prompt_cache_key", "thinking", "reasoning_history"}
        for name in body.keys() - known:
            self.refuse(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        for message in body["messages"]:
            for name in (
                message.keys() - Fireworks.knows_of_messages
                | {"reasoning_content"} & message.keys()
            ):
                self.refuse(
                    f"Invalid JSON payload received. Unknown name \"{name}\" at 'messages': Cannot "
                    "find field."
                )
            for call in message.get("tool_calls", []):
                if "extra_content" not in call:
                    self.refuse(
                        "Function call is missing a thought_signature in functionCall parts. This is "
                        "required for tools to work correctly"
                    )
        if body.get("response_format") and body.get("tools"):
            self.refuse(
                "Function calling with a response mime type: 'application/json' is unsupported"
            )
        if body.get("response_format", {}).get("type") == "json_object":
            self.refuse("response_format: json_object needs a schema")
        for tool in body.get("tools", []):
            if "$schema" in tool["function"]["parameters"]:
                self.refuse(
                    'Invalid JSON payload received. Unknown name "$schema": Cannot find field.'
                )
            city = tool["function"]["parameters"]["properties"]["city"]
            if not isinstance(city["type"], str):
                self.refuse("Invalid value at 'type', list is not supported: Proto field")

    def refuse(self, text: str) -> None:
        error = {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}
        raise Refusal(400, [{"error": error}])

    def calls(self, output: ModelOutput) -> list[JSON]:
        signature = {"google": {"thought_signature": "c2ln"}}
        return [call | {"extra_content": signature} for call in super().calls(output)]

    def usage(self, body: JSON, output: ModelOutput) -> JSON:
        return with_thought(super().usage(body, output), 50)
