"""Items and events of hosted MCP tools: the tools of a server, calls of them, and approvals.

    list     = OutputItemAdded, McpListToolsInProgress, McpListToolsCompleted | McpListToolsFailed,
               OutputItemDone ;
    call     = OutputItemAdded, McpCallInProgress, { McpCallArgumentsDelta }, McpCallArgumentsDone,
               McpCallCompleted | McpCallFailed, OutputItemDone ;
    approval = OutputItemAdded, OutputItemDone ;      the same item twice

In a list, null is not absent: the AI SDK takes a null for an invalid answer. In a call every field
is always there.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

McpCallStatus = Literal["in_progress", "calling", "completed", "incomplete", "failed"]


class McpAnnotations(Struct, frozen=True):
    """What a server hints at about a tool, in the API's own words."""

    read_only: bool


class McpListedTool(Struct, frozen=True):
    """A tool of a server."""

    name: str
    input_schema: Raw
    description: str | UnsetType = UNSET
    annotations: McpAnnotations | UnsetType = UNSET


class McpListTools(Struct, frozen=True, tag_field="type", tag="mcp_list_tools"):
    """The tools of a server, as far as they may be called."""

    id: str
    server_label: str
    tools: list[McpListedTool]
    error: str | UnsetType = UNSET
    """Why they could not be listed."""


class McpCall(Struct, frozen=True, tag_field="type", tag="mcp_call"):
    """A call of a server's tool, run by the service; it ends with an output or an error."""

    id: str
    status: McpCallStatus
    server_label: str
    name: str
    arguments: str = ""
    approval_request_id: str | None = None
    output: str | None = None
    error: Raw | None = None


class McpApprovalRequest(Struct, frozen=True, tag_field="type", tag="mcp_approval_request"):
    """A call that is run when the client approves of it."""

    id: str
    server_label: str
    name: str
    arguments: str


# --- input items ------------------------------------------------------------------------------


class InputMcpListTools(Struct, frozen=True):
    """A list of an earlier answer: it is not asked for again."""

    server_label: str
    tools: list[InputMcpListedTool] = []
    error: Any = None


class InputMcpListedTool(Struct, frozen=True):
    """A tool in such a list, as clients send it back."""

    name: str
    input_schema: Raw = Raw(b"{}")
    description: str | None = None
    annotations: Any = None


class InputMcpCall(Struct, frozen=True):
    """A call that was run for an earlier answer."""

    name: str
    arguments: str | None = None
    server_label: str | None = None
    output: str | None = None
    error: Raw | UnsetType = UNSET
    id: str | None = None
    approval_request_id: str | None = None


class InputMcpApprovalRequest(Struct, frozen=True):
    """A request of an earlier answer."""

    id: str
    server_label: str
    name: str
    arguments: str | None = None


class InputMcpApprovalResponse(Struct, frozen=True):
    """What the client says to such a request."""

    approval_request_id: str
    approve: bool
    reason: str | None = None


# --- events -----------------------------------------------------------------------------------


class _ItemEvent(Struct, frozen=True, tag_field="type"):
    sequence_number: int
    output_index: int
    item_id: str


class McpListToolsInProgress(_ItemEvent, frozen=True, tag="response.mcp_list_tools.in_progress"):
    """The tools are being listed."""


class McpListToolsCompleted(_ItemEvent, frozen=True, tag="response.mcp_list_tools.completed"):
    """The tools have been listed."""


class McpListToolsFailed(_ItemEvent, frozen=True, tag="response.mcp_list_tools.failed"):
    """The tools could not be listed."""


class McpCallInProgress(_ItemEvent, frozen=True, tag="response.mcp_call.in_progress"):
    """A tool is called."""


class McpCallArgumentsDelta(_ItemEvent, frozen=True, tag="response.mcp_call_arguments.delta"):
    """More of the arguments of a call."""

    delta: str


class McpCallArgumentsDone(_ItemEvent, frozen=True, tag="response.mcp_call_arguments.done"):
    """All arguments of a call."""

    arguments: str


class McpCallCompleted(_ItemEvent, frozen=True, tag="response.mcp_call.completed"):
    """A call has ended well."""


class McpCallFailed(_ItemEvent, frozen=True, tag="response.mcp_call.failed"):
    """A call has not ended well."""


McpEvent = (
    McpListToolsInProgress
    | McpListToolsCompleted
    | McpListToolsFailed
    | McpCallInProgress
    | McpCallArgumentsDelta
    | McpCallArgumentsDone
    | McpCallCompleted
    | McpCallFailed
)
