"""View of the demo: chunks and events in two columns, or in one on a narrow terminal.

A chunk is drawn when it is sent; its first event completes the line, and further events get lines
of their own.

    chunk sent                 │  0 event received
                               │  1 event received
    chunk sent                 │  2 event received

Without colour only plain text is written, for pipes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, Literal, TextIO

from msgspec import Struct

from translator.service.base.colours import COLOURS, Style

Kind = Literal["reasoning", "text", "tool", "lifecycle"]

TWO_COLUMNS = 110
"""Least width of a terminal for two columns, in characters."""

MAX_WIDTH = 150
MARGIN = "  "

Part = tuple[Style, str]


class Cell(Struct, frozen=True):
    """One chunk or event, on one line."""

    parts: tuple[Part, ...]


class View:
    """Writes to a terminal or a pipe."""

    def __init__(self, out: TextIO, *, width: int, colour: bool) -> None:
        self._out = out
        self._colour = colour
        self._width = min(width, MAX_WIDTH) - 2 * len(MARGIN)
        self._left = self._width * 42 // 100 if width >= TWO_COLUMNS else 0
        self._waiting = False  # the line has a chunk and no event yet
        self.abandoned = False  # the reader has closed the pipe

    def heading(self, number: int, text: str) -> None:
        self._close_row()
        self._write("\n", MARGIN, self._paint([("bold", f"{number}  {text}")], self._width), "\n\n")

    def say(self, *parts: Part) -> None:
        """One line of text, never shortened: it may be meant for copying."""
        self._close_row()
        text = self._paint(parts, 1000)
        self._write(MARGIN if text else "", text, "\n")

    def columns(self, left: str, right: str) -> None:
        """The titles of the two columns."""
        if not self._left:
            self.say(("dim", f"{left}   →   {right}"))
            return
        self._row(_cell("dim", left), _cell("dim", right))
        rule = "─" * self._left + "─┼─" + "─" * (self._width - self._left - 3)
        self.say(("dim", rule))

    def pairs(self, left: Iterable[Cell], right: Iterable[Cell]) -> None:
        """Two lists side by side; in one column each right line follows its left one."""
        for one, other in zip_longest(left, right):
            self._row(one, other)

    def chunk(self, payload: Mapping[str, Any] | None) -> None:
        """A chunk is sent; the next events come from it."""
        self._close_row()
        cell = chunk_cell(payload)
        if self._left:
            self._write(MARGIN, self._paint(cell.parts, self._left, pad=True))
        else:
            self._write(MARGIN, self._paint([("dim", "chunk "), *cell.parts], self._width), "\n")
        self._waiting = True

    def event(self, payload: Mapping[str, Any] | None) -> None:
        """An event is received."""
        cell = event_cell(payload)
        if self._waiting and self._left:
            self._waiting = False
            self._right(cell)
            return
        self._waiting = False
        self._row(None, cell)

    def _close_row(self) -> None:
        """Mark a chunk that has no event yet."""
        if self._waiting and self._left:
            self._right(_cell("dim", "   ·"))
        self._waiting = False

    def _row(self, left: Cell | None, right: Cell | None) -> None:
        if self._left:
            self._write(MARGIN, self._paint(left.parts if left else (), self._left, pad=True))
            self._right(right or Cell(()))
            return
        if left:
            self._write(MARGIN, self._paint(left.parts, self._width), "\n")
        if right:
            room = self._width - 4
            self._write(MARGIN, self._paint([("dim", "  → ")], 4), self._paint(right.parts, room))
            self._write("\n")

    def _right(self, cell: Cell) -> None:
        room = self._width - self._left - 3
        self._write(self._paint([("dim", " │ ")], 3), self._paint(cell.parts, room), "\n")

    def _paint(self, parts: Iterable[Part], room: int, *, pad: bool = False) -> str:
        """The parts in their colours, shortened to `room` characters."""
        painted: list[str] = []
        for style, text in parts:
            shown = text if len(text) <= room else text[: max(room - 1, 0)] + "…" * (room > 0)
            room -= len(shown)
            code = COLOURS.get(style) if self._colour and shown else None
            painted.append(f"\x1b[{code}m{shown}\x1b[0m" if code else shown)
        return "".join(painted) + " " * (room if pad else 0)

    def _write(self, *texts: str) -> None:
        if self.abandoned:
            return
        try:
            self._out.write("".join(texts))
            self._out.flush()
        except BrokenPipeError:
            self.abandoned = True


def json_cell(path: str, value: object, kind: Style = "plain") -> Cell:
    """A path in a request, and its value in JSON."""
    return Cell((("dim", f"{path} "), (kind, _short(value))))


def chunk_cell(chunk: Mapping[str, Any] | None) -> Cell:
    """A chunk: the path of its content, and the value."""
    if chunk is None:
        return _cell("lifecycle", "[DONE]")
    if not chunk["choices"]:
        usage = chunk["usage"]
        counts = [("prompt", "prompt_tokens"), ("completion", "completion_tokens")]
        text = "  ".join(f"{name} {usage[key]}" for name, key in counts)
        return Cell((("lifecycle", "usage "), ("plain", text)))
    choice = chunk["choices"][0]
    delta = choice["delta"]
    if choice["finish_reason"]:
        return Cell((("lifecycle", "finish_reason "), ("plain", _short(choice["finish_reason"]))))
    if "reasoning_content" in delta:
        value = _short(delta["reasoning_content"])
        return Cell((("reasoning", "delta.reasoning_content "), ("plain", value)))
    if "tool_calls" in delta:
        [call] = delta["tool_calls"]
        function = call["function"]
        value = function["name"] if "name" in function else _short(function["arguments"])
        return Cell((("tool", f"delta.tool_calls[{call['index']}] "), ("plain", value)))
    if delta.get("content"):
        return Cell((("text", "delta.content "), ("plain", _short(delta["content"]))))
    return Cell((("lifecycle", "delta.role "), ("plain", _short(delta["role"]))))


def event_cell(event: Mapping[str, Any] | None) -> Cell:
    """An event: its sequence number, its type, and its new value."""
    if event is None:
        return _cell("lifecycle", "   [DONE]")
    family, _, name = str(event["type"]).partition(".")
    number: Part = ("dim", f"{event['sequence_number']:>2} {family}.")
    value = _value(event)
    return Cell((number, (_kind(event), name), ("plain", f" {value}" if value else "")))


def _kind(event: Mapping[str, Any]) -> Kind:
    """The kind of an event, by its item where it has one."""
    types = f"{event['type']} {event.get('item', {}).get('type', '')}"
    if "reasoning" in types:
        return "reasoning"
    if "function_call" in types:
        return "tool"
    if "output_text" in types or "content_part" in types or "message" in types:
        return "text"
    return "lifecycle"


def _value(event: Mapping[str, Any]) -> str:
    """The new value in an event."""
    if "delta" in event:
        return _short(event["delta"])
    if "item" in event:
        item = event["item"]
        names = [item["type"], item.get("name", "")]
        sealed = item.get("encrypted_content")
        if sealed and event["type"].endswith(".done"):
            names.append(f"+ encrypted_content, {len(sealed)} characters")
        return " ".join(filter(None, names))
    if "response" in event and event["response"]["status"] == "completed":
        usage = event["response"]["usage"]
        return f"input {usage['input_tokens']}  output {usage['output_tokens']} tokens"
    for key in ("text", "arguments"):
        if key in event:
            return _short(event[key])
    return ""


def _short(value: object) -> str:
    """JSON; but a text with double quotes is put in single ones, to be readable."""
    if isinstance(value, str) and '"' in value and not {"'", "\n", "\\"} & set(value):
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cell(style: Style, text: str) -> Cell:
    return Cell(((style, text),))
