"""The conversation writer: input items as chat messages, in an order that every upstream accepts.

    messages = [ system ], { user | system | assistant, { tool }, [ user with images ] } ;

Where the upstream's template requires it, roles alternate, each call has a message of its own, and
the user begins.

Adjacent reasoning, text and calls of the assistant form one message, as the upstream sent them;
text after text begins another, with the reasoning between. The results of its calls follow
directly, in input order, whatever stood between; images in results go into one user message after
the last result. A call without a result gets a placeholder, so an interrupted turn does not break
the conversation; a result without a call is a client error, but one that is stored is left out: its
call has been deleted, and no client could mend that.

Messages are only appended: the same beginning of the input gives the same first messages, byte for
byte, so prefix caches hit.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from translator.common.pauses import Pause, no_pause, paced
from translator.common.sealed import Thought
from translator.common.tools import REPEAT_MARK
from translator.dialects import Dialect
from translator.wire import chat
from translator.wire.json_values import NOT_JSON, decode_members
from translator.wire.notices import Notice

from .call_plan import Plan, plan_calls
from .content import ContentWriter, UndescribedImage
from .items_read import Call, InputItem, Message, Result

NO_OUTPUT = "[no output: the call was interrupted]"
"""Replaces the missing result of a call."""

NO_USER = "[the conversation begins with the assistant]"
"""Replaces a user's first message that an upstream requires."""

GO_ON = "Continue."
"""Follows an answer at the end, for an upstream that does not go on with it by itself."""

BLANK_LINE = "\n\n"
"""Separates messages that are joined."""

BLANK_REASONING = " "
"""Replaces missing reasoning that an upstream requires: some refuse an empty string."""

_BESIDE_CALLS: dict[str, str | UnsetType | None] = {"omit": UNSET, "null": None, "empty": ""}
_by_position = itemgetter(0)
_ALPHANUMERICS = string.digits + string.ascii_letters
_NINE = re.compile(r"[a-zA-Z0-9]{9}")
_REPEATED = re.compile(re.escape(REPEAT_MARK) + r"\d+\Z")


class Conversation(Struct, frozen=True):
    """The messages of a request, and the calls among them."""

    messages: list[chat.Message]
    call_ids: frozenset[str]
    """Ids of the calls in the history, as the client knows them."""
    called: frozenset[str]
    """Names of the functions that the history calls."""
    notices: list[Notice]
    undescribed: list[UndescribedImage]


def write_messages(
    instructions: str | None,
    input_items: Sequence[InputItem],
    *,
    dialect: Dialect,
    vision: bool,
    thinking: bool,
    descriptions: Mapping[str, str] | None = None,
    pause: Pause = no_pause,
) -> Conversation:
    """The conversation in the given dialect.

    `vision`: the model accepts images; `descriptions` are as in `to_chat.Target`. `thinking`: the
    model will think, so reasoning that it requires must be sent. `pause` is called between items,
    and between their parts. Raises InvalidRequest for an item that no message can express.
    """
    plan = plan_calls(input_items, pause)
    content = ContentWriter(dialect, vision=vision, descriptions=descriptions, pause=pause)
    writer = _Writer(dialect, content, plan, thinking=thinking)
    if instructions:
        writer.system(instructions, "instructions")
    for orphan in plan.orphans:
        what = f"Its call has been deleted; the {orphan.noun} was left out."
        content.notices.append(Notice(orphan.path, "item_dropped", what))
    for repeated in plan.repeated:
        what = f"The same {repeated.noun} stands before; this one was left out."
        content.notices.append(Notice(repeated.path, "duplicate_dropped", what))
    for item in paced(input_items, pause):
        writer.add(item)
    writer.flush()
    writer.end()
    return Conversation(
        writer.messages,
        frozenset(plan.call_ids),
        frozenset(plan.called),
        writer.content.notices,
        writer.content.undescribed,
    )


class _Draft:
    """An assistant message under construction."""

    __slots__ = ("calls", "content", "refusal", "thoughts", "used_thoughts")

    def __init__(self) -> None:
        self.thoughts: list[Thought] = []
        self.content: str | None = None
        self.refusal: str | None = None
        self.calls: list[tuple[int, Call]] = []
        self.used_thoughts = 0  # those before its text or its latest call

    def add_call(self, position: int, call: Call) -> None:
        self.calls.append((position, call))
        self.used_thoughts = len(self.thoughts)

    def set_text(self, text: str | None, refusal: str | None) -> None:
        self.content, self.refusal = text, refusal
        self.used_thoughts = len(self.thoughts)

    def take_unused_thoughts(self) -> list[Thought]:
        """Remove the reasoning that stands after all else in it."""
        unused = self.thoughts[self.used_thoughts :]
        del self.thoughts[self.used_thoughts :]
        return unused

    @property
    def reasoning_field(self) -> str:
        """The chat field that held the reasoning."""
        fields = (thought.field for thought in self.thoughts if thought.text)
        field = next(fields, "")
        return field if field in chat.REASONING_FIELDS else "reasoning_content"


class _Writer:
    def __init__(
        self, dialect: Dialect, content: ContentWriter, plan: Plan, *, thinking: bool
    ) -> None:
        self.dialect = dialect
        self.content = content
        self.messages: list[chat.Message] = []
        self._plan = plan
        self._thinking = thinking
        self._draft: _Draft | None = None
        self._position = -1
        self._leading = True  # nothing but system messages so far
        self._last_system = ("", "")  # the path and text of the last leading system message

    def add(self, item: InputItem) -> None:
        self._position += 1
        if type(item) is Call:
            self._open_draft().add_call(self._position, item)
        elif type(item) is Thought:
            self._open_draft().thoughts.append(item)
        elif type(item) is Message:
            self._message(item)
        else:
            self._result(item)

    def _result(self, _: Result) -> None:
        """End the open turn, unless the result stands inside it; it is written after its call."""
        if self._position not in self._plan.inside_turns and not self._may_go_on():
            self.flush()

    def _message(self, item: Message) -> None:
        if item.role == "assistant":
            self._assistant(item)
        elif item.role == "user":
            self.flush()
            self._append("user", self.content.user(item.content, f"{item.path}.content"))
        else:
            self.flush()
            text = self.content.text(item.content, f"{item.path}.content")
            self.system(text, item.path, item.role)

    def _may_go_on(self) -> bool:
        """The open turn has no calls, and the next one must be joined to it."""
        if not self.dialect.alternating_roles:
            return False
        draft = self._draft
        return draft is not None and not draft.calls

    # --- messages ---------------------------------------------------------------------------

    def system(self, text: str, path: str, role: str = "developer") -> None:
        """Write instructions, or a system or developer message, under the dialect's policy."""
        policy = self.dialect.system_messages
        chat_role = "developer" if role == "developer" and self.dialect.developer_role else "system"
        if self._leading:
            self._last_system = path, text
        if self._leading and policy != "keep" and self.messages:
            before = self.messages[-1]
            assert isinstance(before.content, str)  # a system message
            self.messages[-1] = chat.Message(before.role, f"{before.content}{BLANK_LINE}{text}")
        elif policy == "demote_later" and not self._leading:
            self._notice(path, "role_demoted", "A system message must come first; sent as user.")
            self._append("user", f"<system>\n{text}\n</system>")
        else:
            self.messages.append(chat.Message(chat_role, text))

    def _append(self, role: str, content: str | list[chat.Part]) -> None:
        self._leading = False
        before = self.messages[-1] if self.messages else None
        if role == "user" and before is not None:
            if before.role == "tool" and self.dialect.answer_between_tool_and_user:
                self.messages.append(chat.Message("assistant", "OK."))
            elif before.role == "user" and self.dialect.alternating_roles:
                joined = _joined(before.content, content)
                self.messages[-1] = chat.Message("user", joined)
                return
        self.messages.append(chat.Message(role, content))

    def end(self) -> None:
        """Complete a conversation of system messages alone, or one that ends with an answer."""
        if self._leading and self.messages:
            self._begin_with_user()
        answered = bool(self.messages) and self.messages[-1].role == "assistant"
        if answered and not self.dialect.assistant_last:
            self.messages.append(chat.Message("user", GO_ON))

    def _begin_with_user(self) -> None:
        """Send the last leading system message as the user's, where the upstream requires one.

        This is decided where the assistant's first message follows, so that a longer conversation
        begins with the same messages.
        """
        if not (self._leading and self.dialect.user_message_required):
            return
        self._leading = False
        if not self.messages:
            self.messages.append(chat.Message("user", NO_USER))
            return
        path, text = self._last_system
        message = "The upstream requires a user message; the system message was sent as one."
        self._notice(path, "role_demoted", message)
        merged = self.messages.pop()
        assert isinstance(merged.content, str)  # a system message
        rest = merged.content.removesuffix(text).removesuffix(BLANK_LINE)
        if rest:
            self.messages.append(chat.Message(merged.role, rest))
        self.messages.append(chat.Message("user", text))

    def _open_draft(self) -> _Draft:
        if self._draft is None:
            self._draft = _Draft()
        return self._draft

    def _assistant(self, message: Message) -> None:
        text, refusal = self.content.assistant(message.content, message.path)
        draft = self._draft
        thoughts: list[Thought] = []
        if draft and (draft.content is not None or draft.refusal is not None):
            if self.dialect.alternating_roles:
                draft.set_text(_either(draft.content, text), _either(draft.refusal, refusal))
                return
            thoughts = draft.take_unused_thoughts()  # which have led to this message
            self.flush()
        draft = self._open_draft()
        draft.thoughts += thoughts
        draft.set_text(text, refusal)

    def flush(self) -> None:
        """Close the assistant's turn: write its message, then the results of its calls."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        if not draft.calls and not draft.content and not draft.refusal:
            return  # reasoning without output, or an empty answer
        self._begin_with_user()
        self._leading = False
        images: list[chat.Part] = []
        calls = draft.calls
        if len(calls) < 2 or not self.dialect.one_call_per_message:
            self._turn(draft, images)
        else:
            for call in calls:
                draft.calls = [call]
                self._turn(draft, images)
                draft = _Draft()
        if images:
            self._append("user", images)

    def _turn(self, draft: _Draft, images: list[chat.Part]) -> None:
        """Write an assistant message and the results of its calls; add their images to a list."""
        self.messages.append(self._assistant_message(draft))
        known = self._plan.results
        results = [numbered for position, _ in draft.calls for numbered in known.get(position, ())]
        if len(results) > 1 and not any(result.is_hosted for _, result in results):
            results.sort(key=_by_position)  # else the order is that of the calls, on every way
        for _, result in results:
            text, attached = self.content.result(result.content, result.path)
            images += attached
            self._tool_message(result.call_id, text)
        for position, call in draft.calls:
            if position not in known:
                self._notice(call.path, "output_missing", "No output; a placeholder was sent.")
                self._tool_message(call.call_id, NO_OUTPUT)

    def _tool_message(self, call_id: str, text: str | Raw) -> None:
        self.messages.append(chat.Message("tool", text, tool_call_id=self._upstream_id(call_id)))

    def _assistant_message(self, draft: _Draft) -> chat.Message:
        content: str | UnsetType | None = draft.content or UNSET
        if not draft.content and draft.calls:
            content = _BESIDE_CALLS[self.dialect.content_beside_calls]
        fields = self._reasoning(draft)
        if draft.refusal:
            fields["refusal"] = draft.refusal
        if draft.calls:
            fields["tool_calls"] = self._calls(draft)
        if self._plan.extras:
            fields["extra_content"] = self._message_extra(draft)
        return chat.Message("assistant", content, **fields)

    def _calls(self, draft: _Draft) -> list[chat.ToolCall]:
        calls = [self._call(call) for _, call in draft.calls]
        wanted = self.dialect.extra_content_required
        if wanted and self._thinking and all(c.extra_content is UNSET for c in calls):
            calls[0] = msgspec.structs.replace(calls[0], extra_content=wanted)
        return calls

    def _message_extra(self, draft: _Draft) -> object:
        if not self.dialect.extra_content:
            return UNSET
        extras = [thought.extras[""] for thought in draft.thoughts if "" in thought.extras]
        return extras[-1] if extras else UNSET

    def _reasoning(self, draft: _Draft) -> dict[str, Any]:
        """The field of the message that sends reasoning back."""
        dialect = self.dialect
        if dialect.reasoning_replay == "drop":
            return {}
        if dialect.reasoning_not_beside_text_and_calls and draft.content and draft.calls:
            return {}
        if dialect.reasoning_details:
            details = [entry for thought in draft.thoughts for entry in thought.details]
            if details:
                return {"reasoning_details": details}
        text = "".join([thought.text for thought in draft.thoughts])
        if not text:
            if not (dialect.reasoning_required and self._thinking):
                return {}
            text = BLANK_REASONING
        return {dialect.reasoning_field or draft.reasoning_field: text}

    def _call(self, call: Call) -> chat.ToolCall:
        return chat.ToolCall(
            self._upstream_id(call.call_id),
            chat.Function(call.name, self._json_object(call)),
            self._plan.extras.get(call.call_id, UNSET) if self.dialect.extra_content else UNSET,
        )

    def _notice(self, path: str, code: str, message: str) -> None:
        self.content.notices.append(Notice(path, code, message))

    def _upstream_id(self, call_id: str) -> str:
        """The upstream's own id: without the suffix that made it unique for the client."""
        if REPEAT_MARK in call_id:
            call_id = _REPEATED.sub("", call_id)
        if self.dialect.call_ids == "as_is" or _NINE.fullmatch(call_id):
            return call_id
        digest = int.from_bytes(hashlib.sha256(call_id.encode()).digest())
        return "".join(_ALPHANUMERICS[digest // 62**n % 62] for n in range(9))

    def _json_object(self, call: Call) -> str:
        """Arguments as a JSON object: templates and several servers parse them."""
        if not call.arguments or call.arguments.isspace():
            return "{}"
        try:
            decode_members(call.arguments)
        except NOT_JSON:
            self._notice(call.path, "arguments_wrapped", "Not a JSON object; wrapped in one.")
            return msgspec.json.encode({"input": call.arguments}).decode()
        return call.arguments


def _joined(before: object, content: str | list[chat.Part]) -> str | list[chat.Part]:
    """The content of two user messages as that of one."""
    if isinstance(before, str) and isinstance(content, str):
        return f"{before}{BLANK_LINE}{content}"
    return [*_parts(before), *_parts(content)]


def _parts(content: object) -> list[chat.Part]:
    if isinstance(content, str):
        return [chat.TextPart(content)]
    return cast("list[chat.Part]", content)


def _either(before: str | None, text: str | None) -> str | None:
    """Two texts of the assistant as one, either of which may be missing."""
    return f"{before}{BLANK_LINE}{text}" if before and text else before or text
