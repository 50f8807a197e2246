"""Call assembler: assigns the deltas of tool calls to the calls of an answer.

Upstreams disagree on every key of a delta. `index` may be missing, always 0, or begin anywhere; ids
may be missing, empty, repeated on every chunk, or shared by two calls; names may come late, in
parts, again and again. The rules, in order:

    1. A delta with an index belongs to the call of that index, unless a new id and a name show that
       another call begins (servers that always send index 0).
    2. Without an index: the position counts when several deltas come together; else the id; else
       the last call, unless that is whole and a name shows that another begins.
"""

from __future__ import annotations

import json
from typing import Any

from translator.common.json_text import JsonExtent
from translator.common.pieces import Pieces
from translator.wire import chat
from translator.wire.deltas import CallExtra, ToolCall
from translator.wire.json_values import present, replace_lone_surrogates, utf8_size

MAX_NAME_CHARACTERS = 4096
"""How long a name may grow; each part copies all of it."""


class _Call:
    """One call, as far as it has come."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.arguments = Pieces()
        self.size = 0  # of the arguments, in characters
        self._extent = JsonExtent(self.arguments)

    @property
    def whole(self) -> bool:
        """Its arguments are a whole JSON value."""
        return self._extent.whole


class CallAssembler:
    """The calls of one answer, as far as they have come."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}  # the first of each id
        self._label_size = 0  # of all ids and names, in bytes

    @property
    def count(self) -> int:
        """How many calls have begun."""
        return len(self._calls)

    @property
    def size(self) -> int:
        """The bytes of all arguments, ids and names."""
        return self._label_size + sum(call.arguments.settle() for call in self._calls)

    @property
    def all_whole(self) -> bool:
        """There are calls, and each has whole arguments."""
        return bool(self._calls) and all(call.whole for call in self._calls)

    @property
    def nameless(self) -> bool:
        """A call has arguments, and no function name has come for them."""
        return any(call.arguments and not call.name for call in self._calls)

    def read(self, deltas: list[chat.ToolCallDelta]) -> list[ToolCall | CallExtra]:
        """The calls in one chunk as deltas of ours; `key` numbers the calls from 0."""
        several = len(deltas) > 1
        read: list[ToolCall | CallExtra] = []
        for position, delta in enumerate(deltas):
            function = delta.function or chat.FunctionDelta()
            name = replace_lone_surrogates(function.name or "")
            identity = replace_lone_surrogates(delta.id or "")
            index = delta.index
            if index is None and several:
                index = position
            call = self._call_for(index, identity, name)
            if identity and not call.id:
                call.id = identity
                self._by_id.setdefault(identity, call)
                self._label_size += utf8_size(identity)
            self._name(call, name, identity)
            read.append(_append(call, _arguments_text(function.arguments)))
            if present(delta.extra_content):
                read.append(CallExtra(call.key, delta.extra_content))
        return read

    def append_arguments(self, index: int | None, arguments: str) -> ToolCall | None:
        """The fast path: a delta of nothing but arguments; None when its call is not known yet."""
        if index is None:
            call = self._calls[-1]
        elif index in self._by_index:
            call = self._by_index[index]
        else:
            return None
        return _append(call, arguments)

    def _call_for(self, index: int | None, identity: str, name: str) -> _Call:
        if index is not None:
            call = self._by_index.get(index)
            begins = call is None or (name and identity and call.id not in ("", identity))
            return self._begin(index) if begins or call is None else call
        if identity:
            return self._by_id.get(identity) or self._begin(None)
        if not self._calls or (name and self._calls[-1].name and self._calls[-1].whole):
            return self._begin(None)
        return self._calls[-1]

    def _begin(self, index: int | None) -> _Call:
        call = _Call(len(self._calls))
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _name(self, call: _Call, name: str, identity: str) -> None:
        """A name comes once, or whole on every chunk, or (without an id) in parts."""
        if not name or name == call.name:
            return
        if not call.name:
            call.name = name
        elif not identity and not call.arguments and len(call.name) < MAX_NAME_CHARACTERS:
            call.name += name
        self._label_size += utf8_size(name)


def _append(call: _Call, arguments: str) -> ToolCall:
    if _is_repeat(call, arguments):
        arguments = ""
    if arguments:
        call.arguments.append(arguments)
        call.size += len(arguments)
    return ToolCall(call.key, call.id or None, call.name or None, arguments)


def _arguments_text(arguments: str | dict[str, Any] | None) -> str:
    if arguments is None:
        return ""
    if isinstance(arguments, str):
        return arguments
    return replace_lone_surrogates(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))


def _is_repeat(call: _Call, arguments: str) -> bool:
    """Some servers send a whole call again with the finish reason."""
    return (
        len(arguments) == call.size > 1
        and arguments[0] == "{"
        and call.whole
        and arguments == call.arguments.text()
    )
