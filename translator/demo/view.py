"""How the demo looks: two columns where there is room, one under the other where there is not.

A line is drawn as far as it is known. The chunk stands there when it is sent; the first event that
it became completes its line, further ones get lines of their own.

    chunk that was sent        │  0 event that arrived
                               │  1 event that arrived
    chunk that was sent        │  2 event that arrived

Without colour nothing but text is written, so that a pipe gets plain lines.
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
"""Narrowest terminal with two columns, in characters."""

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
        self._waiting = False  # a chunk is on the line and none of its events
        self.abandoned = False  # the reader of a pipe has gone

    def heading(self, number: int, text: str) -> None:
        self._close_row()
        self._write("\n", MARGIN, self._paint([("bold", f"{number}  {text}")], self._width), "\n\n")

    def say(self, *parts: Part) -> None:
        """A line of prose, whole: what is meant to be copied must not be cut."""
        self._close_row()
        text = self._paint(parts, 1000)
        self._write(MARGIN if text else "", text, "\n")

    def columns(self, left: str, right: str) -> None:
        """What the two columns show."""
        if not self._left:
            self.say(("dim", f"{left}   →   {right}"))
            return
        self._row(_cell("dim", left), _cell("dim", right))
        rule = "─" * self._left + "─┼─" + "─" * (self._width - self._left - 3)
        self.say(("dim", rule))

    def pairs(self, left: Iterable[Cell], right: Iterable[Cell]) -> None:
        """Two lists beside each other; in one column each right line follows its left one."""
        for one, other in zip_longest(left, right):
            self._row(one, other)

    def chunk(self, payload: Mapping[str, Any] | None) -> None:
        """A chunk is on its way; the next events are what it becomes."""
        self._close_row()
        cell = chunk_cell(payload)
        if self._left:
            self._write(MARGIN, self._paint(cell.parts, self._left, pad=True))
        else:
            self._write(MARGIN, self._paint([("dim", "chunk "), *cell.parts], self._width), "\n")
        self._waiting = True

    def event(self, payload: Mapping[str, Any] | None) -> None:
        """An event has arrived."""
        cell = event_cell(payload)
        if self._waiting and self._left:
            self._waiting = False
            self._right(cell)
            return
        self._waiting = False
        self._row(None, cell)

    def _close_row(self) -> None:
        """A chunk that became nothing yet gets a mark instead of an event."""
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
        """The parts in their colours, cut to `room` characters."""
        pieces: list[str] = []
        for style, text in parts:
            shown = text if len(text) <= room else text[: max(room - 1, 0)] + "…" * (room > 0)
            room -= len(shown)
            code = COLOURS.get(style) if self._colour and shown else None
            pieces.append(f"\x1b[{code}m{shown}\x1b[0m" if code else shown)
        return "".join(pieces) + " " * (room if pad else 0)

    def _write(self, *texts: str) -> None:
        if self.abandoned:
            return
        try:
            self._out.write("".join(texts))
            self._out.flush()
        except BrokenPipeError:
            self.abandoned = True


def json_cell(path: str, value: object, kind: Style = "plain") -> Cell:
    """A place in a request, and the JSON that stands there."""
    return Cell((("dim", f"{path} "), (kind, _short(value))))


def chunk_cell(chunk: Mapping[str, Any] | None) -> Cell:
    """What one chunk says: the path of what is in it, and its value."""
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
        said = function["name"] if "name" in function else _short(function["arguments"])
        return Cell((("tool", f"delta.tool_calls[{call['index']}] "), ("plain", said)))
    if delta.get("content"):
        return Cell((("text", "delta.content "), ("plain", _short(delta["content"]))))
    return Cell((("lifecycle", "delta.role "), ("plain", _short(delta["role"]))))


def event_cell(event: Mapping[str, Any] | None) -> Cell:
    """What one event says: its number, its type, and what is new in it."""
    if event is None:
        return _cell("lifecycle", "   [DONE]")
    family, _, name = str(event["type"]).partition(".")
    number: Part = ("dim", f"{event['sequence_number']:>2} {family}.")
    news = _news(event)
    return Cell((number, (_kind(event), name), ("plain", f" {news}" if news else "")))


def _kind(event: Mapping[str, Any]) -> Kind:
    """The family of an event: by the item that it is about, where it is about one."""
    said = f"{event['type']} {event.get('item', {}).get('type', '')}"
    if "reasoning" in said:
        return "reasoning"
    if "function_call" in said:
        return "tool"
    if "output_text" in said or "content_part" in said or "message" in said:
        return "text"
    return "lifecycle"


def _news(event: Mapping[str, Any]) -> str:
    """The one value in an event that a reader looks for."""
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
    """JSON; only a text full of double quotes stands in single ones, to be readable."""
    if isinstance(value, str) and '"' in value and not {"'", "\n", "\\"} & set(value):
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cell(style: Style, text: str) -> Cell:
    return Cell(((style, text),))
