"""Tools: every kind that the Responses API declares, as functions; their calls back as they were.

Chat upstreams know functions and nothing else. So each tool that a client runs becomes a function,
under a name that the upstream accepts, and a call of that function is turned back into the call
that the client expects:

    function                        itself
    namespace { function | custom } one function per member, named "<namespace>__<member>"
    custom                          a function with one string argument, the free-form input
    tool_search (by the client)     a function with the tool's own parameters
    local_shell, shell, apply_patch a function with the fields of the call's action
    hosted (web_search, mcp, …)     nothing: they cannot run here

Names are mapped by rules that depend on the name alone, so a history that names a tool which is no
longer declared is translated to the same bytes as before.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from translator.wire import chat
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON
from translator.wire.notices import Notice

from .invalid import at_path, invalid_from
from .schemas import SchemaRules, rewrite

MAX_NAME_CHARACTERS = 64
"""Longest function name that OpenAI, Fireworks, Groq, Azure, DeepSeek and others accept."""

SEPARATOR = "__"
"""Stands between a namespace and its member; MCP clients use the same."""

INPUT_ARGUMENT = "input"
"""The one argument of a function that stands for a free-form tool."""

_T = TypeVar("_T")

REPEAT_MARK = "~"
"""Stands between a call id that was used before and the number that makes it unique again (some
upstreams count from 0 in every answer). The request side takes both off: the upstream sees the
ids that it gave."""

HostedTools = Literal["drop", "reject"]
"""What becomes of a hosted tool, which cannot run here: it is dropped with a notice, or refused."""

Kind = Literal["function", "custom", "tool_search", "local_shell", "shell", "apply_patch"]

_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_INPUT_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {INPUT_ARGUMENT: {"type": "string", "description": "The raw text."}},
            "required": [INPUT_ARGUMENT],
            "additionalProperties": False,
        }
    )
)
_STRINGS = {"type": "array", "items": {"type": "string"}}
_LOCAL_SHELL_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "command": {**_STRINGS, "description": "The command and its arguments."},
                "working_directory": {"type": "string"},
                "timeout_ms": {"type": "integer", "description": "Milliseconds."},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["command"],
            "additionalProperties": False,
        }
    )
)
_SHELL_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "commands": {**_STRINGS, "description": "Shell commands, run one by one."},
                "timeout_ms": {"type": "integer", "description": "Milliseconds per command."},
                "max_output_length": {"type": "integer", "description": "Characters."},
            },
            "required": ["commands"],
            "additionalProperties": False,
        }
    )
)
_APPLY_PATCH_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": {"type": "string"},
                "diff": {"type": "string", "description": "V4A diff; not for delete_file."},
            },
            "required": ["type", "path"],
            "additionalProperties": False,
        }
    )
)


class Declared(Struct, frozen=True):
    """A tool as the client knows it."""

    kind: Kind
    name: str
    namespace: str | None = None


class _Head(Struct, frozen=True):
    type: str


class _Function(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None


class _Format(Struct, frozen=True):
    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class _Custom(Struct, frozen=True):
    name: str
    description: str | None = None
    format: _Format | None = None


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
    """The tools of one request: their declarations for the upstream, and the names both ways."""

    def __init__(
        self,
        *,
        strict_functions: bool = False,
        reject_hosted: bool = False,
        schema_rules: SchemaRules | None = None,
    ) -> None:
        self._strict_functions = strict_functions
        self._schema_rules = schema_rules
        self._reject_hosted = reject_hosted
        self._by_chat_name: dict[str, Declared] = {}
        self._chat_names: dict[tuple[str | None, str], str] = {}
        self._declared: set[tuple[str | None, str]] = set()
        self.functions: list[chat.Tool] = []
        self.hosted: set[str] = set()
        self.notices: list[Notice] = []

    # --- declarations -----------------------------------------------------------------------

    def declare(self, tools: list[Raw], path: str) -> list[str]:
        """Add the tools of a list that stands at `path` in the request; returns their chat names.

        Raises InvalidRequest, with the path of the field, for a tool that is no tool. A tool that
        is declared twice counts once.
        """
        names: list[str] = []
        for index, raw in enumerate(tools):
            self._declare(raw, f"{path}[{index}]", None, names)
        return names

    def _declare(self, raw: Raw, path: str, namespace: str | None, names: list[str]) -> None:
        kind = _read(raw, _Head, path).type
        match kind:
            case "function":
                function = _read(raw, _Function, path)
                self._add(
                    names,
                    Declared("function", function.name, namespace),
                    function.parameters,
                    function.description,
                    strict=function.strict or False,
                )
            case "custom":
                custom = _read(raw, _Custom, path)
                self._add(
                    names,
                    Declared("custom", custom.name, namespace),
                    _INPUT_PARAMETERS,
                    _free_form_description(custom),
                )
            case "namespace" if namespace is None:
                group = _read(raw, _Namespace, path)
                for index, member in enumerate(group.tools):
                    self._declare(member, f"{path}.tools[{index}]", group.name, names)
            case "tool_search":
                search = _read(raw, _ToolSearch, path)
                if search.execution == "client":
                    declared = Declared("tool_search", "tool_search")
                    self._add(names, declared, search.parameters, search.description)
            case "local_shell":
                self._add(
                    names,
                    Declared("local_shell", "local_shell"),
                    _LOCAL_SHELL_PARAMETERS,
                    "Runs a command in the local shell.",
                )
            case "shell":
                shell = _read(raw, _Shell, path)
                if shell.environment and shell.environment.type != "local":
                    self._cannot_run(kind, path)
                else:
                    self._add(
                        names,
                        Declared("shell", "shell"),
                        _SHELL_PARAMETERS,
                        "Runs shell commands and returns what they print.",
                    )
            case "apply_patch":
                self._add(
                    names,
                    Declared("apply_patch", "apply_patch"),
                    _APPLY_PATCH_PARAMETERS,
                    "Creates, updates or deletes one file.",
                )
            case _:
                self._cannot_run(kind, path)

    def _add(
        self,
        names: list[str],
        declared: Declared,
        parameters: Raw | UnsetType,
        description: str | None,
        *,
        strict: bool = False,
    ) -> None:
        key = (declared.namespace, declared.name)
        name = self.chat_name(declared.name, declared.namespace)
        names.append(name)
        if key in self._declared:
            return
        self._declared.add(key)
        self._by_chat_name[name] = declared
        self.functions.append(
            chat.Tool(
                chat.FunctionDeclaration(
                    name=name,
                    description=UNSET if description is None else description,
                    parameters=self._schema(parameters),
                    strict=True if strict and self._strict_functions else UNSET,
                )
            )
        )

    def _schema(self, parameters: Raw | UnsetType) -> Raw:
        """The schema as the upstream takes it; one that all accept where the client gave none."""
        if isinstance(parameters, UnsetType) or bytes(parameters).strip() in (b"null", b"{}"):
            return _NO_PARAMETERS
        return rewrite(parameters, self._schema_rules) if self._schema_rules else parameters

    def _cannot_run(self, kind: str, path: str) -> None:
        if self._reject_hosted:
            raise InvalidRequest(
                f"Unsupported tool type: '{kind}'. The upstream speaks Chat Completions, "
                "which has no such tool.",
                param=path,
                code="unsupported_value",
            )
        self.hosted.add(kind)
        self.notices.append(
            Notice(path, "tool_dropped", f"The tool {kind} cannot run here; it was left out.")
        )

    def forget_declarations(self) -> None:
        """Keep the names only: they are what an answer needs."""
        self.functions = []

    # --- names ------------------------------------------------------------------------------

    def chat_name(self, name: str, namespace: str | None = None) -> str:
        """The function name that stands for a tool upstream; at most 64 characters.

        A name that does not fit is shortened and told apart by eight digits of its hash.
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

    def called(self, chat_name: str) -> Declared:
        """The tool that an upstream means by a function name; an unknown one is taken literally.

        gpt-oss leaks its channel into the name ("shell<|channel|>json"), and Kimi its prefix
        ("functions.shell"): both are understood when the rest names a declared tool.
        """
        known = self._by_chat_name.get(chat_name)
        if known is not None:
            return known
        bare = chat_name.split("<|", 1)[0].strip()
        known = self._by_chat_name.get(bare) or self._by_chat_name.get(
            bare.removeprefix("functions.")
        )
        return known or Declared("function", bare or chat_name)

    def declares(self, chat_name: str) -> bool:
        """Whether a function of this name is declared upstream."""
        return chat_name in self._by_chat_name


def _free_form_description(tool: _Custom) -> str:
    lines = [tool.description] if tool.description else []
    lines.append(
        f"Put the raw text into the argument `{INPUT_ARGUMENT}`, as it is: "
        "not as JSON, not in a code fence."
    )
    if tool.format and tool.format.type == "grammar" and tool.format.definition:
        lines.append(
            f"The text must match this {tool.format.syntax or ''} grammar:\n"
            f"{tool.format.definition}"
        )
    return "\n\n".join(lines)


def _read(raw: Raw, type: type[_T], path: str) -> _T:
    try:
        return msgspec.json.decode(raw, type=type)
    except NOT_JSON as error:
        raise at_path(invalid_from(error), path) from None
