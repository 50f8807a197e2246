"""The input reader: decodes the request's `input` into items of four kinds.

    Message   a message of any role
    Thought   reasoning of the model, unsealed where we sealed it
    Call      a tool call, by the function name upstream
    Result    the output of a call

Items that only declare tools or settings do not appear in the conversation. Items of hosted tools
that did not run here are dropped with a notice: a thread that began elsewhere must be able to
continue. Calls that ran here are in the reasoning behind them (`hosted_history`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, get_args

import msgspec
from msgspec import Raw, UnsetType

from translator.common.invalid import at_path, decode_at, invalid_from, missing_parameter
from translator.common.pauses import Pause, no_pause, paced
from translator.common.sealed import Thought, unseal
from translator.common.tool_parameters import INPUT_ARGUMENT
from translator.common.tools import Toolset
from translator.wire import items, responses
from translator.wire.errors import InvalidRequest, NotFound
from translator.wire.json_values import NOT_JSON, as_object, begins_with_role, is_string, present
from translator.wire.notices import DuplicateItem, Notice

from . import mcp_history
from .advice import known_reasoning, known_text
from .compaction import SUMMARY_REQUEST, after_compaction, read_summary
from .content_parts import GROUP_BYTES, read_content
from .hosted_history import place, search_with_results
from .items_read import Call, InputItem, Message, Result

if TYPE_CHECKING:
    from .store_context import StoreContext


_COMMON: dict[str, type[items.CommonInputItem]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(items.CommonInputItem)
}
_decode_common = msgspec.json.Decoder(items.CommonInputItem).decode


class _UntypedMessage(items.PlainMessage, frozen=True):
    type: None = None


_decode_untyped = msgspec.json.Decoder(_UntypedMessage).decode

_decode_raw_message = msgspec.json.Decoder(items.RawMessage).decode

_NONE: Mapping[int, Any] = {}

_TAGGED_REASONING = re.compile(r"<think>\n(.*)\n</think>", re.DOTALL)

_HOSTED_HISTORY = frozenset(
    {
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "computer_call",
        "computer_call_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "program",
        "program_output",
    }
)


_Decode: TypeAlias = Callable[[Raw], "items.CommonInputItem | _UntypedMessage"]


def _in_groups(pause: Pause, raw: Raw) -> items.CommonInputItem:
    """An item, the parts of a large message in groups; raises NOT_JSON."""
    if len(raw) >= GROUP_BYTES:
        with suppress(*NOT_JSON):  # then the error is that of the whole item
            message = _decode_raw_message(raw)
            return items.InputMessage(message.role, read_content(message.content, pause))
    return _decode_common(raw)


class InputReader:
    """Reads input items; adds the tools that they declare to `tools`, and losses to `notices`.

    `origin` is what will answer, where reasoning may come from another one. `pause` is called
    between items.
    """

    def __init__(
        self,
        tools: Toolset,
        pause: Pause = no_pause,
        store: StoreContext | None = None,
        *,
        origin: str | None = None,
    ) -> None:
        self._tools = tools
        self._store = store
        self._origin = origin
        self._pause = pause
        self._decode_typed = _decode_common if pause is no_pause else partial(_in_groups, pause)
        self._decode: _Decode = self._decode_typed  # or of messages without `type`, while they come
        self._last_search = ""
        self._read_items: list[InputItem] = []
        self._mcp: mcp_history.McpHistory | None = None  # as few inputs have any of it
        self._searches: list[_Search] = []  # of which no seal holds the results yet
        self.last_source = 0
        """The number of the last source that hosted tools have told the model; 0 without any."""
        self._undeclared: dict[str, items.InputFunctionCall | items.InputCustomToolCall] = {}
        self.notices: list[Notice] = []
        self.reasoning: responses.ReasoningConfig | None = None
        """The reasoning settings of the last configuration update, None without one."""
        self.text: responses.TextConfig | None = None
        """The text settings of the last configuration update, None without one."""
        self.compacts = False
        """Whether the input ends with a trigger: the answer becomes a compaction."""

    def read(
        self,
        source: str | list[Raw] | None,
        earlier: Sequence[Raw] = (),
        history: Sequence[Raw | Thought] = (),
    ) -> list[InputItem]:
        """The items of `earlier` responses or of the conversation, then those of `input`.

        `history` is what the response itself holds by now. Raises InvalidRequest with the path of
        the faulty field.
        """
        read = self._read_items
        name = "previous_response_id" if self._store is None else self._store.precedes
        if earlier:
            self._read(after_compaction(earlier, self._pause), name, last=-1)
        if isinstance(source, str):
            read.append(Message("user", source, "input"))
        elif source:
            if len(source[0]) < GROUP_BYTES and begins_with_role(source[0]):
                self._decode = _decode_untyped
            store = self._store
            self._read(
                source,
                "input",
                last=len(source) - 1,
                duplicates=_NONE if store is None else store.duplicates,
                completed=_NONE if store is None else store.completed,
            )
        if self._mcp is not None or self._searches:
            self._settle_searches([] if self._mcp is None else self._mcp.settle(read))
        for item in history:
            self._add(self._of_response(item))
        if self._undeclared:
            read = [self._declared_later(item) for item in paced(read, self._pause)]
        if self.compacts and len(read) == 1:
            raise InvalidRequest(
                "There is nothing to compact before the 'compaction_trigger' item.",
                param="input",
                code="invalid_value",
            )
        return read

    def _read(
        self,
        source: Sequence[Raw],
        name: str,
        *,
        last: int,
        duplicates: Mapping[int, str] = _NONE,
        completed: Mapping[int, Sequence[Raw]] = _NONE,
    ) -> None:
        """Read the items of a list; `last` is the index of the request's last item.

        `duplicates` and `completed` are as in `StoreContext`.
        """
        for index, raw in enumerate(paced(source, self._pause)):
            path = f"{name}[{index}]"
            if duplicates and index in duplicates:
                what = "It stands in the context already; it was left out."
                self.notices.append(
                    DuplicateItem(path, "duplicate_dropped", what, duplicates[index])
                )
                continue
            if completed and index in completed:
                for one in completed[index]:
                    self._read_item(one, path, last=index == last)
            else:
                self._read_item(raw, path, last=index == last)

    def _read_item(self, raw: Raw, path: str, *, last: bool) -> None:
        try:
            common = self._decode(raw)  # in one step; only rare items are decoded twice
        except NOT_JSON:
            item = self._other_item(raw, path, last=last)
        else:
            item = self.BY_TYPE[type(common)](self, common, path)
        if item is not None:
            self._read_items.append(item)

    def _add(self, item: InputItem | None) -> None:
        if item is not None:
            self._read_items.append(item)

    def _of_response(self, item: Raw | Thought) -> InputItem | None:
        """An item of the response that is being answered."""
        if isinstance(item, Thought):
            return self._placed(item.taken_by(self._origin), "output")
        common = _decode_common(item)
        return self.BY_TYPE[type(common)](self, common, "output")

    def _other_item(self, raw: Raw, path: str, *, last: bool) -> InputItem | None:
        """An item that is not what was expected: a message without `type`, or a rarer kind."""
        expected, self._decode = self._decode, self._decode_typed
        try:
            item = self._decode(raw) if expected is _decode_untyped else _decode_untyped(raw)
        except NOT_JSON:
            return self._rare_item(raw, path, last=last)
        return self.BY_TYPE[type(item)](self, item, path)

    def _message(self, item: items.PlainMessage, path: str) -> Message | Thought:
        """A message; reasoning between tags, where a client sends it as the assistant's.

        pydantic-ai does so for models whose profile does not declare sealed reasoning.
        """
        if item.role == "assistant" and isinstance(item.content, str):
            tagged = _TAGGED_REASONING.fullmatch(item.content)
            if tagged:
                return Thought(tagged[1], "reasoning_content")
        return Message(item.role, item.content, path)

    def _call(self, item: items.InputFunctionCall | items.InputCustomToolCall, path: str) -> Call:
        """A call, by the upstream's name of the tool that was declared until then."""
        name = self._tools.called_name(item.name, item.namespace)
        if not self._tools.declares(name):
            self._undeclared[path] = item
        if isinstance(item, items.InputFunctionCall):
            return Call(item.call_id, name, item.arguments, path)
        return Call(item.call_id, name, _json({INPUT_ARGUMENT: item.input}), path)

    def _output(
        self, item: items.FunctionCallOutput | items.CustomToolCallOutput, path: str
    ) -> Result:
        """The output of a call; text is not decoded."""
        kind = "function" if type(item) is items.FunctionCallOutput else "custom tool"
        if not item.call_id:
            raise missing_parameter(f"{path}.call_id")
        output = item.output
        if is_string(output):
            return Result(item.call_id, output, f"{kind} call output", path)
        try:
            content = read_content(output, self._pause)
        except NOT_JSON as error:
            raise at_path(invalid_from(error, output), f"{path}.output") from None
        return Result(item.call_id, content, f"{kind} call output", path)

    def _reasoning(self, reasoning: items.InputReasoning, path: str) -> Thought | None:
        """The reasoning text: unsealed, else raw, else the summary where there is no blob.

        A foreign blob is not refused; the summary beside it is not the reasoning text.
        """
        blob = reasoning.encrypted_content
        thought = unseal(blob) if blob else None
        if thought is not None:
            taken = thought.taken_by(self._origin)
            if taken is not thought and (thought.details or thought.extras):
                what = "Only its text was sent: another model has signed the rest."
                self.notices.append(Notice(path, "reasoning_dropped", what))
            return self._placed(taken, path)
        parts = reasoning.content or (None if blob else reasoning.summary) or []
        text = "".join(part.text for part in parts)
        if text:
            return Thought(text, "reasoning_content")
        if blob:
            self.notices.append(
                Notice(
                    path, "reasoning_dropped", "The reasoning was sealed elsewhere; it is ignored."
                )
            )
        return None

    BY_TYPE: ClassVar[Mapping[type, Callable[..., InputItem | None]]] = {
        items.InputMessage: _message,
        _UntypedMessage: _message,
        items.InputReasoning: _reasoning,
        items.InputFunctionCall: _call,
        items.InputCustomToolCall: _call,
        items.FunctionCallOutput: _output,
        items.CustomToolCallOutput: _output,
    }
    """How an item of each frequent type is read."""

    def _declared_later(self, item: InputItem) -> InputItem:
        """The item; a call of a tool that was declared behind it, by the tool's name."""
        call = self._undeclared.get(item.path) if isinstance(item, Call) else None
        if call is None:
            return item
        return msgspec.structs.replace(
            item, name=self._tools.called_name(call.name, call.namespace)
        )

    def _rare_item(self, raw: Raw, path: str, *, last: bool) -> InputItem | None:
        """An item of a rarer kind, a message without `type`, or a faulty item."""
        head = decode_at(raw, items.Head, path)
        if head.type is None and head.role is not None:
            return self._message(decode_at(raw, items.PlainMessage, path), path)
        kind = head.type or "item_reference"
        match kind:
            case _ if kind in _COMMON:
                return self.BY_TYPE[_COMMON[kind]](self, decode_at(raw, _COMMON[kind], path), path)
            case "tool_search_call" | "tool_search_output":
                return self._tool_search(raw, kind, path)
            case "additional_tools":
                self._tools.declare(
                    decode_at(raw, items.AdditionalTools, path).tools, f"{path}.tools"
                )
                return None
            case "agent_message":
                agent = decode_at(raw, items.AgentMessage, path)
                return Message("user", agent.content or agent.encrypted_content, path)
            case "item_reference":
                return self._reference(decode_at(raw, items.ItemReference, path).id, path)
            case "configuration_update":
                self._configure(decode_at(raw, items.ConfigurationUpdate, path), path)
                return None
            case "compaction":
                blob = decode_at(raw, items.CompactionItem, path).encrypted_content
                return Message("user", read_summary(blob, path), path)
            case "compaction_trigger":
                return self._trigger(path, last=last)
            case "web_search_call":
                search = decode_at(raw, items.InputWebSearchCall, path)
                found = search_with_results(search, self._tools, path)
                self._searches.append(
                    _Search(path, found, len(self._read_items), len(self.notices))
                )
                return None
            case _ if kind in mcp_history.KINDS and (self._tools.runs_mcp or kind == "mcp_call"):
                return self._mcp_history().read(raw, kind, path, len(self._read_items))
            case _:
                return self._shell_or_patch(raw, kind, path)

    def _shell_or_patch(self, raw: Raw, kind: str, path: str) -> InputItem | None:
        """Calls of built-in tools that the client runs, and their outputs."""
        match kind:
            case "local_shell_call":
                local = decode_at(raw, items.InputLocalShellCall, path)
                call_id = local.call_id or local.id or path
                return Call(call_id, "local_shell", _arguments(local.action, without="type"), path)
            case "local_shell_call_output":
                output = decode_at(raw, items.LocalShellOutput, path)
                return Result(output.call_id or output.id or "", output.output, _noun(kind), path)
            case "shell_call":
                shell = decode_at(raw, items.InputShellCall, path)
                return Call(shell.call_id, "shell", _arguments(shell.action), path)
            case "shell_call_output":
                shown = decode_at(raw, items.ShellOutput, path)
                return Result(shown.call_id, _text(shown.output), _noun(kind), path)
            case "apply_patch_call":
                patch = decode_at(raw, items.InputApplyPatchCall, path)
                return Call(patch.call_id, "apply_patch", _arguments(patch.operation), path)
            case "apply_patch_call_output":
                applied = decode_at(raw, items.ApplyPatchOutput, path)
                text = applied.output or applied.status or ""
                return Result(applied.call_id, text, _noun(kind), path)
            case _ if kind in _HOSTED_HISTORY:
                self.notices.append(_did_not_run(kind, path))
                return None
            case _:
                raise InvalidRequest(
                    f"Invalid value: '{kind}' is not a type of input item that can be translated.",
                    param=f"{path}.type",
                    code="invalid_value",
                )

    def _placed(self, thought: Thought, path: str) -> Thought | None:
        """The thought; None where it was put in its place, behind the calls that it holds."""
        ran = thought.ran
        if isinstance(ran, UnsetType):
            return thought
        if ran.searches:
            del self._searches[-ran.searches :]
        self._mcp_history().sealed(ran)
        self.last_source = max(self.last_source, ran.last_source)
        place(self._read_items, thought, ran, path)
        return None

    def _mcp_history(self) -> mcp_history.McpHistory:
        if self._mcp is None:
            self._mcp = mcp_history.McpHistory(self._tools)
        return self._mcp

    def _settle_searches(self, put: Sequence[tuple[int, int]]) -> None:
        """Put searches in their places whose items hold the results; the others are left out.

        `put` says how many items were put where since they were read.
        """
        for search in reversed(self._searches):
            if search.found is None:
                notice = _did_not_run("web_search_call", search.path)
                self.notices.insert(search.notice_at, notice)
            else:
                at = search.at + sum(number for where, number in put if where <= search.at)
                self._read_items[at:at] = search.found
        self._searches.clear()

    def _tool_search(self, raw: Raw, kind: str, path: str) -> Call | Result | None:
        if kind == "tool_search_call":
            search = decode_at(raw, items.InputToolSearchCall, path)
            self._last_search = search.call_id or path
            return Call(self._last_search, "tool_search", _text(search.arguments), path)
        found = decode_at(raw, items.ToolSearchOutput, path)
        text = _json({"tools": self._tools.declare(found.tools, f"{path}.tools")})
        call_id = found.call_id or self._last_search
        if not call_id:
            what = "No search stands before it, so only its tools are declared."
            self.notices.append(Notice(path, "item_dropped", what))
            return None
        return Result(call_id, text, _noun(kind), path)

    def _reference(self, item_id: str, path: str) -> InputItem | None:
        """The stored item that a reference names."""
        if self._store is not None and item_id in self._store.resolved:
            self._read([self._store.resolved[item_id]], path, last=-1)
            return None
        if item_id.startswith("rs_"):
            # The AI SDK sends reasoning as a reference on every second turn.
            what = "Items are not stored" if self._store is None else "The item is not stored"
            self.notices.append(
                Notice(path, "reference_dropped", f"{what}; the reference is ignored.")
            )
            return None
        what = (
            "Items are not stored here: set `store` to false in your client, or put the item itself"
            " into the input."
            if self._store is None
            else "Items are not persisted when `store` is set to false. Try again with `store` set"
            " to true, or remove this item from your input."
        )
        raise NotFound(f"Item with id '{item_id}' not found. {what}", param=f"{path}.id")

    def _trigger(self, path: str, *, last: bool) -> Message:
        if not last:
            raise InvalidRequest(
                "The 'compaction_trigger' item must be the final input item.",
                param=f"{path}.type",
                code="invalid_value",
            )
        self.compacts = True
        return Message("user", SUMMARY_REQUEST, path)

    def _configure(self, update: items.ConfigurationUpdate, path: str) -> None:
        if present(update.reasoning):
            where = f"{path}.reasoning"
            reasoning = decode_at(update.reasoning, responses.ReasoningConfig, where)
            self.reasoning = known_reasoning(reasoning, where, self.notices)
        if present(update.text):
            where = f"{path}.text"
            text = decode_at(update.text, responses.TextConfig, where)
            self.text = known_text(text, where, self.notices)


class _Search(NamedTuple):
    """A search in the input: its call and result, if it has them, and where they belong."""

    path: str
    found: tuple[Call, Result] | None
    at: int
    notice_at: int


def _did_not_run(kind: str, path: str) -> Notice:
    return Notice(path, "item_dropped", f"A {kind} did not run here; it was left out.")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(raw: Raw) -> str:
    return bytes(raw).decode()


def _arguments(raw: Raw, *, without: str = "") -> str:
    """The arguments of a call, from the fields of its item; empty values were never given."""
    fields = as_object(msgspec.json.decode(raw)) or {}
    given = {key: value for key, value in fields.items() if value not in (None, {})}
    given.pop(without, None)
    return _json(given)


def _noun(kind: str) -> str:
    return kind.replace("_", " ")
