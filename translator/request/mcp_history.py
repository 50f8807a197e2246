"""The history of MCP tools: calls that ran, and calls that waited for the client to approve.

    mcp_call                                    ──►  call, result
    mcp_approval_request                        ──►  call, what became of it
    sealed reasoning with a call that waited    ──►  the same

What became of a call that waited is said later: by the item of the call, by the seal of the
response that has run it, by this response, or by the client's answer. An item whose call a seal
holds, too, is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct, UnsetType

from translator.common.hosted import Approved, Outcome, RanRound
from translator.common.invalid import decode_at
from translator.common.sealed import Thought, unseal
from translator.common.tools import Toolset
from translator.wire import items
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import as_list, as_object, as_string, present
from translator.wire.mcp import (
    InputMcpApprovalRequest,
    InputMcpApprovalResponse,
    InputMcpCall,
)

from .items_read import MCP_OUTPUT, Awaited, Call, InputItem, Message, Result

KINDS = frozenset({"mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response"})
MAX_CALLS = 1000
"""Most calls that one request approves of."""

UNANSWERED = "Not run: the user has not answered yet whether to approve of this call."
LOST = "This call was run, but its output is not known any more."


class PendingCall(Struct, frozen=True):
    """A call that the client approves of, and that has not been run.

    `path` is that of the approval in the request. `arguments` are those that the client was asked
    about. `target` stands for the server that they were for; empty where nothing but the client
    tells. `kept`: the program has the request itself.
    """

    id: str
    server: str
    name: str
    arguments: str
    path: str
    target: str = ""
    kept: bool = False


class _Request(NamedTuple):
    """A request for approval."""

    server: str
    name: str
    arguments: str
    target: str = ""


class _Requests:
    """The requests for approval that are known, and what became of them."""

    def __init__(self) -> None:
        self.kept: dict[str, _Request] = {}
        self.sealed: dict[str, _Request] = {}
        self.shown: dict[str, _Request] = {}
        self.ran: set[str] = set()
        self.calls: dict[str, InputMcpCall] = {}  # that the program has kept, by their approval

    def __contains__(self, approval: str) -> bool:
        return approval in self.kept or approval in self.sealed or approval in self.shown

    def read(self, raw: Raw, kind: str | None, encrypted: str | None, path: str) -> None:
        """Take an item of the context; its path is empty where the program has kept it."""
        if kind == "mcp_approval_request":
            one = decode_at(raw, InputMcpApprovalRequest, path or "input")
            asked = _Request(one.server_label, one.name, one.arguments or "{}")
            known = self.shown if path else self.kept
            known.setdefault(one.id, asked)
        elif kind == "mcp_call":
            call = decode_at(raw, InputMcpCall, path or "input")
            approval = call.approval_request_id or ""
            self.ran.add(approval)
            if not path:
                self.calls[approval] = call
        elif kind == "reasoning" and encrypted:
            self._unsealed(encrypted)

    def _unsealed(self, blob: str) -> None:
        """Take the calls that waited when reasoning was sealed, and those that were answered."""
        thought: Thought | None = unseal(blob)
        if thought is None or isinstance(thought.ran, UnsetType):
            return
        for call in thought.ran.calls:
            if not isinstance(call.asked, UnsetType):
                one = call.asked
                asked = _Request(one.server, one.name, call.arguments, one.target)
                self.sealed.setdefault(one.id, asked)
        self.ran |= thought.ran.approved.keys()

    def pending(self) -> Iterator[tuple[str, _Request]]:
        """The requests as they are to be run: as they were kept, else as the seal says."""
        for approval in {**self.kept, **self.sealed, **self.shown}:
            sealed = self.sealed.get(approval)
            found = self.kept.get(approval) or sealed or self.shown[approval]
            yield approval, found._replace(target=sealed.target if sealed else "")


class _Entry(NamedTuple):
    """The call of an item, and where it belongs among those that were read."""

    item_id: str
    at: int
    call: Call
    result: Result
    approval: str


class McpHistory:
    """The items of MCP tools in one input."""

    def __init__(self, tools: Toolset) -> None:
        self._tools = tools
        self._entries: list[_Entry] = []
        self._covered: set[str] = set()
        self._asked: set[str] = set()
        self._outputs = {one.id: one.output for one in tools.approved}
        self._answers: dict[str, InputMcpApprovalResponse] = {}

    def read(self, raw: Raw, kind: str, path: str, at: int) -> Message | None:
        """Read an item; a call of a server that is not declared is a message."""
        match kind:
            case "mcp_call":
                call = decode_at(raw, InputMcpCall, path)
                if call.server_label not in self._tools.mcp:
                    return remote_call(call, path)
                self._ran(call, path, at)
            case "mcp_approval_request":
                asked = decode_at(raw, InputMcpApprovalRequest, path)
                self._asked.add(asked.id)
                called = self._call(asked.id, asked.server_label, asked.name, asked.arguments, path)
                result = Awaited(asked.id, "", MCP_OUTPUT, path, asked.id)
                self._entries.append(_Entry(asked.id, at, called, result, asked.id))
            case "mcp_approval_response":
                answer = decode_at(raw, InputMcpApprovalResponse, path)
                self._answers[answer.approval_request_id] = answer
            case _:
                pass  # a list declares nothing by itself
        return None

    def _ran(self, item: InputMcpCall, path: str, at: int) -> None:
        output = _output(item)
        if item.approval_request_id:
            self._outputs.setdefault(item.approval_request_id, output)
        call_id = item.id or path
        call = self._call(call_id, item.server_label or "", item.name, item.arguments, path)
        result = Result(call_id, output, MCP_OUTPUT, path)
        entry = _Entry(item.id or "", at, call, result, item.approval_request_id or "")
        self._entries.append(entry)

    def _call(self, call_id: str, server: str, name: str, arguments: str | None, path: str) -> Call:
        return Call(call_id, self._tools.hosted_name(server, name), arguments or "{}", path)

    def sealed(self, ran: RanRound) -> None:
        """Take what a seal tells of calls."""
        for one in ran.calls:
            if one.item:
                self._covered.add(one.item)
            if not isinstance(one.asked, UnsetType):
                self._covered.add(one.asked.id)
                self._asked.add(one.asked.id)
        for approval, output in ran.approved.items():
            self._outputs.setdefault(approval, output)

    def settle(self, read: list[InputItem]) -> list[tuple[int, int]]:
        """Put the calls of items in their places, and say what became of those that waited.

        Returns where items were put, and how many.
        """
        put: list[tuple[int, int]] = []
        wanted = [one for one in self._entries if self._needs(one)]
        while wanted:
            at = wanted[-1].at
            group = [one for one in wanted if one.at == at]
            del wanted[-len(group) :]
            read[at:at] = [*(one.call for one in group), *(one.result for one in group)]
            put.append((at, 2 * len(group)))
        if self._asked:
            read[:] = [self._answered(one) if isinstance(one, Awaited) else one for one in read]
        return put

    def _needs(self, entry: _Entry) -> bool:
        if entry.item_id and entry.item_id in self._covered:
            return False
        return isinstance(entry.result, Awaited) or entry.approval not in self._asked

    def _answered(self, waited: Awaited) -> Result:
        """The result of a call that waited."""
        text = self._outputs.get(waited.approval)
        if text is None:
            answer = self._answers.get(waited.approval)
            text = UNANSWERED if answer is None else LOST
            if answer is not None and not answer.approve:
                text = "Not run: the user did not approve of this call."
                text += f" Reason: {answer.reason}" if answer.reason else ""
        return Result(waited.call_id, text, waited.noun, waited.path)


def remote_call(call: InputMcpCall, path: str) -> Message:
    """A call of an unknown server as text, since it cannot be repeated as a call."""
    server = f"{call.server_label}." if call.server_label else ""
    lines = [f"[called {server}{call.name} with {call.arguments or '{}'}]"]
    if call.output is not None:
        lines.append(f"[result: {call.output}]")
    if present(call.error):
        lines.append(f"[error: {bytes(call.error).decode()}]")
    return Message("assistant", "\n".join(lines), path)


def _output(item: InputMcpCall) -> str:
    """What the model has read of a call; of an error, its words."""
    if item.output is not None:
        return item.output
    error = msgspec.json.decode(item.error) if present(item.error) else None
    fields = as_object(error) or {}
    content = (as_object(one) or {} for one in as_list(fields.get("content")) or ())
    texts = [text for one in content if (text := as_string(one.get("text")))]
    message = as_string(fields.get("message")) or as_string(error)
    return "\n".join(texts) or (f"The tool failed: {message}" if message else "The tool failed.")


# --- approvals --------------------------------------------------------------------------------


class _ItemHead(Struct, frozen=True):
    type: str | None = None
    role: str | None = None
    encrypted_content: str | None = None


_OF_MODEL = frozenset(
    {"reasoning", "function_call", "custom_tool_call", "mcp_call", "web_search_call"}
)
"""Items that a model's answer has: what stands before them was answered already."""

_MARK = b"mcp_approval_response"


def pending_calls(
    given: str | Sequence[Raw] | None, earlier: Iterable[Raw]
) -> tuple[list[PendingCall], list[Approved]]:
    """The calls that the input approves of: those to run, and those that ran for an earlier one.

    They are in the order of the requests. `earlier` are items that the program has kept: those
    before the input, and what belongs to it. Raises InvalidRequest for an approval of what was not
    asked, or a second one of the same.
    """
    source: Sequence[Raw] = [] if given is None or isinstance(given, str) else given
    if not any(_MARK in bytes(raw) for raw in source):
        return [], []
    asked = _Requests()
    answers: dict[str, tuple[InputMcpApprovalResponse, str]] = {}
    known = [(raw, "") for raw in earlier]
    known += [(raw, f"input[{index}]") for index, raw in enumerate(source)]
    for raw, path in known:
        head = decode_at(raw, _ItemHead, path or "input")
        asked.read(raw, head.type, head.encrypted_content, path)
        if head.type == "mcp_approval_response" and path:
            answer = decode_at(raw, InputMcpApprovalResponse, path)
            if answer.approval_request_id in answers:
                message = f"The approval request '{answer.approval_request_id}' is answered twice."
                raise _invalid(message, path)
            answers[answer.approval_request_id] = (answer, path)
        if head.type in _OF_MODEL or head.role == "assistant":
            asked.ran |= answers.keys()
    for approval, (_, path) in answers.items():
        if approval not in asked:
            raise _invalid(f"No approval request with id '{approval}'.", path)
    approved = [one for one in answers if answers[one][0].approve]
    pending = [
        PendingCall(
            approval,
            one.server,
            one.name,
            one.arguments,
            answers[approval][1],
            one.target,
            kept=approval in asked.kept,
        )
        for approval, one in list(asked.pending())[-MAX_CALLS:]
        if approval in approved and approval not in asked.ran
    ]
    return pending, [_again(one, asked.calls[one]) for one in approved if one in asked.calls]


def _again(approval: str, call: InputMcpCall) -> Approved:
    """A call that ran for an earlier approval, as the model reads it; an earlier item shows it."""
    outcome = Outcome((_output(call),), failed=call.output is None)
    return Approved(
        approval, "", call.server_label or "", call.name, call.arguments or "{}", outcome
    )


def listed_in(
    given: str | Sequence[Raw] | None, earlier: Iterable[Raw]
) -> dict[str, tuple[Raw, str]]:
    """The lists of tools in an input and before it, with their paths, by their servers' labels."""
    source: Sequence[Raw] = [] if given is None or isinstance(given, str) else given
    found: dict[str, tuple[Raw, str]] = {}
    known = [(raw, "input") for raw in earlier]
    known += [(raw, f"input[{index}]") for index, raw in enumerate(source)]
    for raw, path in known:
        if b'"mcp_list_tools"' not in bytes(raw):
            continue
        head = decode_at(raw, items.Head, path)
        if head.type == "mcp_list_tools":
            fields = as_object(msgspec.json.decode(raw)) or {}
            label = as_string(fields.get("server_label"))
            if label is not None and not fields.get("error"):
                found[label] = raw, path
    return found


def _invalid(message: str, path: str) -> InvalidRequest:
    return InvalidRequest(message, param=f"{path}.approval_request_id", code="invalid_value")
