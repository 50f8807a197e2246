"""Items of MCP tools: open calls and requests for approval, and what a response begins with.

first = { list of a server's tools }, { call that the client has approved of } ;
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import UNSET, Raw
from msgspec.structs import replace

from translator.common.hosted import Approved, HostedFunction, McpListing, Outcome
from translator.common.mcp import McpDeclaration, allowed_tools, own_error
from translator.common.tools import Declared, Toolset
from translator.wire import mcp
from translator.wire.events import Event
from translator.wire.items import OutputItem

from .open_calls import OpenHostedCall
from .open_items import Closing, Events, Place


class OpenMcpCall(OpenHostedCall):
    """A call of a server's tool: its arguments stream, and its outcome comes at the end."""

    __slots__ = ("_function",)

    def __init__(
        self, place: Place, call_id: str, tool: Declared, function: HostedFunction
    ) -> None:
        super().__init__(place, call_id, tool)
        self._function = function

    def opened(self) -> Events:
        place = self._place
        yield place.added(_call(place.item_id, self._function))
        yield mcp.McpCallInProgress(place.number(), place.output_index, place.item_id)

    def arguments(self, text: str) -> list[Event]:
        place = self._place
        self.texts.append(text)
        delta = mcp.McpCallArgumentsDelta(place.number(), place.output_index, place.item_id, text)
        return [delta]

    def _running(self) -> Events:
        place = self._place
        yield mcp.McpCallArgumentsDone(
            place.number(), place.output_index, place.item_id, self.texts.text()
        )

    def _closed(self, outcome: Outcome | None) -> Closing:
        return (yield from _end(self._place, self._function, self.texts.text(), outcome))


class OpenMcpApproval(OpenHostedCall):
    """A call that the client has to approve of: its item shows when it is whole.

    One that cannot be run in any case is a failed call, and nobody is asked.
    """

    __slots__ = ("_function",)

    def __init__(
        self, place: Place, call_id: str, tool: Declared, function: HostedFunction
    ) -> None:
        super().__init__(place, call_id, tool)
        self._function = function

    def opened(self) -> Events:
        yield from ()

    def arguments(self, text: str) -> list[Event]:
        self.texts.append(text)
        return []

    def _running(self) -> Events:
        yield from ()

    def _closed(self, outcome: Outcome | None) -> Closing:
        place, text = self._place, self.texts.text()
        if outcome is not None and outcome.asks:
            function = self._function
            item = mcp.McpApprovalRequest(place.item_id, function.server, function.name, text)
            yield place.added(item)
            yield place.done(item)
            return item
        place = replace(place, item_id=place.item_id.replace("mcpr_", "mcp_", 1))
        return (yield from _whole(place, self._function, text, outcome, None))


def first_items(tools: Toolset, place: Callable[[str], Place]) -> Iterator[Closing]:
    """The items that a response begins with; `place(id)` is the place of the next one."""
    for label, declaration in tools.mcp.items():
        listing = tools.listing(label)
        if listing.item_id:
            yield _list(place(listing.item_id), declaration, listing)
    for call in tools.approved:
        if call.item_id:
            yield _approved(place(call.item_id), call)


def _list(place: Place, declaration: McpDeclaration, listing: McpListing) -> Closing:
    label = declaration.server_label
    at = place.output_index, place.item_id
    yield place.added(mcp.McpListTools(place.item_id, label, []))
    yield mcp.McpListToolsInProgress(place.number(), *at)
    if listing.error:
        yield mcp.McpListToolsFailed(place.number(), *at)
    else:
        yield mcp.McpListToolsCompleted(place.number(), *at)
    shown = [
        mcp.McpListedTool(
            tool.name,
            tool.input_schema,
            tool.description or UNSET,
            UNSET if tool.read_only is None else mcp.McpAnnotations(tool.read_only),
        )
        for tool in allowed_tools(declaration, listing)
    ]
    item = mcp.McpListTools(place.item_id, label, shown, listing.error or UNSET)
    yield place.done(item)
    return item


def _approved(place: Place, call: Approved) -> Closing:
    function = HostedFunction("mcp", call.server, call.name)
    return (yield from _whole(place, function, call.arguments, call.outcome, call.id))


def _whole(
    place: Place,
    function: HostedFunction,
    arguments: str,
    outcome: Outcome | None,
    approval: str | None,
) -> Closing:
    """All events of a call whose outcome is known."""
    at = place.output_index, place.item_id
    yield place.added(_call(place.item_id, function, approval=approval))
    yield mcp.McpCallInProgress(place.number(), *at)
    yield mcp.McpCallArgumentsDelta(place.number(), *at, arguments)
    yield mcp.McpCallArgumentsDone(place.number(), *at, arguments)
    return (yield from _end(place, function, arguments, outcome, approval))


def _end(
    place: Place,
    function: HostedFunction,
    arguments: str,
    outcome: Outcome | None,
    approval: str | None = None,
) -> Closing:
    """The events of a call's end; without an outcome it was not run."""
    at = place.output_index, place.item_id
    status: mcp.McpCallStatus = "incomplete"
    output: str | None = None
    error: Raw | None = None
    if outcome is not None:
        text = "".join(one for one in outcome.output if isinstance(one, str))
        if outcome.failed:
            status, error = "failed", outcome.error or own_error(text)
            yield mcp.McpCallFailed(place.number(), *at)
        else:
            status, output = "completed", text
            yield mcp.McpCallCompleted(place.number(), *at)
    item = mcp.McpCall(
        place.item_id,
        status,
        function.server,
        function.name,
        arguments,
        approval,
        output,
        error,
    )
    yield place.done(item)
    return item


def _call(item_id: str, function: HostedFunction, approval: str | None = None) -> OutputItem:
    return mcp.McpCall(
        item_id, "in_progress", function.server, function.name, approval_request_id=approval
    )
