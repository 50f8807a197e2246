"""Calls that a model wrote as text."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, replay, sse
from translator.dialects import BASE
from translator.reader.native_calls import NativeCalls
from translator.wire import items

TOOLS = {"Bash", "get_weather"}
RECOVERING = msgspec.structs.replace(BASE, recover_calls=True)
ASKING = {**REQUEST, "tools": [{"type": "function", "name": name} for name in sorted(TOOLS)]}

DSML = '<｜DSML｜tool_calls><｜DSML｜invoke name="Bash"><｜DSML｜parameter name="command" string="true">pwd</｜DSML｜parameter><｜DSML｜parameter name="n" string="false">5</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜tool_calls>'
KIMI = '<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city":"Paris"}<|tool_call_end|><|tool_calls_section_end|>'
KIMI_TWO = "<|tool_calls_section_begin|> <|tool_call_begin|>Bash<|tool_call_argument_begin|><|tool_call_end|>\n<|tool_call_begin|>get_weather:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
DEEPSEEK = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city":"Paris"}<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>Bash<｜tool▁sep｜><｜tool▁call▁end｜><｜tool▁calls▁end｜>'
DEEPSEEK_OLDER = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city":"Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
GLM = "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>"
QWEN = '<tool_call>\n{"name":"get_weather","arguments":{"city":"Paris"}}\n</tool_call>'
CODER = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
MINIMAX = '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n</invoke>\n</minimax:tool_call>'
FENCED = '```json\n{"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\\"city\\":\\"Paris\\"}"}}]}\n```'
FENCED_OBJECT = '```json\n{"tool_calls":[{"function":{"name":"get_weather","arguments":{"city":"Paris"}}},{"function":5}]}\n```'

PARIS = [("get_weather", {"city": "Paris"})]


def read(text: str) -> tuple[str, list[tuple[str, object]], str]:
    native = NativeCalls(TOOLS.__contains__)
    shown = "".join(native.feed(character) for character in text)
    calls = [(call.name, json.loads(call.arguments)) for call in native.calls()]
    return shown, calls, native.rest()


def ids(text: str) -> list[str | None]:
    native = NativeCalls(TOOLS.__contains__)
    native.feed(text)
    return [call.id for call in native.calls()]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (DSML, [("Bash", {"command": "pwd", "n": 5})]),
        (KIMI, PARIS),
        (KIMI_TWO, [("Bash", {}), ("get_weather", {})]),
        (DEEPSEEK, [*PARIS, ("Bash", {})]),
        (DEEPSEEK_OLDER, PARIS),
        (GLM, PARIS),
        ("<tool_call>Bash</tool_call>", [("Bash", {})]),
        (QWEN, PARIS),
        (QWEN + "\n" + GLM, PARIS * 2),
        (f"{QWEN}\n\t {GLM} ", PARIS * 2),
        (
            "<tool_call>Bash<arg_key>a</arg_key>x<arg_key>b</arg_key><arg_value>1</arg_value></tool_call>",
            [("Bash", {"b": 1})],
        ),
        (
            "<tool_call>Bash<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</tool_call>",
            [("Bash", {"a": 1})],
        ),
        ("<tool_call>Bash<arg_key>a</arg_key><arg_value>1</tool_call>", [("Bash", {})]),
        (
            "<tool_call><function=Bash><parameter=a>1</parameter><parameter=b>2</function></tool_call>",
            [("Bash", {"a": 1})],
        ),
        (CODER, PARIS),
        (MINIMAX, PARIS),
        (FENCED, PARIS),
        (FENCED_OBJECT, PARIS),
    ],
)
def test_each_syntax_is_read(text: str, calls: list[tuple[str, object]]) -> None:
    assert read(text) == ("", calls, "")
    assert read("Let me see. " + text + "\n") == ("Let me see. ", calls, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KIMI, ["functions.get_weather:0"]),
        (KIMI_TWO, [None, "get_weather:1"]),
        (FENCED, ["call_1"]),
        (FENCED_OBJECT, [None]),
        (FENCED.replace("call_1", ""), [None]),
        (GLM + QWEN + CODER, [None, None, None]),
        (DSML, [None]),
        (MINIMAX, [None]),
        (DEEPSEEK, [None, None]),
    ],
)
def test_an_id_in_the_text_is_the_id_of_the_call(text: str, expected: list[str | None]) -> None:
    assert ids(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "plain text",
        "a < b, and <tool",
        KIMI[:-5],
        KIMI + " and more",
        GLM.replace("get_weather", "unknown"),
        "<tool_call>{broken</tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        "```json\n{}\n```",
        "```json\n5\n```",
        '```json\n{"tool_calls": [{"function": {"arguments": {}}}]}\n```',
        DSML.replace("invoke", "invoked", 1),
    ],
)
def test_everything_else_stays_text(text: str) -> None:
    shown, calls, rest = read(text)
    assert calls == []
    assert shown + rest == text


def test_text_before_a_marker_is_not_held() -> None:
    native = NativeCalls(TOOLS.__contains__)
    assert native.feed("Hello <") == "Hello "
    assert native.feed("b> <tool_c") == "<b> "
    assert native.feed("ase>") == "<tool_case>"


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning"])
def test_calls_come_out_as_calls(field: str) -> None:
    body = sse(chunk({field: "Let me."}), chunk({field: KIMI}), chunk({}, "stop"), "[DONE]")
    events, response = replay(body, ASKING, dialect=RECOVERING)
    check_events(events)
    call = response.output[1]
    assert isinstance(call, items.FunctionCall)
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    assert call.call_id == "functions.get_weather:0"
    _, plain = replay(body, ASKING)
    assert len(plain.output) == 1, "without the fact, text is text"


def test_text_beside_real_calls_stays_text() -> None:
    real = {"index": 0, "id": "c", "function": {"name": "Bash", "arguments": "{}"}}
    body = sse(chunk({"content": KIMI}), chunk({"tool_calls": [real]}), chunk({}, "tool_calls"))
    events, response = replay(body, ASKING, dialect=RECOVERING)
    check_events(events)
    assert [type(item).__name__ for item in response.output] == ["FunctionCall", "Message"]


def test_an_id_that_is_in_use_is_made_unique() -> None:
    """A model counts its calls anew in each turn: the history has `functions.get_weather:0`."""
    history = [
        {"role": "user", "content": "x"},
        {"type": "function_call", "call_id": "functions.get_weather:0", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "functions.get_weather:0", "output": "x"},
    ]  # fmt: skip
    body = sse(chunk({"content": KIMI}), chunk({}, "stop"))
    _, response = replay(body, {**ASKING, "input": history}, dialect=RECOVERING)
    (call,) = response.output
    assert isinstance(call, items.FunctionCall)
    assert call.call_id == "functions.get_weather:0~2"


def test_calls_in_text_and_in_reasoning_are_different_calls() -> None:
    body = sse(chunk({"reasoning": KIMI}), chunk({"content": QWEN}), chunk({}, "stop"))
    events, response = replay(body, ASKING, dialect=RECOVERING)
    check_events(events)
    calls = [item for item in response.output if isinstance(item, items.FunctionCall)]
    assert [call.arguments for call in calls] == ['{"city":"Paris"}'] * 2
