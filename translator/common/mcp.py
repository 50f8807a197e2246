"""The hosted `mcp` tool: its declaration, which tools of a server it lets be called, and how.

    { type: "mcp", server_label, … }, the server's tools  ──►  one function for each allowed tool

The function's name has the label in front, as a namespace has. Whether the client has to approve of
a call is the declaration's; without a word of it, it has to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from translator.wire.errors import InvalidRequest
from translator.wire.json_values import decode_members
from translator.wire.notices import Notice

from .hosted import HostedFunction, McpListing, McpTool
from .invalid import decode_at
from .tool_secrets import public_url

MAX_LABEL_CHARACTERS = 64
REFUSED = -32000
"""The code of what this service refuses, among those that JSON-RPC leaves to servers."""

_LABEL = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_NOT_SENT = re.compile(
    r"mcp-.*|host|content-length|content-type|accept|accept-encoding|connection|keep-alive"
    r"|proxy-.*|te|trailer|transfer-encoding|upgrade|x-translator-hops",
    re.IGNORECASE,
)
"""Headers that belong to the connection, or to the protocol."""


class ToolFilter(Struct, frozen=True):
    """Some tools of a server: by their names, by the server's hint, or by both.

    One that says neither is an error: it would match all tools, where a name was mistyped.
    """

    tool_names: list[str] | UnsetType = UNSET
    read_only: bool | None = None

    def matches(self, tool: McpTool) -> bool:
        named = isinstance(self.tool_names, UnsetType) or tool.name in self.tool_names
        return named and self.read_only in (None, bool(tool.read_only))


class ApprovalRule(Struct, frozen=True):
    """Which calls the client has to approve of; in doubt each."""

    always: ToolFilter | None = None
    never: ToolFilter | None = None

    def asks(self, tool: McpTool) -> bool:
        if self.always is not None and self.always.matches(tool):
            return True
        return self.never is None or not self.never.matches(tool)


class McpDeclaration(Struct, frozen=True):
    """The declaration. Its URL, authorization and headers are secrets, left out of its `repr`."""

    server_label: str
    server_url: str | None = None
    connector_id: str | None = None
    tunnel_id: str | None = None
    authorization: str | None = None
    headers: dict[str, str] | None = None
    allowed_tools: list[str] | ToolFilter | None = None
    require_approval: Literal["always", "never"] | ApprovalRule | None = None
    server_description: str | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None

    def __repr__(self) -> str:
        return f"McpDeclaration({self.server_label!r})"

    def allows(self, tool: McpTool) -> bool:
        """Whether a tool may be called."""
        allowed = self.allowed_tools
        if allowed is None:
            return True
        return allowed.matches(tool) if isinstance(allowed, ToolFilter) else tool.name in allowed

    def asks(self, tool: McpTool) -> bool:
        """Whether the client has to approve of each call of a tool."""
        rule = self.require_approval
        return rule.asks(tool) if isinstance(rule, ApprovalRule) else rule != "never"

    @property
    def trusts_hints(self) -> bool:
        """Whether the client is asked or not by what the server hints at of a tool."""
        rule = self.require_approval
        filters = (rule.always, rule.never) if isinstance(rule, ApprovalRule) else ()
        return any(one is not None and one.read_only is not None for one in filters)

    @property
    def target(self) -> str:
        """What stands for its URL, without the secrets in it; where it has none, its label does."""
        if self.server_url is None:
            return "label"
        return hashlib.sha256(public_url(self.server_url).encode()).hexdigest()[:16]

    @property
    def sent_headers(self) -> dict[str, str]:
        """The headers for the server, in lower case, with the authorization."""
        sent = {name.lower(): value for name, value in (self.headers or {}).items()}
        if self.authorization:
            has_scheme = " " in self.authorization.strip()
            sent["authorization"] = (
                self.authorization if has_scheme else f"Bearer {self.authorization}"
            )
        return sent


_KNOWN = frozenset({"type", *McpDeclaration.__struct_fields__})
_NOT_DONE = ("defer_loading", "allowed_callers")


class McpFunction(Struct, frozen=True):
    """A tool of a server as it is declared to the model."""

    function: HostedFunction
    description: str
    parameters: Raw


def read_declaration(raw: Raw, path: str, notices: list[Notice]) -> McpDeclaration:
    """The declaration at a path. Raises InvalidRequest, which quotes none of its secrets."""
    tool = decode_at(raw, McpDeclaration, path)
    given = decode_members(raw)
    _check_filters(tool, given, path)
    label = tool.server_label
    if len(label) > MAX_LABEL_CHARACTERS or not _LABEL.fullmatch(label):
        raise _invalid(
            "Invalid 'server_label': expected up to 64 letters, digits, '-' and '_'.",
            f"{path}.server_label",
        )
    places = [tool.server_url, tool.connector_id, tool.tunnel_id]
    if sum(one is not None for one in places) > 1:
        raise _invalid("Only one of server_url, connector_id and tunnel_id may be given.", path)
    for name in ("connector_id", "tunnel_id"):
        if getattr(tool, name) is not None:
            raise _invalid(f"'{name}' is not supported here; use 'server_url'.", f"{path}.{name}")
    if tool.authorization is not None and not _HEADER_VALUE.fullmatch(tool.authorization):
        raise _invalid("Invalid 'authorization'.", f"{path}.authorization")
    for name, value in (tool.headers or {}).items():
        if not _HEADER_NAME.fullmatch(name) or _NOT_SENT.fullmatch(name):
            raise _invalid("A header of this name cannot be sent to a server.", f"{path}.headers")
        if not _HEADER_VALUE.fullmatch(value):
            raise _invalid("A value is not one of a header.", f"{path}.headers")
    for name, field in given.items():
        if (name not in _KNOWN or name in _NOT_DONE) and bytes(field) not in (b"null", b"false"):
            message = "The MCP tools that run here do not have it."
            notices.append(Notice(f"{path}.{name}", "ignored", message))
    return tool


def _check_filters(tool: McpDeclaration, given: dict[str, Raw], path: str) -> None:
    """Raise InvalidRequest for a filter with a mistake in it, which would let more tools run."""
    if isinstance(tool.allowed_tools, ToolFilter):
        _check_filter(given["allowed_tools"], f"{path}.allowed_tools")
    if isinstance(tool.require_approval, ApprovalRule):
        path = f"{path}.require_approval"
        for name, raw in _fields_of(given["require_approval"], ApprovalRule, path).items():
            if bytes(raw) != b"null":
                _check_filter(raw, f"{path}.{name}")


def _check_filter(raw: Raw, path: str) -> None:
    given = _fields_of(raw, ToolFilter, path)
    if all(bytes(one) == b"null" for one in given.values()):
        raise _invalid("Expected 'tool_names' or 'read_only': the filter has neither.", path)


def _fields_of(raw: Raw, known: type[Struct], path: str) -> dict[str, Raw]:
    """The fields of an object, all of which are known."""
    given = decode_members(raw)
    for name in given:
        if name not in known.__struct_fields__:
            expected = " and ".join(f"'{one}'" for one in known.__struct_fields__)
            raise _invalid(f"Unknown field '{name[:64]}'; there are {expected}.", f"{path}.{name}")
    return given


def read_declarations(tools: Sequence[Raw]) -> list[tuple[str, McpDeclaration]]:
    """The declarations of a request with their paths. Raises InvalidRequest, as for each."""
    found: list[tuple[str, McpDeclaration]] = []
    for index, raw in enumerate(tools):
        if b'"mcp"' in bytes(raw) and decode_at(raw, _Head, f"tools[{index}]").type == "mcp":
            path = f"tools[{index}]"
            tool = read_declaration(raw, path, [])
            check_label(tool.server_label, {one.server_label for _, one in found}, path)
            found.append((path, tool))
    return found


def check_label(label: str, known: set[str], path: str) -> None:
    """Raise InvalidRequest for a label that another declaration has."""
    if label in known:
        raise _invalid(f"Duplicate server_label '{label}' in 'tools'.", f"{path}.server_label")


def functions_of(tool: McpDeclaration, listing: McpListing) -> Iterator[McpFunction]:
    """The functions that the model may call."""
    intro = (tool.server_description or "").strip()
    for one in allowed_tools(tool, listing):
        yield McpFunction(
            HostedFunction("mcp", tool.server_label, one.name, tool.asks(one)),
            "\n\n".join(filter(None, (intro, one.description))),
            one.input_schema,
        )
        intro = ""


def allowed_tools(tool: McpDeclaration, listing: McpListing) -> list[McpTool]:
    """The tools of a server that may be called."""
    return [one for one in listing.tools if tool.allows(one)]


def named_function(name: str, labels: Iterable[str]) -> HostedFunction | None:
    """The function that a name would be of one of these servers; None where it is of none."""
    for label in sorted(labels, key=len, reverse=True):  # one may begin like another
        spelled = rf"(?:(?:mcp|functions|tools)(?:__|[./:]))?{label}(?:__|[./:])(.+)"
        if (found := re.fullmatch(spelled, name, re.DOTALL)) is not None:
            return HostedFunction("mcp", label, found[1])
    return None


def call_of(approval: str) -> str:
    """The id of the item of a call that ran for a request for approval, where that was kept."""
    return f"mcp_{approval.removeprefix('mcpr_')}"


def own_error(message: str) -> Raw:
    """The `error` of a call that was not run, or not ended: a bound or a rule was in the way."""
    error = {"type": "mcp_protocol_error", "code": REFUSED, "message": message}
    return Raw(msgspec.json.encode(error))


class _Head(Struct, frozen=True):
    type: str = ""


def _invalid(message: str, path: str) -> InvalidRequest:
    return InvalidRequest(message, param=path, code="invalid_value")
