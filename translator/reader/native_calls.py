"""Native call parser: tool calls that a model wrote as text, in the syntax of its training.

Servers parse these; when a server's parser misses one, it arrives as text or reasoning. Where a
dialect asks for it, text from the first marker on is held back. At the end of an answer without
calls it is read as calls, if it is only whole calls of declared tools; otherwise it stays text.

    DSML (DeepSeek)   <｜DSML｜tool_calls> { <｜DSML｜invoke name="…"> { parameter } } </…>
    DeepSeek, older   <｜tool▁calls▁begin｜> { <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<…> } <…>
    Kimi              <|tool_calls_section_begin|> { <|tool_call_begin|>functions.NAME:N … } <|…|>
    GLM               { <tool_call>NAME { <arg_key>…<arg_value>… } </tool_call> }
    Qwen              { <tool_call>{"name": …, "arguments": {…}}</tool_call> }
    Qwen Coder        { <tool_call><function=NAME> { <parameter=KEY>… } </tool_call> }
    MiniMax           <minimax:tool_call> { <invoke name="…"> { <parameter name="…">… } } </…>
    fenced            ```json {"tool_calls": [ … ]} ```

Where the text gives a call an id, it is kept: Kimi wants its own (functions.NAME:N) back unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from translator.wire.json_values import NOT_JSON, as_object, as_string, objects_in, utf8_size

_MARKERS = (
    "<｜DSML｜",
    "<｜tool▁calls▁begin｜>",
    "<|tool_calls_section_begin|>",
    "<tool_call>",
    "<minimax:tool_call>",
    "```json\n",
)
_MARKER = re.compile("|".join(map(re.escape, _MARKERS)))
_BEGINNINGS = (re.escape(one[:size]) for one in _MARKERS for size in range(1, len(one)))
_MARKER_BEGUN = re.compile(rf"(?:{'|'.join(_BEGINNINGS)})\Z")
_LONGEST_MARKER = max(map(len, _MARKERS))
_DSML = re.compile(r"<｜DSML｜(tool_calls|function_calls)>(.*)</｜DSML｜\1>", re.DOTALL)
_DEEPSEEK = re.compile(r"<｜tool▁calls▁begin｜>(.*)<｜tool▁calls▁end｜>", re.DOTALL)
_KIMI = re.compile(r"<\|tool_calls_section_begin\|>(.*)<\|tool_calls_section_end\|>", re.DOTALL)
_MINIMAX = re.compile(r"<minimax:tool_call>(.*)</minimax:tool_call>", re.DOTALL)
_FENCED = re.compile(r"```json\n(.*)\n```", re.DOTALL)
_CODER = re.compile(r"<function=([^>\s]+)>(.*?)</function>", re.DOTALL)


class _Span(Struct, frozen=True):
    """What stands between an opening, whose groups say more about it, and a closing."""

    opening: re.Pattern[str]
    closing: str


_DSML_CALL = _Span(re.compile(r'<｜DSML｜invoke name="([^"]+)">'), "</｜DSML｜invoke>")
_DSML_ARGUMENT = _Span(
    re.compile(r'<｜DSML｜parameter name="([^"]+)"(?: string="(true|false)")?>'),
    "</｜DSML｜parameter>",
)
_DEEPSEEK_CALL = _Span(
    re.compile(
        r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?([^\n<]+)(?:<｜tool▁sep｜>|\n```json\n)"
    ),
    "<｜tool▁call▁end｜>",
)
_KIMI_CALL = _Span(
    re.compile(
        r"<\|tool_call_begin\|>\s*((?:functions\.)?([^<\s]+?)(:\d+)?)\s*<\|tool_call_argument_begin\|>"
    ),
    "<|tool_call_end|>",
)
_TAGGED = _Span(re.compile("<tool_call>"), "</tool_call>")
_GLM_VALUE = re.compile(r"\s*<arg_value>")
_CODER_ARGUMENT = _Span(re.compile(r"<parameter=([^>\s]+)>\n?"), "</parameter>")
_MINIMAX_CALL = _Span(re.compile(r'<invoke name="([^"]+)">'), "</invoke>")
_MINIMAX_ARGUMENT = _Span(re.compile(r'<parameter name="([^"]+)">'), "</parameter>")


class NativeCall(Struct, frozen=True):
    """A call that was text: `arguments` is JSON text, `id` None where the text gave it none."""

    name: str
    arguments: str
    id: str | None = None


class NativeCalls:
    """Holds the text of one channel back from the first marker on.

    `feed(text)` returns the part that is certain to be text. `calls()` returns the calls that the
    held text consists of, or none; `rest()` returns it as text.
    """

    def __init__(self, declares: Callable[[str], bool]) -> None:
        self._declares = declares
        self._held: list[str] = []
        self._marked = False

    def feed(self, text: str) -> str:
        """The text up to a marker, or to what could become one."""
        if self._marked:
            self._held.append(text)
            return ""
        text = "".join(self._held) + text
        self._held.clear()
        marker = _MARKER.search(text)
        self._marked = marker is not None
        waits = marker or _MARKER_BEGUN.search(text, max(0, len(text) - _LONGEST_MARKER))
        if waits is None:
            return text
        self._held.append(text[waits.start() :])
        return text[: waits.start()]

    def calls(self) -> list[NativeCall]:
        """The calls that the held text consists of."""
        if not self._marked:
            return []
        found = list(_read("".join(self._held).strip()))
        if not found or not all(self._declares(call.name) for call in found):
            return []
        self._held.clear()
        return found

    @property
    def held(self) -> int:
        """The bytes of the held text."""
        return utf8_size("".join(self._held))

    def rest(self) -> str:
        """The held text, when it was no call."""
        text = "".join(self._held)
        self._held.clear()
        return text


def _read(text: str) -> Iterator[NativeCall]:
    """The calls of a text; none when it holds anything else."""
    if section := _DSML.fullmatch(text):
        for name, body in _only(_DSML_CALL, section[2]):
            given = {
                key: value if is_text != "false" else _json(value)
                for key, is_text, value in _all(_DSML_ARGUMENT, body)
            }
            yield NativeCall(name, _encoded(given))
    elif section := _DEEPSEEK.fullmatch(text):
        for name, arguments in _only(_DEEPSEEK_CALL, section[1]):
            arguments = arguments.removesuffix("\n```").strip()
            yield NativeCall(name.strip(), arguments or "{}")
    elif section := _KIMI.fullmatch(text):
        for identity, name, number, arguments in _only(_KIMI_CALL, section[1]):
            yield NativeCall(name, arguments.strip() or "{}", identity if number else None)
    elif section := _MINIMAX.fullmatch(text):
        for name, body in _only(_MINIMAX_CALL, section[1]):
            given = {key: _json(value) for key, value in _all(_MINIMAX_ARGUMENT, body)}
            yield NativeCall(name, _encoded(given))
    elif section := _FENCED.fullmatch(text):
        yield from _chat_calls(_json(section[1]))
    else:
        for (body,) in _only(_TAGGED, text):
            yield from _tagged(body.strip())


def _tagged(body: str) -> Iterator[NativeCall]:
    """The syntaxes of GLM and of both kinds of Qwen, which use the same tags."""
    if coder := _CODER.fullmatch(body):
        pairs = _all(_CODER_ARGUMENT, coder[2])
        given = {key: _json(value.removesuffix("\n")) for key, value in pairs}
        yield NativeCall(coder[1], _encoded(given))
    elif body.startswith("{"):
        call = as_object(_json(body)) or {}
        name = as_string(call.get("name"))
        if name is not None:
            yield NativeCall(name, _encoded(call.get("arguments") or {}))
    else:
        name, bracket, arguments = body.partition("<arg_key>")
        pairs = _glm_arguments(bracket + arguments)
        given = {key.strip(): _json(value) for key, value in pairs}
        yield NativeCall(name.strip(), _encoded(given))


def _chat_calls(value: object) -> Iterator[NativeCall]:
    """Calls in the form of Chat Completions, which some models write out."""
    for call in objects_in((as_object(value) or {}).get("tool_calls")):
        function = as_object(call.get("function")) or {}
        name, arguments = as_string(function.get("name")), function.get("arguments")
        if name is not None:
            text = arguments if isinstance(arguments, str) else _encoded(arguments or {})
            yield NativeCall(name, text, as_string(call.get("id")) or None)


def _only(span: _Span, text: str) -> list[tuple[str, ...]]:
    """Each span of a text that consists of them and white space only: its groups, and its inside.

    In linear time: a pattern that looks for each closing from each opening takes quadratic time
    where the closing is missing.
    """
    found: list[tuple[str, ...]] = []
    place = 0
    while place < len(text):
        opened = span.opening.match(text, place)
        if opened is None:
            if text[place].isspace():
                place += 1
                continue
            return []
        end = text.find(span.closing, opened.end())
        if end < 0:
            return []
        found.append((*opened.groups(""), text[opened.end() : end]))
        place = end + len(span.closing)
    return found


def _all(span: _Span, text: str) -> Iterator[tuple[str, ...]]:
    """Each span of a text, whatever stands between them."""
    opened = span.opening.search(text)
    while opened is not None:
        end = text.find(span.closing, opened.end())
        if end < 0:
            return
        yield (*opened.groups(""), text[opened.end() : end])
        opened = span.opening.search(text, end + len(span.closing))


def _glm_arguments(text: str) -> Iterator[tuple[str, str]]:
    """Each key of a text with the value that follows it."""
    place = 0
    while (begun := text.find("<arg_key>", place)) >= 0:
        key_end = text.find("</arg_key>", begun)
        if key_end < 0:
            return
        place = key_end + len("</arg_key>")
        value = _GLM_VALUE.match(text, place)
        if value is None:
            continue
        end = text.find("</arg_value>", value.end())
        if end < 0:
            return
        yield text[begun + len("<arg_key>") : key_end], text[value.end() : end]
        place = end + len("</arg_value>")


def _json(text: str) -> object:
    """The JSON value that a text is, or the text."""
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except NOT_JSON:
        return text


def _encoded(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return msgspec.json.encode(value).decode()
