"""Replies: how the probe parses answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from translator.dialects import BASE
from translator.dialects.think_tags import Tags
from translator.probe.replies import ReplyReader, quoted
from translator.probe.verdict import marked
from translator.wire.deltas import Usage

from . import scripted, upstreams
from .probing import run_probe, settings_of
from .scripted import JSON, ModelOutput


def read(*payloads: Any, tail: bytes = b"") -> Any:
    reader = ReplyReader()
    for payload in payloads:
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        reader.feed(b"data: " + text + b"\n\n")
    reader.feed(tail)
    reader.end()
    return reader.reply(whole=True)


def texts(*contents: str) -> list[JSON]:
    return [{"choices": [{"delta": {"content": content}}]} for content in contents]


def test_a_cumulative_stream_is_recognised() -> None:
    assert read(*texts("a", "ab", "abc")).cumulative
    assert not read(*texts("a", "b", "c")).cumulative
    assert not read(*texts("a", "ab")).cumulative  # once may be chance
    assert not read(*texts("1", "12", "123", "4")).cumulative


@pytest.mark.parametrize(
    ("text", "thinks", "tags", "lone"),
    [
        ("<think>\nHm.\n</think>\n\n391", True, ("<think>", "</think>"), None),
        ("<thought>Hm.</thought>391", True, ("<thought>", "</thought>"), None),
        ("<think>\n\n</think>\n\n391", False, ("<think>", "</think>"), None),
        ("Hm.</think>391", True, None, ("<think>", "</think>")),
        ("\n</think>\n\n391", False, None, ("<think>", "</think>")),
        ("Write <think> at first.", False, None, None),
    ],
)
def test_reasoning_in_the_text_is_recognised_by_its_tags(
    text: str, thinks: bool, tags: Any, lone: Any
) -> None:
    reply = read(*texts(text))
    assert (reply.thinks, reply.tags, reply.lone_close) == (thinks, tags, lone)


class Closing(upstreams.Vllm):
    """Sends no opening tag: the template contains it."""

    def deltas(self, output: ModelOutput) -> Any:
        yield {"content": f"{output.reasoning}</think>\n\n" if output.reasoning else ""}
        yield {"content": output.text}
        yield from ({"tool_calls": [call]} for call in self.calls(output))


def test_a_closing_tag_without_its_opening_one_is_recognised() -> None:
    report = run_probe(Closing())
    assert report.best.corrected.think_tags == Tags(opened_by_template=True)
    assert settings_of(report).upstreams["up"].facts["think_tags"] == Tags(opened_by_template=True)


def test_a_stray_closing_tag_is_recognised() -> None:
    class Stray(upstreams.Vllm):
        def deltas(self, output: ModelOutput) -> Any:
            for delta in super().deltas(output):
                yield delta
                if delta.get("reasoning"):
                    yield {"content": ""}
            return

        def say(self, body: JSON) -> ModelOutput:
            output = super().say(body)
            if output.reasoning:
                output.text = f"\n</think>\n\n{output.text}"
            return output

    assert run_probe(Stray()).best.corrected.think_tags == Tags(stray_close=True)


def test_calls_in_the_text_are_recognised() -> None:
    class Unparsed(upstreams.Vllm):
        def deltas(self, output: ModelOutput) -> Any:
            calls = "\n".join(
                f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
                for city in output.calls
            )
            yield {"role": "assistant", "content": calls or output.text}

    report = run_probe(Unparsed())
    assert report.best.overrides["recover_calls"] is True


def test_an_end_without_a_reason_is_recognised() -> None:
    class Silent(upstreams.Vllm):
        def chunks(self, body: JSON, output: ModelOutput) -> Any:
            for delta in self.deltas(output):
                yield self.chunk(delta)
            if not output.calls:
                yield self.chunk({}, "stop")

    report = run_probe(Silent())
    assert report.best.overrides["lenient_eof"] is True
    assert "The stream ended without [DONE]." in report.notes


def test_an_unstreamed_answer_is_parsed_like_a_stream() -> None:
    """Some gateways ignore `stream`."""
    completion = scripted.Upstream().completion({"messages": []}, ModelOutput("Hm.", "391"))
    reader = ReplyReader()
    body = json.dumps(completion).encode()
    reader.feed(b"\n" + body[:7])
    reader.feed(body[7:])
    reader.end()
    reply = reader.reply(whole=True)
    assert (reply.text, reply.reasoning, reply.finish) == (
        "391",
        {"reasoning_content": "Hm."},
        "stop",
    )
    assert isinstance(reply.usage, Usage)


def test_marks_are_keys_and_words() -> None:
    reply = read(
        {"system_fingerprint": "fp_ollama", "timings": {}, "choices": [], "usage": {"a": 1}}
    )
    assert {"chunk.timings", "usage.a", "fingerprint:fp_ollama"} <= reply.marks
    assert marked("ollama", reply.marks) == ["fingerprint:fp_ollama"]
    assert marked("vllm", reply.marks) == []
    assert marked(BASE.name, reply.marks) == []


def test_of_a_long_error_message_the_exception_is_quoted() -> None:
    """Engines put a piece of the template before it."""
    source = "{%- if not loop.index0 % 2 %}{{ raise_exception('Error: …') }}" * 3
    error = "Exception: Conversation roles must alternate user/assistant/…"
    text = f"Automatic parser generation failed:\n---\n{source}\n   ^\nError: Jinja {error}"
    assert quoted(text) == f"“{error}”"
    assert quoted("x" * 300) == f"“{'x' * 159}…”"
    assert quoted(f"ValueError: {'x' * 300}").startswith("“ValueError: xxx")
    assert quoted(f"{'x' * 300} Error: no") == f"“{'x' * 159}…”"
    assert quoted("A short one: Error: none") == "“A short one: Error: none”"
