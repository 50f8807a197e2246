"""Call assembler: assigns the deltas of tool calls to the calls of an answer.

Upstreams disagree on every key of a delta. `index` may be missing, always 0, or begin anywhere; ids
may be missing, empty, repeated on every chunk, or shared by two calls; names may come late, in
parts, growing, again and again. The rules, in order:

    1. A delta with an index belongs to the call of that index; where it has the id of another call
       and a name, to that one (servers that always send index 0).
    2. Without an index: the position counts when several deltas come together; else the id; else
       the last call.
    3. But another call begins there with a name and a new id; with a name when the arguments of
       that call are whole and more come, or end with another tool's name.
    4. A name that begins with the one so far replaces it; any other part is joined to it. The
       declared tools decide where both could be meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from translator.common.json_text import JsonExtent
from translator.common.pieces import Pieces
from translator.wire import chat
from translator.wire.deltas import CallExtra, ToolCall
from translator.wire.json_values import NOT_JSON, present, replace_lone_surrogates, utf8_size

MAX_NAME_CHARACTERS = 4096
"""How long a name may grow; each part copies all of it."""


class _Call:
    """One call, as far as it has come."""

    __slots__ = ("_extent", "arguments", "id", "key", "name", "next_name", "size")

    def __init__(self, key: int) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.arguments = Pieces()
        self.size = 0  # of the arguments, in characters
        self.next_name = ""  # came when the arguments had; another call's, if more of them come
        self._extent = JsonExtent(self.arguments)

    @property
    def whole(self) -> bool:
        """Its arguments are a whole JSON value."""
        return self._extent.whole

    @property
    def cut(self) -> bool:
        """Its arguments stop in the middle of a JSON object."""
        return self._extent.cut


class CallAssembler:
    """The calls of one answer, as far as they have come."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_declares", "_label_size", "unsettled")

    def __init__(self, declares: Callable[[str], bool] = lambda name: False) -> None:
        """`declares(name)` tells whether a function was offered to the model."""
        self._declares = declares
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}  # the latest of each id
        self.unsettled = False
        """Whether a name has come that may begin another call, if arguments follow."""
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
        """Each call has whole arguments."""
        return all(call.whole for call in self._calls)

    @property
    def cut(self) -> bool:
        """A call stops in the middle of its arguments."""
        return any(call.cut for call in self._calls)

    @property
    def nameless(self) -> bool:
        """A call has arguments, and no function name has come for them."""
        return any(call.arguments and not call.name for call in self._calls)

    def read(self, deltas: list[chat.ToolCallDelta]) -> list[ToolCall | CallExtra]:
        """The calls in one chunk as deltas of ours; `key` numbers the calls from 0."""
        several = len(deltas) > 1
        self.unsettled = False
        read: list[ToolCall | CallExtra] = []
        for position, delta in enumerate(deltas):
            function = delta.function or chat.FunctionDelta()
            name = replace_lone_surrogates(function.name or "")
            identity = replace_lone_surrogates(delta.id or "")
            arguments = _arguments_text(function.arguments)
            index = delta.index
            if index is None and several:
                index = position
            call = self._known(index, identity, name)
            anchored = index is not None or bool(identity)
            if anchored and call is not None and name == call.name and _says_again(call, arguments):
                arguments = ""
            if call is None or self._begins_another(call, name, arguments, anchored=anchored):
                name = name or ("" if call is None else call.next_name)
                call = self._begin(index)
            if identity and not call.id:
                call.id = identity
                self._by_id[identity] = call
                self._label_size += utf8_size(identity)
            self._name(call, name, identity)
            read.append(_append(call, arguments))
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

    def adds_arguments(self, key: int, index: int | None, arguments: str) -> bool:
        """Append the arguments of such a delta, if it is one of the call with this key.

        Not where they are the whole call again.
        """
        call = self._calls[-1] if index is None else self._by_index.get(index)
        if call is None or call.key != key or _is_repeat(call, arguments):
            return False
        call.arguments.append(arguments)
        call.size += len(arguments)
        return True

    def _known(self, index: int | None, identity: str, name: str) -> _Call | None:
        """The call at the place of a delta; None where it begins one."""
        if index is None:
            last = self._calls[-1] if self._calls else None
            return self._by_id.get(identity) if identity else last
        call = self._by_index.get(index)
        if call is not None and identity and call.id not in ("", identity):
            return self._by_id.get(identity) or (None if name else call)
        return call

    def _begins_another(self, call: _Call, name: str, arguments: str, *, anchored: bool) -> bool:
        """Whether a delta at the place of a call begins another one.

        `anchored`: the delta has an index or an id, with which the same call could come again.
        """
        opens = arguments.lstrip().startswith("{")
        if not name:
            return (
                opens and bool(call.next_name) and call.whole and not _says_again(call, arguments)
            )
        if not call.name:
            return False
        other = name != call.name
        declared = other and self._declares(name)
        if not call.arguments:
            grows = name.startswith(call.name) or self._declares(call.name + name)
            return declared and not grows and self._declares(call.name)
        if (other or opens or not anchored) and call.whole:
            if not anchored or opens or declared or (other and arguments.strip()):
                return True
        elif declared and not name.startswith(call.name) and self._declares(call.name):
            return True
        call.next_name = "" if arguments.strip() else name
        self.unsettled = self.unsettled or bool(call.next_name)
        return False

    def _begin(self, index: int | None) -> _Call:
        call = _Call(len(self._calls))
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _name(self, call: _Call, name: str, identity: str) -> None:
        """A name comes once, whole on every chunk, growing, or in parts."""
        if not name or name == call.name:
            return
        if not call.name:
            call.name = name
        elif not call.arguments and len(call.name) < MAX_NAME_CHARACTERS:
            call.name = self._joined(call.name, name, identity)
        self._label_size += utf8_size(name)

    def _joined(self, before: str, name: str, identity: str) -> str:
        joined = before + name
        grows = name.startswith(before)
        if self._declares(joined) and not (grows and self._declares(name)):
            return joined
        if grows or self._declares(name):
            return name
        # With an id the name is whole, most of the time.
        return before if identity and self._declares(before) else joined


def _append(call: _Call, arguments: str) -> ToolCall:
    if _is_repeat(call, arguments):
        arguments = ""
    if arguments:
        call.arguments.append(arguments)
        call.size += len(arguments)
    return ToolCall(call.key, call.id or None, call.name or None, arguments)


def _says_again(call: _Call, arguments: str) -> bool:
    """Whether whole arguments come again, whatever their white space."""
    if not (arguments.lstrip().startswith("{") and call.whole):
        return False
    before = call.arguments.text()
    try:
        return arguments == before or _value(arguments) == _value(before)
    except NOT_JSON:
        return False


def _value(text: str) -> object:
    return msgspec.json.decode(text.encode("utf-8", "surrogatepass"))


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
