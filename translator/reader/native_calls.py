"""Native call parser: tool calls that a model wrote as text, in the syntax of its training.

Servers parse these; when a server's parser misses one, it arrives as text or reasoning. Where a
dialect asks for it, text from the first marker on is held back. At the end of an answer without
calls it is read as calls, if it is only calls of declared tools; otherwise it stays text.

    DSML (DeepSeek)   <｜DSML｜tool_calls> { <｜DSML｜invoke name="…"> { parameter } } [</…>]
    DeepSeek, older   <｜tool▁calls▁begin｜> { <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<…> } [<…>]
    Kimi              <|tool_calls_section_begin|> { <|tool_call_begin|>functions.NAME:N … } [<…>]
    GLM               { <tool_call>NAME { <arg_key>…<arg_value>… } </tool_call> }
    Qwen              { <tool_call>{"name": …, "arguments": {…}}</tool_call> }
    Qwen Coder        { <tool_call><function=NAME> { <parameter=KEY>… } </tool_call> }
    MiniMax           <minimax:tool_call> { <invoke name="…"> { <parameter name="…">… } } [</…>]
    fenced            ```json {"tool_calls": [ … ]} ```

DSML is written with one bar or two, as ｜ or |, with a blank behind them or none, and with the
words tool_calls, function_calls or calls; the outermost tags may be missing.

The last call may be cut, by a token limit: it is neither a call then nor text. Where the text gives
a call an id, it is kept: Kimi wants its own (functions.NAME:N) back unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from translator.common.lazy_pattern import lazy_pattern
from translator.common.pieces import Pieces
from translator.wire.json_values import NOT_JSON, as_object, as_string, objects_in, utf8_size

_MARKERS = (
    *(f"<{bar}DSML" for bar in ("｜", "｜｜", "|", "||")),
    "<｜tool▁calls▁begin｜>",
    "<|tool_calls_section_begin|>",
    "<tool_call>",
    "<minimax:tool_call>",
    "```json\n",
)
_MARKER = lazy_pattern("|".join(map(re.escape, _MARKERS)))
_BEGINNINGS = (re.escape(one[:size]) for one in _MARKERS for size in range(1, len(one)))
_MARKER_BEGUN = lazy_pattern(rf"(?:{'|'.join(_BEGINNINGS)})\Z")
_LONGEST_MARKER = max(map(len, _MARKERS))
_CODER = lazy_pattern(r"<function=([^>\s]+)>(.*?)</function>", re.DOTALL)


class _Span(Struct, frozen=True):
    """What stands between an opening, whose groups say more about it, and a closing."""

    opening: re.Pattern[str]
    closing: re.Pattern[str]


def _span(opening: str, closing: str) -> _Span:
    return _Span(lazy_pattern(opening), lazy_pattern(closing))


class _Section(Struct, frozen=True):
    """Calls between an opening and a closing, which may be missing.

    `reads(groups)` makes a call of what a span of `call` holds, its inside last; `name` is the
    group with the function's name. `end` is how the closing is written, most of the time.
    """

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    end: str
    call: _Span
    reads: Callable[[tuple[str, ...]], NativeCall]
    name: int = 1


_DSML = r"DSML[｜|]{1,2}\s*"
_DSML_CALL = _span(
    rf"""<[｜|]{{1,2}}{_DSML}invoke\s+name\s*=\s*["']([^"'>]+)["']\s*>""",
    rf"</[｜|]{{1,2}}{_DSML}invoke\s*>",
)
_DSML_ARGUMENT = _span(
    rf"""<[｜|]{{1,2}}{_DSML}parameter\s+name\s*=\s*["']([^"'>]+)["']"""
    r"""(?:\s+string\s*=\s*["'](true|false)["'])?\s*>""",
    rf"</[｜|]{{1,2}}{_DSML}parameter\s*>",
)
_DEEPSEEK_CALL = _span(
    r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?([^\n<]+)(?:<｜tool▁sep｜>|\n```json\n)",
    "<｜tool▁call▁end｜>",
)
_KIMI_CALL = _span(
    r"<\|tool_call_begin\|>\s*((?:functions\.)?([^<\s]+?)(:\d+)?)\s*<\|tool_call_argument_begin\|>",
    r"<\|tool_call_end\|>",
)
_TAGGED = _span("<tool_call>", "</tool_call>")
_GLM_VALUE = lazy_pattern(r"\s*<arg_value>")
_CODER_ARGUMENT = _span(r"<parameter=([^>\s]+)>\n?", "</parameter>")
_MINIMAX_CALL = _span(r'<invoke name="([^"]+)">', "</invoke>")
_MINIMAX_ARGUMENT = _span(r'<parameter name="([^"]+)">', "</parameter>")
_FENCE = lazy_pattern(r"```json\n")
_FENCED_CALLS = lazy_pattern(r'\{\s*"tool_calls"\s*:\s*\[')
_NAME = lazy_pattern(r'"name"\s*:\s*"([^"]*)"')
_NAME_END = lazy_pattern(r"[\s<>]")
_OBJECT_BEGUN = lazy_pattern(r'\{\s*("|\Z)')
_NAME_BEGUN = lazy_pattern(r"\s*|\n?(?:<[a-z]*=?)?[\w.:/-]*")
_HALF_TAG = lazy_pattern(r"<[^>]*|<[|｜]tool.call.begin[|｜]>[^<>]*(?:<[^>]*(?:>[^<>]*)?)?")
_HALF_MARKER = lazy_pattern(r"<[｜|]{1,2}DSML[｜|]{0,2}\s?\w*")


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

    __slots__ = ("_cut_size", "_declares", "_held", "_marked", "cut")

    def __init__(self, declares: Callable[[str], bool]) -> None:
        self._declares = declares
        self._held = Pieces()
        self._marked = False
        self._cut_size = 0
        self.cut = False
        """The last call is cut; known from `calls()` on."""

    def feed(self, text: str) -> str:
        """The text up to a marker, or to what could become one."""
        if self._marked:
            self._held.add(text)
            return ""
        text = self._held.take() + text
        marker = _MARKER.search(text)
        self._marked = marker is not None
        waits = marker or _MARKER_BEGUN.search(text, max(0, len(text) - _LONGEST_MARKER))
        if waits is None:
            return text
        self._held.add(text[waits.start() :])
        return text[: waits.start()]

    @property
    def size(self) -> int:
        """The bytes of the held text, and of a call that was cut."""
        return self._held.settle() + self._cut_size

    def calls(self, *, at_limit: bool = False) -> list[NativeCall]:
        """The calls that the held text consists of.

        `at_limit`: a limit ended the answer, so that a marker without anything behind it is the
        beginning of a call, too. Sets `cut` where the last call is cut; the others count.
        """
        if not self._marked:
            return []
        found = read_calls(self._held.text(), self._declares, at_limit=at_limit)
        if found is None:
            return []
        size = self._held.settle()
        self._held.take()
        if found.cut:
            self.cut = True
            whole = sum(utf8_size(call.arguments) for call in found.calls)
            self._cut_size = max(0, size - whole)
        return found.calls

    def rest(self) -> str:
        """The held text, when it was no call."""
        return self._held.take()


def ends_in_half_a_call(text: str, declares: Callable[[str], bool]) -> bool:
    """Whether a text that a limit ended stops in the middle of a call of a declared tool."""
    marker = _MARKER.search(text)
    found = marker and read_calls(text[marker.start() :], declares, at_limit=True)
    return found is not None and found.cut


class _Found(Struct, frozen=True):
    """The whole calls of a text, and whether another begins behind them."""

    calls: list[NativeCall]
    cut: bool


def read_calls(text: str, declares: Callable[[str], bool], *, at_limit: bool) -> _Found | None:
    """The calls of a text; None when it holds anything else, or calls of other tools."""
    text = text.strip()
    found: _Found | None = None
    for section in _SECTIONS:
        if opened := section.opening.match(text):
            found = _read_section(section, text[opened.end() :], declares, at_limit=at_limit)
            break
    else:
        if fence := _FENCE.match(text):
            found = _read_fenced(text[fence.end() :], declares)
        elif at_limit and _HALF_MARKER.fullmatch(text):
            found = _Found([], cut=True)
        else:
            found = _read_tagged(text, declares, at_limit=at_limit)
    if found is None or not (found.calls or found.cut):
        return None
    return found if all(declares(call.name) for call in found.calls) else None


def _read_section(
    section: _Section, text: str, declares: Callable[[str], bool], *, at_limit: bool
) -> _Found | None:
    spans, rest = _leading(section.call, text)
    calls = [section.reads(span) for span in spans]
    if closed := section.closing.match(rest):
        return None if rest[closed.end() :].strip() else _Found(calls, cut=False)
    if opened := section.call.opening.match(rest):
        name = opened[section.name].strip()
        return _Found(calls, cut=True) if name == "function" or declares(name) else None
    if not rest:
        return _Found(calls, cut=at_limit and not calls)
    if not _HALF_TAG.fullmatch(rest):
        return None
    return _Found(calls, cut=not calls or not (rest[:2] == "</" or section.end.startswith(rest)))


def _read_tagged(text: str, declares: Callable[[str], bool], *, at_limit: bool) -> _Found | None:
    """Calls in tags of their own."""
    spans, rest = _leading(_TAGGED, text)
    calls = [call for (body,) in spans for call in _tagged(body.strip())]
    if len(calls) < len(spans) or not (rest == "" or rest.startswith("<tool_call>")):
        return None
    inside = rest.removeprefix("<tool_call>")
    body = inside.strip()
    if body.startswith("{") or body.endswith("</function>"):
        last = list(_tagged(body))
        if last:
            return _Found(calls + last, cut=False)  # only the closing tag is missing
    if rest and not ((at_limit and _NAME_BEGUN.fullmatch(inside)) or _may_be_call(body, declares)):
        return None
    return _Found(calls, cut=bool(rest))


def _read_fenced(text: str, declares: Callable[[str], bool]) -> _Found | None:
    """Calls in one code fence."""
    body, closing, rest = text.rpartition("\n```")
    if closing:
        return None if rest else _Found(list(_chat_calls(_json(body))), cut=False)
    begun = _FENCED_CALLS.match(text) and _may_be_call(text, declares)
    return _Found([], cut=bool(begun))


def _may_be_call(body: str, declares: Callable[[str], bool]) -> bool:
    """Whether a text is the beginning of a call of a declared tool, or of an object."""
    if body.startswith("{"):
        named = _NAME.search(body)
        return declares(named[1]) if named else _OBJECT_BEGUN.match(body) is not None
    return declares(_NAME_END.split(body.removeprefix("<function="), maxsplit=1)[0])


def _dsml_call(span: tuple[str, ...]) -> NativeCall:
    name, body = span
    given = {
        key: value if is_text != "false" else _json(value)
        for key, is_text, value in _all(_DSML_ARGUMENT, body)
    }
    return NativeCall(name, _encoded(given))


def _deepseek_call(span: tuple[str, ...]) -> NativeCall:
    name, arguments = span
    arguments = arguments.removesuffix("\n```").strip()
    return NativeCall(name.strip(), arguments or "{}")


def _kimi_call(span: tuple[str, ...]) -> NativeCall:
    identity, name, number, arguments = span
    return NativeCall(name, arguments.strip() or "{}", identity if number else None)


def _minimax_call(span: tuple[str, ...]) -> NativeCall:
    name, body = span
    given = {key: _json(value) for key, value in _all(_MINIMAX_ARGUMENT, body)}
    return NativeCall(name, _encoded(given))


_SECTIONS = (
    _Section(
        lazy_pattern(
            rf"<[｜|]{{1,2}}{_DSML}(?:tool_|function_)?calls\s*>|(?=<[｜|]{{1,2}}{_DSML}invoke\b)"
        ),
        lazy_pattern(rf"</[｜|]{{1,2}}{_DSML}(?:tool_|function_)?calls\s*>"),
        "</｜DSML｜tool_calls>",
        _DSML_CALL,
        _dsml_call,
    ),
    _Section(
        lazy_pattern("<｜tool▁calls▁begin｜>"),
        lazy_pattern("<｜tool▁calls▁end｜>"),
        "<｜tool▁calls▁end｜>",
        _DEEPSEEK_CALL,
        _deepseek_call,
    ),
    _Section(
        lazy_pattern(r"<\|tool_calls_section_begin\|>"),
        lazy_pattern(r"<\|tool_calls_section_end\|>"),
        "<|tool_calls_section_end|>",
        _KIMI_CALL,
        _kimi_call,
        name=2,
    ),
    _Section(
        lazy_pattern("<minimax:tool_call>"),
        lazy_pattern("</minimax:tool_call>"),
        "</minimax:tool_call>",
        _MINIMAX_CALL,
        _minimax_call,
    ),
)


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


def _leading(span: _Span, text: str) -> tuple[list[tuple[str, ...]], str]:
    """The spans with which a text begins, each its groups and its inside; and what follows.

    In linear time: a pattern that looks for each closing from each opening takes quadratic time
    where the closing is missing.
    """
    found: list[tuple[str, ...]] = []
    place = 0
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        opened = span.opening.match(text, place)
        closed = opened and span.closing.search(text, opened.end())
        if not opened or not closed:
            return found, text[place:]
        found.append((*opened.groups(""), text[opened.end() : closed.start()]))
        place = closed.end()


def _all(span: _Span, text: str) -> Iterator[tuple[str, ...]]:
    """Each span of a text, whatever stands between them."""
    opened = span.opening.search(text)
    while opened is not None:
        closed = span.closing.search(text, opened.end())
        if closed is None:
            return
        yield (*opened.groups(""), text[opened.end() : closed.start()])
        opened = span.opening.search(text, closed.end())


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
