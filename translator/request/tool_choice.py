"""Tool choice: which functions are declared upstream, and which the model may or must call.

    tool_choice = "auto" | "none" | "required"
                | { type: "allowed_tools", mode, tools }     a subset, as "auto" or "required"
                | { type: "function" | "custom" | … } ;      one tool, by its name or type

A choice that the upstream does not accept is weakened with a notice; `ToolChoice.allowed` then
enforces on the answer what the upstream does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

import msgspec
from msgspec import Raw, Struct, UnsetType

from translator.common import web_search
from translator.common.tools import Toolset
from translator.dialects.dialect import ChoiceKind, Dialect
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import as_list, as_object, as_string
from translator.wire.notices import Notice


class ToolChoice(Struct, frozen=True):
    """A `tool_choice`, with tools by the names of their functions upstream."""

    kind: ChoiceKind | None = None
    """None: the field is left out."""
    name: str = ""
    """The function that must be called, where the kind is "named"."""
    allowed: frozenset[str] | None = None
    """Function names that may be called; None: all."""
    without_tools: bool = False
    """No tool is declared."""


_LEFT_OUT = ToolChoice()


def resolve_tool_choice(
    raw: Raw | UnsetType,
    tools: Toolset,
    dialect: Dialect,
    notices: list[Notice],
    *,
    thinking: bool,
    compacts: bool,
) -> ToolChoice:
    """The choice for the upstream; for a compaction none, whatever the client chose.

    Raises InvalidRequest for a choice that is malformed or names an undeclared tool.
    """
    accepted = dialect.tool_choices
    if thinking and dialect.tool_choices_thinking is not None:
        accepted = dialect.tool_choices_thinking
    if compacts:
        return _no_call(accepted)
    choice = _weakened(_read(raw, tools, notices), accepted, notices)
    if choice.kind == "none" and not dialect.tools_with_choice_none:
        return ToolChoice(allowed=frozenset(), without_tools=True)
    return choice


def _read(raw: Raw | UnsetType, tools: Toolset, notices: list[Notice]) -> ToolChoice:
    """The client's choice."""
    value: object = None if isinstance(raw, UnsetType) else msgspec.json.decode(raw)
    if value is None:
        return _LEFT_OUT
    if value in ("auto", "none", "required"):
        return ToolChoice(value)
    choice = as_object(value) or {}
    kind = as_string(choice.get("type"))
    if kind == "allowed_tools":
        entries = as_list(choice.get("tools")) or ()
        allowed = frozenset(_allowed_functions(entries, tools, notices))
        mode = choice.get("mode")
        if mode in ("auto", "required"):
            return ToolChoice(mode, allowed=allowed)
    elif kind == "mcp" and tools.runs_mcp and as_string(choice.get("name")) is None:
        # any tool of the server
        names = _hosted_functions(choice, "tool_choice", tools)
        return ToolChoice("required", allowed=frozenset(names))
    elif kind is not None:
        return ToolChoice("named", _function_name(choice, "tool_choice", tools))
    raise InvalidRequest(
        "Invalid value for 'tool_choice': expected 'auto', 'none', 'required', or an object that "
        "names one tool or the allowed tools.",
        param="tool_choice",
        code="invalid_value",
    )


def _weakened(
    choice: ToolChoice, accepted: frozenset[ChoiceKind], notices: list[Notice]
) -> ToolChoice:
    """The choice, weakened to "auto" where its kind is not accepted, or unset.

    One tool that must be called is the only one that is declared, and required where that can be.
    """
    kind, allowed = choice.kind, choice.allowed
    if kind is None:
        return choice
    if kind not in accepted and kind != "auto":
        message = f"The upstream does not accept '{kind}' here."
        notices.append(Notice("tool_choice", "weakened", message))
        if kind == "none":
            allowed = frozenset[str]()
        if kind == "named":
            allowed = frozenset({choice.name})
        kind = "required" if kind == "named" and "required" in accepted else "auto"
    if kind == "auto" and "auto" not in accepted:
        kind = None
    return ToolChoice(kind, choice.name, allowed)


def _no_call(accepted: frozenset[ChoiceKind]) -> ToolChoice:
    """The nearest choice to "none" that the upstream accepts; calls in the answer do not count."""
    if "none" in accepted:
        return ToolChoice("none")
    return ToolChoice("auto" if "auto" in accepted else None, allowed=frozenset())


def tool_fields(
    choice: ToolChoice,
    tools: Toolset,
    dialect: Dialect,
    notices: list[Notice],
    *,
    called: frozenset[str],
    parallel: bool | None,
) -> dict[str, Any]:
    """The chat fields `tools`, `tool_choice` and `parallel_tool_calls`.

    `called` are the functions that the history calls: they stay declared whatever is allowed,
    because models whose history calls undeclared functions begin to write calls as text.
    """
    if choice.without_tools:
        return {}
    functions = tools.functions
    if choice.allowed is not None:
        declared = choice.allowed | called
        functions = [tool for tool in functions if tool.function.name in declared]
    if not functions:
        if choice.kind in ("required", "named"):
            notices.append(Notice("tool_choice", "ignored", "No tool can be called."))
        return {}
    fields: dict[str, Any] = {"tools": functions}
    match choice.kind:
        case None:
            pass
        case "named":
            fields["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        case "required":
            fields["tool_choice"] = dialect.required_word
        case "auto" | "none":
            fields["tool_choice"] = choice.kind
        case _ as never:
            assert_never(never)
    if parallel is not None and dialect.parallel_tool_calls:
        fields["parallel_tool_calls"] = parallel
    return fields


def _allowed_functions(
    entries: Sequence[object], tools: Toolset, notices: list[Notice]
) -> Iterator[str]:
    for index, entry in enumerate(entries):
        path = f"tool_choice.tools[{index}]"
        if (as_object(entry) or {}).get("type") in tools.hosted:
            message = "Hosted tools do not run here; the tool was left out."
            notices.append(Notice(path, "tool_dropped", message))
        elif names := _hosted_functions(entry, path, tools):
            yield from names
        else:
            yield _function_name(entry, path, tools)


def _hosted_functions(value: object, path: str, tools: Toolset) -> list[str]:
    """The functions of a hosted tool that runs here, and that a choice refers to; else none.

    The first one stands for the tool where one has to be called.
    """
    choice = as_object(value) or {}
    kind = choice.get("type")
    if kind == "mcp" and tools.runs_mcp:
        server = as_string(choice.get("server_label")) or ""
        name = as_string(choice.get("name")) or ""
        names = tools.hosted_names("mcp", server, name)
        if server not in tools.mcp or not names:
            wanted = f"{server}.{name}" if name and server in tools.mcp else server or kind
            raise _not_declared(wanted, path)
        return names
    if kind not in web_search.TYPES or not tools.runs_hosted:
        return []
    names = tools.hosted_names("web_search")
    if not names:
        raise _not_declared(kind, path)
    return names


def _function_name(value: object, path: str, tools: Toolset) -> str:
    """The function name of a tool that a choice refers to."""
    if names := _hosted_functions(value, path, tools):
        return names[0]
    choice = as_object(value) or {}
    kind, name = choice.get("type"), as_string(choice.get("name"))
    if kind in ("function", "custom") and name is not None:
        chat_name = tools.called_name(name, as_string(choice.get("namespace")))
    elif kind in ("shell", "apply_patch", "local_shell", "tool_search"):
        chat_name = tools.chat_name(kind)
    else:
        message = "The chosen tool cannot run here."
        if kind in web_search.TYPES:
            message += f" The service runs it with {web_search.SECTION}."
        raise InvalidRequest(message, param=path, code="invalid_value")
    if not tools.declares(chat_name):
        raise _not_declared(chat_name, path)
    return chat_name


def _not_declared(name: object, path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Tool choice '{name}' not found in 'tools' parameter.", param=path, code="invalid_value"
    )
