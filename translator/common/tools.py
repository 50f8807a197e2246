"""The tool mapping: every kind of Responses tool as a function, and its calls back.

Chat upstreams know only functions. So each tool that a client runs becomes a function, under a name
that the upstream accepts, and a call of that function becomes the call that the client expects:

    function                        itself
    namespace { function | custom } one function per member, named "<namespace>__<member>"
    custom                          a function with one string argument, the free-form input
    tool_search (by the client)     a function with the tool's own parameters
    local_shell, shell, apply_patch a function with the fields of the call's action
    hosted (web_search, mcp, …)     functions of its own where it runs here (`hosted`), else nothing

The mapping of a name depends on nothing else, unless a declared function has that name already. So
a history that names a tool which is no longer declared is translated to the same bytes as before.

Models and histories spell names in other ways, too. One that is not declared means the only
declared tool that it can mean (`tool_names`), in a call of the answer as in one of the history.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from translator.wire import chat
from translator.wire.errors import InvalidRequest
from translator.wire.notices import Notice

from . import mcp, web_search
from .hosted import Approved, Hosted, HostedFunction, HostedKind, McpListing
from .invalid import decode_at
from .pauses import Pause, no_pause, paced
from .schemas import SchemaRules, rewrite
from .tool_names import SpelledNames, spelled_with
from .tool_parameters import (
    APPLY_PATCH_PARAMETERS,
    INPUT_PARAMETERS,
    LOCAL_SHELL_PARAMETERS,
    NO_PARAMETERS,
    SHELL_PARAMETERS,
    FreeFormTool,
)

MAX_NAME_CHARACTERS = 64
"""Longest function name that OpenAI, Fireworks, Groq, Azure, DeepSeek and others accept."""

SEPARATOR = "__"
"""Separates a namespace from its member, as in MCP clients."""

REPEAT_MARK = "~"
"""Separates a repeated call id from the number that makes it unique again (some upstreams count
from 0 in every answer). The request side strips both: the upstream sees its own ids."""

HostedTools = Literal["drop", "reject"]
"""What becomes of a hosted tool, which cannot run here: it is dropped with a notice, or refused."""

Kind = Literal["function", "custom", "tool_search", "local_shell", "shell", "apply_patch", "hosted"]

_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")


class Declared(Struct, frozen=True):
    """A tool as the client declared it; of a hosted one, the function that is called."""

    kind: Kind
    name: str
    namespace: str | None = None
    hosted: HostedFunction | None = None


class _Head(Struct, frozen=True):
    type: str


class _Function(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None


class _Namespace(Struct, frozen=True):
    name: str
    tools: list[Raw]


class _ToolSearch(Struct, frozen=True):
    execution: str | None = None
    description: str | None = None
    parameters: Raw | UnsetType = UNSET


class _Environment(Struct, frozen=True):
    type: str


class _Shell(Struct, frozen=True):
    environment: _Environment | None = None


class Toolset:
    """The tools of one request: their function declarations, and the mapping of names both ways."""

    __slots__ = (
        *("_by_chat_name", "_chat_names", "_declared", "_hosted", "_pause", "_reject_hosted"),
        *("_schema_rules", "_spelled", "_strict_functions", "functions", "hosted", "notices"),
        *("mcp", "web_search"),
    )

    def __init__(
        self,
        *,
        strict_functions: bool = False,
        reject_hosted: bool = False,
        hosted: Hosted | None = None,
        schema_rules: SchemaRules | None = None,
        pause: Pause = no_pause,
    ) -> None:
        """`hosted` are the hosted tools that run here.

        `pause` is called between declarations, and within large schemas.
        """
        self._pause = pause
        self._strict_functions = strict_functions
        self._schema_rules = schema_rules
        self._reject_hosted = reject_hosted
        self._hosted = hosted
        self.web_search: web_search.WebSearchTool | None = None
        """The declaration of the search, where that runs here."""
        self.mcp: dict[str, mcp.McpDeclaration] = {}
        """The declarations of MCP servers whose tools run here, by their labels."""
        self._by_chat_name: dict[str, Declared] = {}
        self._chat_names: dict[tuple[str | None, str], str] = {}
        self._declared: dict[tuple[str | None, str], None] = {}
        self._spelled = SpelledNames()
        self.functions: list[chat.Tool] = []
        self.hosted: dict[str, None] = {}
        self.notices: list[Notice] = []

    # --- declarations -----------------------------------------------------------------------

    def declare(self, tools: list[Raw], path: str) -> list[str]:
        """Add the tools of the list at `path` in the request; returns their function names.

        A tool that is declared twice counts once. Raises InvalidRequest, with the path of the
        field, for a malformed tool.
        """
        names: list[str] = []
        for index, raw in enumerate(paced(tools, self._pause)):
            self._declare(raw, f"{path}[{index}]", None, names)
        if self.web_search is not None:  # last, so that functions of the client keep their names
            for one in web_search.functions_of(self.web_search):
                self._add_hosted(
                    one.function, one.description, one.parameters, path, shown=one.shown
                )
        for label, tool in self.mcp.items():
            for remote in mcp.functions_of(tool, self.listing(label)):
                self._pause()
                self._add_hosted(remote.function, remote.description, remote.parameters, path)
        return names

    def _declare(self, raw: Raw, path: str, namespace: str | None, names: list[str]) -> None:
        kind = decode_at(raw, _Head, path).type
        self._pause()
        match kind:
            case "function":
                function = decode_at(raw, _Function, path)
                self._add(
                    names,
                    Declared("function", function.name, namespace),
                    function.parameters,
                    function.description,
                    path,
                    strict=function.strict or False,
                )
            case "custom":
                custom = decode_at(raw, FreeFormTool, path)
                self._add(
                    names,
                    Declared("custom", custom.name, namespace),
                    INPUT_PARAMETERS,
                    custom.whole_description,
                    path,
                )
            case "namespace" if namespace is None:
                group = decode_at(raw, _Namespace, path)
                for index, member in enumerate(paced(group.tools, self._pause)):
                    self._declare(member, f"{path}.tools[{index}]", group.name, names)
            case "tool_search":
                search = decode_at(raw, _ToolSearch, path)
                if search.execution == "client":
                    declared = Declared("tool_search", "tool_search")
                    self._add(names, declared, search.parameters, search.description, path)
            case "local_shell":
                self._add(
                    names,
                    Declared("local_shell", "local_shell"),
                    LOCAL_SHELL_PARAMETERS,
                    "Runs a command in the local shell.",
                    path,
                )
            case "shell":
                shell = decode_at(raw, _Shell, path)
                if shell.environment and shell.environment.type != "local":
                    self._cannot_run(kind, path)
                else:
                    self._add(
                        names,
                        Declared("shell", "shell"),
                        SHELL_PARAMETERS,
                        "Runs shell commands and returns what they print.",
                        path,
                    )
            case "apply_patch":
                self._add(
                    names,
                    Declared("apply_patch", "apply_patch"),
                    APPLY_PATCH_PARAMETERS,
                    "Creates, updates or deletes one file.",
                    path,
                )
            case _ if kind in web_search.TYPES and self._runs_search(raw, path):
                pass
            case "mcp" if self.runs_mcp:
                self._declare_server(raw, path)
            case _:
                self._cannot_run(kind, path)

    def _runs_search(self, raw: Raw, path: str) -> bool:
        """Take the declaration of a search, where it runs here for what it asks."""
        hosted = self._hosted
        if hosted is None or "web_search" not in hosted.kinds:
            return False
        notices: list[Notice] = []
        tool = web_search.read_tool(raw, path, notices, by_country=hosted.search_by_country)
        if not (tool.fetches or hosted.cached_search):
            return False
        if self.web_search is None:
            self.web_search = tool
        elif tool != self.web_search:
            message = "A search is declared before it; that one's settings hold."
            notices.append(Notice(path, "ignored", message))
        self.notices += notices
        return True

    def _declare_server(self, raw: Raw, path: str) -> None:
        """Take the declaration of an MCP server, whose tools have been listed."""
        notices: list[Notice] = []
        tool = mcp.read_declaration(raw, path, notices)
        label = tool.server_label
        if self._hosted is None or label not in self._hosted.mcp:
            self._cannot_run("mcp", path)
            return
        mcp.check_label(label, set(self.mcp), path)
        self.mcp[label] = tool
        self.notices += notices
        listing = self.listing(label)
        if listing.error:
            self.notices.append(Notice(path, "tool_dropped", "The server's tools are not known."))
        if listing.left_out:
            message = f"Tools of the server beyond the limits were left out: {listing.left_out}."
            self.notices.append(Notice(path, "tool_dropped", message))
        if listing.tools and not mcp.allowed_tools(tool, listing):
            message = "The server has none of the tools that are allowed."
            self.notices.append(Notice(f"{path}.allowed_tools", "tool_dropped", message))
        if listing.unusable:
            message = f"Tools of the server that cannot be used: {listing.unusable}."
            self.notices.append(Notice(path, "tool_dropped", message))

    def listing(self, label: str) -> McpListing:
        """The tools of a declared MCP server."""
        assert self._hosted is not None, "no hosted tool runs here"
        return self._hosted.mcp[label]

    def _add_hosted(
        self,
        function: HostedFunction,
        description: str,
        parameters: Raw,
        path: str,
        *,
        shown: bool = True,
    ) -> None:
        """Add a function of a hosted tool; it has a namespace that no client's tool has."""
        self._name_hosted(function)
        declared = Declared("hosted", function.name, _namespace(function), function)
        self._add([], declared, parameters, description, path, shown=shown)

    def _name_hosted(self, function: HostedFunction) -> str:
        namespace = _namespace(function)
        full = spelled_with(function.server, function.name)
        if full not in self._by_chat_name and _fits(full):
            self._chat_names.setdefault((namespace, function.name), full)
        return self.chat_name(function.name, namespace)

    def _add(
        self,
        names: list[str],
        declared: Declared,
        parameters: Raw | UnsetType,
        description: str | None,
        path: str,
        *,
        strict: bool = False,
        shown: bool = True,
    ) -> None:
        """Add a tool; one that is not `shown` has its name, but the model is not told of it."""
        key = (declared.namespace, declared.name)
        name = self.chat_name(declared.name, declared.namespace)
        names.append(name)
        if key in self._declared:
            return
        self._declared[key] = None
        self._spelled.add(key, name)
        self._by_chat_name[name] = declared
        if not shown:
            return
        self.functions.append(
            chat.Tool(
                chat.FunctionDeclaration(
                    name=name,
                    description=UNSET if description is None else description,
                    parameters=self._schema(parameters, path),
                    strict=True if strict and self._strict_functions else UNSET,
                )
            )
        )

    def _schema(self, parameters: Raw | UnsetType, path: str) -> Raw:
        """The schema under the upstream's rules; an empty object schema where there is none."""
        if isinstance(parameters, UnsetType) or bytes(parameters).strip() in (b"null", b"{}"):
            return NO_PARAMETERS
        if self._schema_rules is None:
            return parameters
        rewritten = rewrite(parameters, self._schema_rules, self._pause)
        if rewritten.lost:
            self.notices.append(Notice(path, "weakened", rewritten.message))
        return rewritten.schema

    def _cannot_run(self, kind: str, path: str) -> None:
        if self._reject_hosted:
            raise InvalidRequest(
                f"Unsupported tool type: '{kind}'. The upstream speaks Chat Completions, "
                f"which has no such tool.{_where_run(kind)}",
                param=path,
                code="unsupported_value",
            )
        self.hosted[kind] = None
        self.notices.append(
            Notice(
                path,
                "tool_dropped",
                f"A tool of type {kind} cannot run here; it was left out.{_where_run(kind)}",
            )
        )

    @property
    def runs_mcp(self) -> bool:
        """Whether tools of MCP servers run here, declared or not."""
        return self._hosted is not None and "mcp" in self._hosted.kinds

    @property
    def approved(self) -> Sequence[Approved]:
        """The calls that the request approves of."""
        return () if self._hosted is None else self._hosted.approved

    @property
    def runs_hosted(self) -> bool:
        """Whether there are hosted tools that run here, declared or not."""
        return self._hosted is not None

    @property
    def uses_hosted(self) -> bool:
        """Whether any is declared."""
        return self._hosted is not None and bool(self.mcp or self.hosted_names())

    def own_names(self) -> frozenset[str]:
        """The names upstream of the tools that the client runs."""
        return frozenset(name for name, tool in self._by_chat_name.items() if tool.hosted is None)

    @property
    def are_hosted(self) -> bool:
        """Whether all of them are hosted tools that run here."""
        return not self.own_names()

    def hosted_names(
        self, kind: HostedKind | None = None, server: str = "", name: str = ""
    ) -> list[str]:
        """The names upstream of hosted tools: of one kind, server and name, or of all."""
        return [
            chat_name
            for chat_name, tool in self._by_chat_name.items()
            if tool.hosted is not None
            and kind in (None, tool.hosted.kind)
            and server in ("", tool.hosted.server)
            and name in ("", tool.hosted.name)
        ]

    def hosted_name(self, server: str, name: str) -> str:
        """The name upstream of a tool of an MCP server, which need not be declared any more."""
        return self._name_hosted(HostedFunction("mcp", server, name))

    def undeclared(self, chat_name: str) -> Declared | None:
        """A function of a hosted tool that is not declared, but which a call names all the same.

        None for a name that may be one of the client's. Where all tools are hosted, none is.
        """
        bare = _bare(chat_name)
        if self._meant(chat_name) or self._meant(bare):
            return None
        own = {namespace for namespace, _ in self._declared}
        function = mcp.named_function(bare, [one for one in self.mcp if one not in own])
        if function is None and self.are_hosted:
            kind: HostedKind = "mcp" if self.mcp else "web_search"
            function = HostedFunction(kind, next(iter(self.mcp), ""), bare or chat_name)
        if function is None:
            return None
        self._name_hosted(function)
        return Declared("hosted", function.name, _namespace(function), function)

    def forget_declarations(self) -> None:
        """Drop the declarations; the names stay, for the answer."""
        self._pause = no_pause
        self.functions = []

    # --- names ------------------------------------------------------------------------------

    def chat_name(self, name: str, namespace: str | None = None) -> str:
        """The function name of a tool upstream; at most MAX_NAME_CHARACTERS.

        A name that does not fit is shortened, with eight digits of its hash to keep it unique.
        """
        key = (namespace, name)
        known = self._chat_names.get(key)
        if known is not None:
            return known
        full = name if namespace is None else f"{namespace}{SEPARATOR}{name}"
        fit = _UNFIT.sub("_", full)
        if fit != full or len(fit) > MAX_NAME_CHARACTERS or fit in self._by_chat_name:
            digest = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
            fit = f"{fit[: MAX_NAME_CHARACTERS - 9]}_{digest}"
        self._chat_names[key] = fit
        return fit

    def called_name(self, name: str, namespace: str | None = None) -> str:
        """The function name of a tool that a call or a choice of the client names.

        A name that is not declared, and can mean only one declared tool, is that tool's.
        """
        if (namespace, name) in self._declared:
            return self._chat_names[namespace, name]
        meant = self._spelled.meant(spelled_with(namespace, name))
        return self.chat_name(name, namespace) if meant is None else self._chat_names[meant]

    def called(self, chat_name: str) -> Declared:
        """The tool for a function name of the upstream; an unknown name is taken literally.

        gpt-oss leaks its channel into the name ("shell<|channel|>json"), which is always cut off.
        """
        known = self._by_chat_name.get(chat_name)
        if known is not None:
            return known
        bare = _bare(chat_name)
        return self._meant(bare) or Declared("function", bare or chat_name)

    def declares(self, chat_name: str) -> bool:
        """Whether a function is declared upstream that this name means."""
        return chat_name in self._by_chat_name or self._meant(chat_name) is not None

    def _meant(self, chat_name: str) -> Declared | None:
        known = self._by_chat_name.get(chat_name)
        if known is not None:
            return known
        meant = self._spelled.meant(chat_name)
        return None if meant is None else self._by_chat_name[self._chat_names[meant]]


def _bare(chat_name: str) -> str:
    return chat_name.split("<|", 1)[0].strip()


def _where_run(kind: str) -> str:
    """What has a hosted tool run; empty for one that nothing here runs."""
    section = web_search.SECTION if kind in web_search.TYPES else "[tools.mcp]"
    return f" The service runs it with {section}." if kind in (*web_search.TYPES, "mcp") else ""


def _namespace(function: HostedFunction) -> str:
    return "\0".join((function.kind, function.server))


def _fits(name: str) -> bool:
    """Whether upstreams accept a name as it is."""
    return len(name) <= MAX_NAME_CHARACTERS and _UNFIT.search(name) is None
