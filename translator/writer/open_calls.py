"""Open calls: calls of tools that are still growing, one class for each form of item.

    opened()          the item is announced, empty
    arguments(text)   the events of the next part of its arguments, as the upstream sends them
    closed(status)    the rest, then the item; returns the item that stands in the response

The kind of the tool decides on the form (`open_call`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from translator.common.hosted import Outcome
from translator.common.json_text import StringArgument
from translator.common.pieces import Pieces
from translator.common.tool_parameters import INPUT_ARGUMENT
from translator.common.tools import Declared
from translator.wire import events, items
from translator.wire.events import Event
from translator.wire.json_values import NOT_JSON

from .open_items import Closing, Events, FinalStatus, Place


class _OpenCall:
    """A call that has begun; its text comes in parts."""

    __slots__ = ("_call_id", "_place", "_tool", "number", "texts")

    def __init__(self, place: Place, call_id: str, tool: Declared) -> None:
        self._place = place
        self._call_id = call_id
        self.number = place.number
        self._tool = tool
        self.texts = Pieces()
        """Its text so far."""

    def settle(self) -> None:
        """Join the pieces of its text."""
        self.texts.settle()


class _StreamedCall(_OpenCall):
    """A call of a function or of a free-form tool: its text is streamed."""

    __slots__ = ()

    kind: type[items.FunctionCall | items.CustomToolCall]

    def opened(self) -> Events:
        return (self._place.added(self._item("", "in_progress")),)

    def _done(self, text: str, status: FinalStatus) -> Closing:
        item = self._item(text, status)
        yield self._place.done(item)
        return item

    def _item(self, text: str, status: items.Status) -> items.FunctionCall | items.CustomToolCall:
        tool = self._tool
        namespace = UNSET if tool.namespace is None else tool.namespace
        place = self._place
        return self.kind(place.item_id, self._call_id, tool.name, text, status, namespace)


class OpenFunctionCall(_StreamedCall):
    """A function call: its arguments stream as the JSON text that they are."""

    __slots__ = ()

    kind = items.FunctionCall

    def arguments(self, text: str) -> list[Event]:
        self.texts.append(text)
        return [self.delta(self._place.number(), text)]

    def delta(self, number: int, text: str) -> Event:
        """The event of more arguments."""
        place = self._place
        return events.FunctionCallArgumentsDelta(number, place.item_id, place.output_index, text)

    def closed(self, status: FinalStatus) -> Closing:
        place, text = self._place, self.texts.text()
        yield events.FunctionCallArgumentsDone(
            place.number(), place.item_id, place.output_index, text, self._tool.name
        )
        return (yield from self._done(text, status))


class OpenCustomToolCall(_StreamedCall):
    """A free-form call: the text inside the one argument streams as plain text."""

    __slots__ = ("_argument",)

    kind = items.CustomToolCall

    def __init__(self, place: Place, call_id: str, tool: Declared) -> None:
        super().__init__(place, call_id, tool)
        self._argument = StringArgument(INPUT_ARGUMENT)

    def arguments(self, text: str) -> list[Event]:
        return self._input(self._argument.feed(text))

    def closed(self, status: FinalStatus) -> Closing:
        yield from self._input(self._argument.end())
        place, text = self._place, self.texts.text()
        yield events.CustomToolCallInputDone(
            place.number(), place.item_id, place.output_index, text
        )
        return (yield from self._done(text, status))

    def _input(self, text: str) -> list[Event]:
        if not text:
            return []
        self.texts.append(text)
        place = self._place
        return [
            events.CustomToolCallInputDelta(place.number(), place.item_id, place.output_index, text)
        ]


class OpenActionCall(_OpenCall):
    """A call whose arguments are fields of the item (a search, a command, a change of a file).

    There are no delta events for these in use by any client, and the item cannot be built before
    its fields are known: it is announced and closed in one go, when the arguments are whole.
    """

    __slots__ = ()

    def opened(self) -> Events:
        yield from ()

    def arguments(self, text: str) -> list[Event]:
        self.texts.append(text)
        return []

    def closed(self, status: FinalStatus) -> Closing:
        place, arguments = self._place, self.texts.text()
        item = self._item(arguments, status)
        if item is None:
            # The arguments do not fit the tool: the client sees what the model wrote.
            call = OpenFunctionCall(place, self._call_id, self._tool)
            yield from call.opened()
            yield from call.arguments(arguments)
            return (yield from call.closed(status))
        yield place.added(msgspec.structs.replace(item, status="in_progress"))
        yield place.done(item)
        return item

    def _item(
        self, arguments: str, status: FinalStatus
    ) -> (
        items.ToolSearchCall | items.LocalShellCall | items.ShellCall | items.ApplyPatchCall | None
    ):
        item_id, call_id = self._place.item_id, self._call_id
        body = arguments.encode()
        try:
            match self._tool.kind:
                case "tool_search":
                    fields = msgspec.json.decode(body, type=dict[str, Any])
                    encoded = Raw(msgspec.json.encode(fields))
                    return items.ToolSearchCall(item_id, call_id, encoded, status)
                case "local_shell":
                    action = msgspec.json.decode(body, type=_LocalShellArguments)
                    return items.LocalShellCall(
                        item_id,
                        call_id,
                        items.LocalShellAction(
                            action.command,
                            action.env or {},
                            action.timeout_ms,
                            None,
                            action.working_directory,
                        ),
                        status,
                    )
                case "shell":
                    shell = msgspec.json.decode(body, type=items.ShellAction)
                    return items.ShellCall(item_id, call_id, shell, status)
                case _:
                    operation = msgspec.json.decode(body, type=items.FileOperation)
                    return items.ApplyPatchCall(item_id, call_id, operation, status)
        except NOT_JSON:
            return None


class OpenHostedCall(_OpenCall, ABC):
    """A call of a hosted tool: it stays open while the tool runs.

    `outcome` is set before it is closed; None: it did not run.
    """

    __slots__ = ("_runs", "outcome")

    def __init__(self, place: Place, call_id: str, tool: Declared) -> None:
        super().__init__(place, call_id, tool)
        self.outcome: Outcome | None = None
        self._runs = False  # and its events say so

    @abstractmethod
    def opened(self) -> Events: ...

    @abstractmethod
    def arguments(self, text: str) -> list[Event]: ...

    def running(self) -> Events:
        """The events of its beginning to run, once."""
        if not self._runs:
            self._runs = True
            yield from self._running()

    def closed(self, status: FinalStatus) -> Closing:
        del status  # that of the outcome is
        if self.outcome is not None:
            yield from self.running()
        return (yield from self._closed(self.outcome))

    @abstractmethod
    def _running(self) -> Events: ...

    @abstractmethod
    def _closed(self, outcome: Outcome | None) -> Closing: ...


class _LocalShellArguments(Struct, frozen=True):
    command: list[str]
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    working_directory: str | None = None


OpenCall = OpenFunctionCall | OpenCustomToolCall | OpenActionCall | OpenHostedCall


def open_call(place: Place, call_id: str, tool: Declared) -> OpenCall:
    """The open item for a call of a tool of this kind."""
    match tool.kind:
        case "function":
            return OpenFunctionCall(place, call_id, tool)
        case "custom":
            return OpenCustomToolCall(place, call_id, tool)
        case _:
            return OpenActionCall(place, call_id, tool)


ITEM_ID_PREFIXES = {
    "function": "fc_",
    "custom": "ctc_",
    "tool_search": "tsc_",
    "local_shell": "lsh_",
    "shell": "sh_",
    "apply_patch": "apc_",
}
"""Prefixes of the ids of calls, by the tool's kind; some test suites check them."""
