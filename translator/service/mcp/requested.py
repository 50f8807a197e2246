"""A server that a request declares: its tools, and calls of them.

    list  = that of the server, or what the client has of it, within the same bounds ;
    call  = checked against the server's own list, run, told ;

Each list and call that fails is a line in the log, which names the server; it has nothing of what
the server says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from translator.common.hosted import Approved, McpListing, McpTool, Outcome
from translator.common.invalid import decode_at
from translator.common.mcp import McpDeclaration, call_of, own_error
from translator.common.web_search import arguments_of
from translator.request.mcp_history import PendingCall
from translator.service.base.ids import NewId
from translator.service.config.mcp import McpSection
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import ToolRan, ToolResult
from translator.wire.errors import TranslatorError
from translator.wire.json_values import as_object
from translator.wire.mcp import InputMcpListTools

from .failures import ConnectionBroke, McpFailed
from .listed import ToolList, in_words, within_bounds
from .room import McpRoom
from .servers import CallResult, Target
from .slots import CallSlots

log = logging.getLogger(__name__)


class ToolListFailed(TranslatorError):
    """424: the tools of a server that the request declares cannot be listed."""

    status_hint = 424
    type = "external_connector_error"

    def __init__(self, label: str, path: str, failure: McpFailed) -> None:
        what = f"Error retrieving tool list from MCP server: '{label}'."
        answered = failure.kind == "http_error" and not isinstance(failure, ConnectionBroke)
        status = f" Http status code: {failure.code}" if answered else ""
        words = f"{status} ({failure.message})" if status else f" {failure.message}"
        super().__init__(f"{what}{words}", param=path, code="http_error")


class RequestedServer:
    """A server in one request."""

    def __init__(
        self,
        room: McpRoom,
        slots: CallSlots,
        context: RequestContext,
        path: str,
        declared: McpDeclaration,
        target: Target,
        right: str,
    ) -> None:
        """`path` is that of the declaration; `right` is what its calls are charged as."""
        self._room = room
        self._slots = slots
        self._context = context
        self._path = path
        self._declared = declared
        self._target = target
        self.right = right

    @property
    def target(self) -> str:
        """What stands for its URL where a client approves of a call."""
        return self._declared.target

    async def listing(self, known: tuple[Raw, str] | None, new_id: NewId) -> McpListing:
        """Its tools: those of a list that the client has, else those that it has now.

        `known` is that list with its path. Raises ToolListFailed.
        """
        if known is not None:
            return await self._known(*known)
        item_id = new_id("mcpl_")
        try:
            listed = await self._list()
        except McpFailed as failure:
            if self._room.limits.list_failure == "fail":
                label = self._declared.server_label
                raise ToolListFailed(label, self._path, failure) from None
            return McpListing((), item_id, failure.message)
        return _listing(listed, item_id)

    async def _known(self, raw: Raw, path: str) -> McpListing:
        """A list that the client sends back, which serves for declaring alone.

        Where a hint decides on whether the client is asked, it is the server's own word.
        """
        listing = _listing(_of_client(raw, path, self._room.limits), "")
        if not self._declared.trusts_hints:
            return listing
        own: Mapping[str, bool | None] = {}
        with suppress(McpFailed):  # then it is asked
            own = {one.name: one.read_only for one in (await self._list()).tools}
        tools = tuple(replace(one, read_only=own.get(one.name)) for one in listing.tools)
        return replace(listing, tools=tools)

    async def _list(self) -> ToolList:
        began = time.perf_counter()
        limits = self._room.limits
        result: ToolResult = "left"
        try:
            async with self._slots.slot(self._target.owner, limits.list_timeout_s):
                listed = await self._room.servers.tools(self._target)
            result = "completed"
        except McpFailed as failure:
            result = "failed"
            self._failed("list", failure.kind, failure.code, began)
            raise
        finally:
            seconds = time.perf_counter() - began
            self._context.observer.on(ToolRan("mcp_list", result, seconds))
        return listed

    async def call(
        self, name: str, arguments: dict[str, Any], *, approved: bool = False
    ) -> Outcome:
        """What became of a call; a tool that may not be called, or is not there, is not called."""
        began = time.perf_counter()
        servers = self._room.servers
        try:
            seconds = self._room.limits.call_timeout_s
            async with self._slots.slot(self._target.owner, seconds):
                listed = await servers.tools(self._target)
                tool = next((one for one in listed.tools if one.name == name), None)
                known = None if tool is None else McpTool(name, "", Raw(b"{}"), tool.read_only)
                if tool is None or known is None or not self._declared.allows(known):
                    return refused_call("The server has no such tool, or it is not allowed.")
                if not approved and self._declared.asks(known):
                    return refused_call("Not run: the user has to approve of this call first.")
                result = await servers.call(
                    self._target, name, arguments, may_repeat=tool.idempotent
                )
        except McpFailed as failure:
            text = f"The tool failed: {failure.message}"
            result = CallResult(text, failure.as_error())
        if result.error is not None:
            self._failed("call", result.error["type"], result.error.get("code"), began)
        return outcome_of(result)

    def _failed(self, what: str, kind: str, status: int | None, began: float) -> None:
        """Log that a list or a call has failed; nothing of what the server says."""
        log.warning(
            "the %s of MCP server %r (%s) failed: %s%s, %d ms",
            what,
            self._declared.server_label,
            urlsplit(self._target.url).hostname,
            kind,
            "" if status is None else f" {status}",
            round(1000 * (time.perf_counter() - began)),
        )

    async def approved(self, pending: PendingCall, new_id: NewId) -> Approved:
        """A call that the client has approved of, with what became of it."""
        began = time.perf_counter()
        result: ToolResult = "left"
        try:
            outcome = await self._charged(pending)
            result = "failed" if outcome.failed else "completed"
        finally:
            self._context.observer.on(ToolRan("mcp", result, time.perf_counter() - began))
        return Approved(
            pending.id,
            # so that a store finds it for a second approval
            call_of(pending.id) if pending.kept else new_id("mcp_"),
            pending.server,
            pending.name,
            pending.arguments,
            outcome,
        )

    async def _charged(self, pending: PendingCall) -> Outcome:
        arguments = arguments_of(pending.arguments)
        if arguments is None:
            return refused_call("Not run: the arguments are not a JSON object.")
        try:
            charge = await self._context.charge_for_call(self.right)
        except TranslatorError as error:
            return refused_call(f"Not run: {error.message}")
        ran, self._context.runs_again = False, True
        try:
            outcome = await self.call(pending.name, arguments, approved=True)
            ran = not outcome.failed
        finally:
            charge.end(ran=ran)
        return outcome


def outcome_of(result: CallResult) -> Outcome:
    """What became of a call, for the response."""
    error = None if result.error is None else Raw(msgspec.json.encode(result.error))
    return Outcome((result.text,), failed=error is not None, error=error)


def refused_call(message: str) -> Outcome:
    """The outcome of a call that was not run, for the model."""
    return Outcome((message,), failed=True, error=own_error(message))


def _listing(listed: ToolList, item_id: str) -> McpListing:
    tools = (
        McpTool(
            one.name, one.description, Raw(msgspec.json.encode(one.input_schema)), one.read_only
        )
        for one in listed.tools
    )
    return McpListing(
        tuple(tools), item_id, left_out=listed.left_out, unusable=in_words(listed.unusable)
    )


def _of_client(raw: Raw, path: str, limits: McpSection) -> ToolList:
    """The tools of a list that a client sends, held to what servers are held to."""
    tools: list[dict[str, Any]] = []
    for one in decode_at(raw, InputMcpListTools, path).tools:
        hints = as_object(one.annotations) or {}
        tools.append(
            {
                "name": one.name,
                "description": one.description,
                "inputSchema": msgspec.json.decode(one.input_schema),
                "annotations": {"readOnlyHint": hints.get("read_only")},
            }
        )
    return within_bounds(tools, limits)
