"""Calls that a model wrote as text."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, replay, sse, translation
from translator.dialects import BASE, Dialect
from translator.reader.native_calls import NativeCalls, ends_in_half_a_call
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
        KIMI + " and more",
        f"{KIMI[:-26]} and more",
        QWEN + " and more",
        f"{QWEN} <tool_call> is the tag",
        DSML + " and more",
        "<｜DSML｜tool_calls>",
        "<|DSML| is a token of DeepSeek",
        "<｜DSML",
        "<tool_call>",
        "<tool_call>is a tag",
        "<tool_call>get_wea",
        '<tool_call>{"name": "unknown", "arg',
        "<tool_call>{name",
        "<tool_call><function=unknown>",
        "<tool_call>unknown\n<arg_key>a",
        KIMI[:-50].replace("get_weather", "unknown"),
        '```json\n{"tool_calls": [{"function": {"name": "unknown"',
        '```json\n{"a": 1',
        FENCED + "\nand more",
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


# --- variants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bar", ["｜", "｜｜", "|", "||"])
@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize("word", ["tool_calls", "function_calls", "calls"])
def test_dsml_in_all_its_forms(bar: str, blank: str, word: str) -> None:
    """The outermost tags may be missing, the closing one may be cut."""
    text = DSML.replace("｜", bar).replace("tool_calls", word).replace(f"DSML{bar}", f"DSML{bar}{blank}")  # fmt: skip
    calls = [("Bash", {"command": "pwd", "n": 5})]
    opening, closing = f"<{bar}DSML{bar}{blank}{word}>", f"</{bar}DSML{bar}{blank}{word}>"
    for form in (
        text,
        text.replace(">", ">\n"),
        text.removesuffix(closing),
        text.removeprefix(opening).removesuffix(closing),
        text.removeprefix(opening),
        text[:-4],
        text.replace('"', "'"),
    ):
        shown, found, rest = read(f"Well. {form}")
        assert (shown, rest) == ("Well. ", "")
        assert [(name, arguments["command"].strip()) for name, arguments in found] == [  # type: ignore[index]
            ("Bash", "pwd")
        ], form
    assert read(text) == ("", calls, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KIMI.removesuffix("<|tool_calls_section_end|>"), PARIS),
        (KIMI[:-5], PARIS),
        (DEEPSEEK.removesuffix("<｜tool▁calls▁end｜>"), [*PARIS, ("Bash", {})]),
        (MINIMAX.removesuffix("</minimax:tool_call>"), PARIS),
        (QWEN.removesuffix("</tool_call>"), PARIS),
        (QWEN + CODER.removesuffix("\n</tool_call>"), PARIS * 2),
    ],
)
def test_the_last_closing_tag_may_be_missing(text: str, expected: list[object]) -> None:
    assert read(text) == ("", expected, "")


# --- calls that never end -------------------------------------------------------------------------

CUT = [
    ("<|tool_calls_section_begin|>" + KIMI[28:75], 0),
    (KIMI[:-45], 0),
    (KIMI_TWO[:110], 1),
    (DSML[:60], 0),
    (DSML[:-60], 0),
    (DSML.replace("｜", "|")[:-60], 0),
    (DSML[:26] + DSML[26:].removesuffix("</｜DSML｜tool_calls>") + '<｜DSML｜invoke name="Ba', 1),
    (DEEPSEEK[:-30], 1),
    (MINIMAX[:-50], 0),
    (QWEN[:40], 0),
    (QWEN[:15], 0),
    (QWEN + "\n" + QWEN[:-30], 1),
    (GLM[:50], 0),
    (CODER[:50], 0),
    (FENCED[:-40], 0),
    (FENCED_OBJECT[:35], 0),
]


@pytest.mark.parametrize(("text", "whole"), CUT)
def test_a_call_that_never_ends_is_cut(text: str, whole: int) -> None:
    native = NativeCalls(TOOLS.__contains__)
    assert native.feed(text) == ""
    assert (len(native.calls()), native.cut, native.rest()) == (whole, True, "")


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>\n",
        "<tool_call>get_wea",
        "<tool_call><functi",
        "<tool_call><function=",
        '<tool_call>{"na',
        "<｜DSML｜tool_ca",
        "<｜DSML｜tool_calls>\n",
        "<|tool_calls_section_begin|>",
    ],
)
def test_at_the_limit_a_marker_is_enough(text: str) -> None:
    native = NativeCalls(TOOLS.__contains__)
    assert native.feed(text) == ""
    assert native.calls(at_limit=True) == []
    assert native.cut
    assert ends_in_half_a_call("Well. " + text, TOOLS.__contains__)


@pytest.mark.parametrize("text", ["plain", QWEN, "<tool_call> is a tag", KIMI[:-5]])
def test_text_and_whole_calls_do_not_end_in_half_a_call(text: str) -> None:
    assert not ends_in_half_a_call(text, TOOLS.__contains__)


def ends(*payloads: Any, dialect: Dialect = RECOVERING, **more: Any) -> tuple[str, list[str]]:
    """How an answer ends, and its items."""
    events, response = replay(sse(*payloads), ASKING | more, dialect=dialect)
    check_events(events)
    details, error = response.incomplete_details, response.error
    end = details.reason if details else error.code if error else response.status
    return end, [type(item).__name__ for item in response.output]


def usage(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}


@pytest.mark.parametrize("field", ["content", "reasoning"])
@pytest.mark.parametrize(("text", "whole"), CUT)
def test_a_recovered_call_that_never_ends_is_never_done(field: str, text: str, whole: int) -> None:
    calls = ["FunctionCall"] * whole
    for finish in ("stop", "tool_calls", None):
        for tokens, expected in ((9, "server_error"), (16, "max_output_tokens")):
            shown = ends(chunk({field: text}), chunk({}, finish), {"choices": [], "usage": usage(tokens)}, max_output_tokens=16)  # fmt: skip
            # of a failed answer the open item is missing
            assert shown == (expected, calls if expected == "max_output_tokens" else calls[:-1])
    assert ends(chunk({field: text}), chunk({}, "length")) == ("max_output_tokens", calls)


def test_a_recovered_call_with_half_its_arguments_is_cut() -> None:
    """Though its own closing is there."""
    half = KIMI.replace('"Paris"}', '"Par')
    assert ends(chunk({"content": half}), chunk({}, "stop")) == ("server_error", [])
    _, response = replay(sse(chunk({"content": half}), chunk({}, "length")), ASKING, dialect=RECOVERING)  # fmt: skip
    assert [item.status for item in response.output] == ["incomplete"]  # type: ignore[union-attr]


def whole_answer(
    content: str, finish: str, tokens: int, dialect: Dialect = BASE
) -> list[tuple[str, Any]]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = json.dumps({"choices": [choice], "usage": usage(tokens)}).encode()
    request = {**ASKING, "stream": False, "max_output_tokens": 16}
    response = translation(request, dialect=dialect).complete(body)
    kinds: list[tuple[str, Any]] = [("", response.status)]
    for item in response.output:
        if isinstance(item, items.Message):
            kinds.append(("M", item.content[0].text))  # type: ignore[union-attr]
        elif isinstance(item, items.FunctionCall):
            kinds.append(("F", item.name))
    return kinds


@pytest.mark.parametrize(("text", "whole"), CUT)
def test_a_whole_answer_has_no_half_call_in_its_text(text: str, whole: int) -> None:
    """A stream of it would not have it, either; whether calls are recovered or not."""
    calls = [("F", name) for name in ("Bash", "get_weather")]
    for finish, tokens in (("length", 16), ("length", 9), ("stop", 16)):
        shown = whole_answer("Well. " + text, finish, tokens)
        assert shown[:2] == [("", "incomplete"), ("M", "Well. ")]
        assert len(shown) == 2 + whole
        assert all(call in calls for call in shown[2:])
    assert whole_answer("Well. " + text, "stop", 9) == [("", "completed"), ("M", "Well. " + text)]


def test_a_whole_answer_keeps_other_text() -> None:
    for text in ("Well. " + QWEN, "The tag is <tool_call> here", "a <tool_call>unknown\n<arg"):
        assert whole_answer(text, "length", 16) == [("", "incomplete"), ("M", text)]
