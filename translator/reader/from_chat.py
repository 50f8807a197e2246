"""Chat reader: the payloads of an upstream's answer become deltas.

All tolerance of odd upstreams lives here. A payload (a chunk of a stream, or a whole completion) is
decoded once and read in the order reasoning, text, tool calls, in whatever order its keys came. The
reader keeps what upstreams spread over several payloads: which call a delta belongs to, text that
was cut in mid-character or mid-tag, the finish reason (`end_of_answer`).

White space between reasoning in a field of its own and the text is kept, streamed or not: such a
server has said what the text is, and gets it back unchanged. Only where the tags are split here is
the blank behind them no text, since it belongs to the tags.

A chunk that only adds to what the last one held takes a fast path (`fast_chunks`), where nothing of
this state can change. All others take the general path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Raw, structs

from translator.common.json_text import is_cut_object
from translator.dialects import Dialect
from translator.dialects.think_tags import Splitter
from translator.wire import chat
from translator.wire.deltas import (
    MAX_ITEMS,
    CallExtra,
    Delta,
    Failure,
    Logprob,
    Reasoning,
    ReasoningDetails,
    Refusal,
    ServiceTier,
    Text,
    ToolCall,
    Verdict,
)
from translator.wire.errors import AnswerTooLarge, UpstreamError
from translator.wire.json_values import (
    NOT_JSON,
    as_list,
    objects_in,
    present,
    replace_lone_surrogates,
)

from .call_assembler import CallAssembler
from .citations import CitationReader
from .content_parts import texts_of
from .end_of_answer import STOP, EndOfAnswer
from .fast_chunks import REASONING, TEXT, FastReader, NotMore, read_arguments
from .lenient_json import decode_leniently
from .logprobs import read_logprobs, spelling
from .native_calls import NativeCall, NativeCalls, ends_in_half_a_call
from .text_channel import TextChannel
from .upstream_errors import read_error_object
from .usage import read_usage, stated_output

DONE = b"[DONE]"

MAX_MALFORMED = 3
"""So many payloads in a row that are no JSON end the stream: it is not what it says it is."""

_DELTAS: Mapping[str, Callable[[str], Delta]] = {
    **{field: partial(Reasoning, field=field) for field in chat.REASONING_FIELDS},
    "content": Text,
    "refusal": Refusal,
}
"""What the text of each field becomes."""

_chunk_decoder = msgspec.json.Decoder(chat.Chunk)
_decode_details = msgspec.json.Decoder(list[dict[str, Any]]).decode


class ChatReader:
    """Reads the payloads of one answer.

    `read(payload)` takes one payload of a stream or a whole completion and returns its deltas.
    `over` is set when nothing that follows can count: `[DONE]` came, or the answer has failed, and
    then `failure` holds the error. `end()` returns the deltas that were held back, and `verdict()`
    how the answer ended.
    """

    __slots__ = (
        *("_arguments", "_calls", "_channels", "_citations", "_cut_arguments", "_cut_native"),
        *("_declares", "_dialect", "_end", "_has_fast_path", "_malformed", "_max_calls"),
        *("_prefill", "_produced", "_split_by_server", "_stray_close", "_tags", "fast", "over"),
    )

    def __init__(
        self,
        dialect: Dialect,
        declares: Callable[[str], bool],
        *,
        max_calls: int = MAX_ITEMS,
        output_limit: int | None = None,
        prefill: str = "",
    ) -> None:
        """`declares(name)` tells whether a function was offered to the model.

        `output_limit` is the number of tokens after which the upstream ends an answer. `prefill` is
        the text of the last message, where that is the assistant's.
        """
        self._declares = declares
        self._max_calls = max_calls
        self._dialect = dialect
        self._channels: dict[str, TextChannel] = {}  # of the fields that have come
        self._arguments: dict[int, TextChannel] = {}  # of calls, by their keys
        self._cut_arguments: dict[int, None] = {}  # keys of calls cut in a character
        self._calls = CallAssembler(declares)
        self._citations = CitationReader()
        self._end = EndOfAnswer(output_limit)
        self._tags = Splitter(dialect.think_tags) if dialect.think_tags else None
        self._stray_close = bool(dialect.think_tags and dialect.think_tags.stray_close)
        self._split_by_server = False  # reasoning has a field of its own: tags in text are text
        self._cut_native = False  # a call that was text stops in the middle
        self._prefill = prefill if dialect.repeats_prefill else ""
        self._produced = False
        self._malformed = 0
        self._has_fast_path = not (dialect.recover_calls or dialect.cumulative)
        self.fast: FastReader | None = None
        """Reads chunks that only add to the last delta; None while any chunk may do more."""
        self.over = False

    @property
    def failure(self) -> UpstreamError | None:
        """The error that the upstream reported inside the answer."""
        return self._end.failure

    @property
    def size(self) -> int:
        """The bytes of the calls so far, and of text that is held back."""
        return self._calls.size + self.withheld

    @property
    def withheld(self) -> int:
        """The bytes of text that may be calls, and is held back until the end."""
        natives = (channel.native for channel in self._channels.values())
        return sum(one.size for one in natives if one is not None)

    @property
    def call_count(self) -> int:
        """How many calls there are."""
        return self._calls.count

    def read(self, payload: bytes) -> list[Delta]:
        """The deltas of one payload; empty for one without content."""
        if self.fast is not None:
            try:
                delta = self.fast.delta(payload)
            except NOT_JSON:
                delta = None
            if delta is not None:
                return [delta]
        deltas = self._read(payload)
        if self._has_fast_path:
            self.fast = self._fast_reader(deltas[0]) if len(deltas) == 1 else None
        return deltas

    def _fast_reader(self, delta: Delta) -> FastReader | None:
        """A reader of chunks that add to the last delta; None where a chunk may need more care."""
        if not self._produced or self.over:
            return None
        match delta:
            case Text():  # so tags, if any are looked for, are behind it
                return None if self._channel("content").half else TEXT
            case Reasoning() if self._split_by_server is not self._stray_close:
                cut = self._channel(delta.field).half
                return None if cut else REASONING.get(delta.field)
            case ToolCall() if not (self._cut_arguments or self._calls.unsettled):
                return _arguments_reader(self._calls, delta.key)
            case _:
                return None

    def _read(self, payload: bytes) -> list[Delta]:
        if self.over:
            return []
        if payload.strip() == DONE:
            self._end.done = self.over = True
            return []
        try:
            chunk = _chunk_decoder.decode(payload)
        except NOT_JSON:
            return self._read_odd(payload)
        self._malformed = 0
        if not chunk.choices and chunk.usage is None:
            return self._read_odd(payload)
        if chunk.error is not UNSET and present(chunk.error):
            return self._read_odd(payload)
        return self._read_chunk(chunk)

    def end(self) -> list[Delta]:
        """The deltas that were held back until it was certain that nothing follows."""
        deltas: list[Delta] = []
        if self._tags is not None:
            self._split(deltas, self._tags.end(), None)
        fields = [self._channels[field] for field in _DELTAS if field in self._channels]
        channels = [*fields, *self._arguments.values()]
        held = [(channel, channel.native) for channel in channels if channel.native is not None]
        calls = self._native_calls([native for _, native in held]) if held else []
        for channel, native in held:
            if text := native.rest():
                self._produced = True
                deltas.append(channel.delta(text))
        for channel in channels:
            if channel.half:
                deltas.append(channel.delta("\ufffd"))
                channel.half = ""
        for key, call in enumerate(calls):
            deltas.append(ToolCall(key, call.id, call.name, call.arguments))
        return deltas

    def _native_calls(self, held: list[NativeCalls]) -> list[NativeCall]:
        """The calls in text that was held back, where there are no others."""
        calls: list[NativeCall] = []
        at_limit = self._end.at_limit
        if not self._calls.count and (at_limit or self._dialect.recover_calls):
            calls = [call for native in held for call in native.calls(at_limit=at_limit)]
        half = any(native.cut for native in held)
        self._produced = self._produced or bool(calls) or half
        self._cut_native = half or any(is_cut_object(call.arguments) for call in calls)
        return calls

    @property
    def fails_in_call(self) -> bool:
        """Whether the verdict is a failure because a call stops in the middle."""
        return self._end.fails_in_call

    def verdict(self, stray: str = "") -> Verdict:
        """How the answer ended, now that the body is over.

        `stray` is text of the body that belonged to no event; it explains a missing end.
        """
        called = self._calls.count > 0
        verdict = self._end.verdict(
            produced=self._produced,
            calls_suffice=called and self._dialect.lenient_eof and self._calls.all_whole,
            cut_call=self._cut_native or (called and self._calls.cut),
            stray=stray,
        )
        if called and verdict == STOP and self._calls.nameless:
            return Failure(UpstreamError("The upstream called a function without saying which."))
        return verdict

    # --- payloads ---------------------------------------------------------------------------

    def _read_odd(self, payload: bytes) -> list[Delta]:
        """A payload that is not quite a chunk: an error, a wrapper, wrong types, no JSON."""
        try:
            value = decode_leniently(payload)
        except ValueError:
            lines = payload.split(b"\n")
            if len(lines) > 1:  # two events that lost the blank line between them
                return [delta for line in lines for delta in self.read(line)]
            self._malformed += 1
            if self._malformed >= MAX_MALFORMED:
                self._fail(UpstreamError("The upstream sends something else than JSON."))
            return []
        self._malformed = 0
        entries = as_list(value)
        if entries and not read_error_object(entries):
            return [delta for entry in entries for delta in self._read_value(entry)]
        return self._read_value(value)

    def _read_value(self, value: object) -> list[Delta]:
        error = read_error_object(value)
        chunk = chat.lenient(value)
        deltas = self._read_chunk(chunk) if chunk else []
        # After a finish reason the answer is whole, whatever error the server reports afterwards
        # (OpenRouter reports "Token limit reached" behind `length`).
        if error is not None and self._end.finish_reason in (None, "error"):
            self._fail(error)
        return deltas

    def _fail(self, error: UpstreamError) -> None:
        self._end.failure = error
        self.over = True

    def _read_chunk(self, chunk: chat.Chunk) -> list[Delta]:
        deltas: list[Delta] = []
        citations, results = chunk.citations, chunk.search_results
        if (citations is not UNSET or results is not UNSET) and (
            present(citations) or present(results)
        ):
            sources = self._citations.sources(citations, results)
            if sources is not None:
                deltas.append(sources)
        usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index:
                continue  # another candidate; only the first is translated
            usage = usage or choice.usage
            delta = choice.delta
            if delta is None and choice.message is not None:
                delta = self._whole_message(choice.message)
            if delta is not None:
                self._read_delta(delta, choice.logprobs, deltas)
            if choice.finish_reason:
                self._end.finish_reason = choice.finish_reason
        usage = usage or (chunk.x_groq.usage if chunk.x_groq else None)
        self._end.usage_alone = bool(usage) and not chunk.choices
        if usage:
            excludes = self._dialect.prompt_excludes_cached
            read = read_usage(usage, chunk.timings, prompt_excludes_cached=excludes)
            self._end.saw_usage(stated_output(usage, read))
            deltas.append(read)
        if chunk.service_tier:
            deltas.append(ServiceTier(chunk.service_tier))
        return deltas

    def _whole_message(self, message: chat.Delta) -> chat.Delta:
        """A message that is not streamed, with the text that a stream of it would have.

        Some servers begin it with the text of the request's last message; vLLM leaves a call that
        the limit cut in the text.
        """
        content = message.content
        if not isinstance(content, str):
            return message
        if not message.tool_calls and ends_in_half_a_call(content, self._declares):
            channel = self._channel("content")
            channel.native = channel.native or NativeCalls(self._declares)
        return structs.replace(message, content=content.removeprefix(self._prefill))

    def _read_delta(
        self, delta: chat.Delta, logprobs: chat.Logprobs | None, deltas: list[Delta]
    ) -> None:
        reasoned = delta.reasoning_content or delta.reasoning or delta.reasoning_text or ""
        if delta.reasoning_content:
            self._read_reasoning("reasoning_content", reasoned, deltas)
        elif delta.reasoning:
            self._read_reasoning("reasoning", reasoned, deltas)
        elif delta.reasoning_text:
            self._read_reasoning("reasoning_text", reasoned, deltas)
        if delta.reasoning_details is not UNSET:
            reasoned = self._read_details(reasoned, delta.reasoning_details, deltas)
        content = delta.content
        if isinstance(content, str):
            if content:
                self._read_text(content, logprobs, deltas, behind=reasoned)
        elif content:
            self._read_parts(content, deltas, with_reasoning=not reasoned.strip())
        if delta.refusal:
            self._add(deltas, "refusal", delta.refusal)
        if delta.annotations:
            read = map(self._citations.annotation, delta.annotations)
            deltas += [citation for citation in read if citation is not None]
        calls = delta.tool_calls
        if delta.function_call is not None:
            calls = [chat.ToolCallDelta(index=0, function=delta.function_call)]
        if calls:
            if self._tags is not None:
                self._split(deltas, self._tags.call(), None)
            self._read_calls(calls, deltas)
        if delta.extra_content is not UNSET and present(delta.extra_content):
            deltas.append(CallExtra(None, delta.extra_content))

    # --- kinds of content ---------------------------------------------------------------------

    def _read_reasoning(self, field: str, text: str, deltas: list[Delta]) -> None:
        self._split_by_server = not self._stray_close
        self._add(deltas, field, text)

    @property
    def _tag_splitter(self) -> Splitter | None:
        """Splits reasoning off the text; None where the text holds no tags, or no more."""
        tags = self._tags
        return None if tags is None or self._split_by_server or tags.only_text else tags

    def _read_text(
        self, text: str, logprobs: chat.Logprobs | None, deltas: list[Delta], *, behind: str = ""
    ) -> None:
        """`behind` is the reasoning of the same payload."""
        read = read_logprobs(logprobs) if logprobs else None
        tags = self._tag_splitter
        if tags is None:
            self._add(deltas, "content", text, read, behind)
        else:
            self._split(deltas, tags.feed(text), read)

    def _split(
        self, deltas: list[Delta], runs: list[tuple[bool, str]], logprobs: list[Logprob] | None
    ) -> None:
        behind = ""
        for is_reasoning, text in runs:
            if is_reasoning:
                self._add(deltas, "reasoning_content", text)
                behind = text
            else:
                self._add(deltas, "content", text, logprobs, behind)
                logprobs = None

    def _read_parts(self, parts: list[Any], deltas: list[Delta], *, with_reasoning: bool) -> None:
        """Reasoning among the parts counts where no other field of the payload has it."""
        for is_reasoning, text in texts_of(parts):
            if not is_reasoning:
                self._read_text(text, None, deltas)
            elif with_reasoning:
                self._add(deltas, "reasoning_content", text)

    def _read_calls(self, calls: list[chat.ToolCallDelta], deltas: list[Delta]) -> None:
        limit = self._max_calls
        read = self._calls.read(calls) if len(calls) <= limit else []
        if not read or self._calls.count > limit:
            self._fail(AnswerTooLarge.than(limit, "calls"))
            return
        self._produced = True
        deltas.extend(map(self._with_whole_characters, read))

    def _read_details(self, reasoned: str, details: Raw, deltas: list[Delta]) -> str:
        """`reasoning_details`: opaque, but for its text where no other field gives it.

        Returns the reasoning of the payload.
        """
        try:
            entries = _decode_details(details)
        except NOT_JSON:
            entries = objects_in(decode_leniently(bytes(details)))
            details = Raw(replace_lone_surrogates(json.dumps(entries, ensure_ascii=False)).encode())
        if not reasoned:
            for entry in entries:
                text = entry.get("text") or entry.get("summary")
                if isinstance(text, str) and text:
                    self._add(deltas, "reasoning", text)
                    reasoned += text
        if entries and self._dialect.reasoning_details:
            deltas.append(ReasoningDetails(details))
        return reasoned

    def _channel(self, field: str) -> TextChannel:
        """The channel of a field of text, made when it first comes: an answer has few of them."""
        return self._channels.get(field) or self._new_channel(field)

    def _new_channel(self, field: str) -> TextChannel:
        """In a refusal no calls are looked for."""
        dialect, recovers = self._dialect, self._dialect.recover_calls and field != "refusal"
        self._channels[field] = channel = TextChannel(
            _DELTAS[field],
            cumulative=dialect.cumulative,
            native=NativeCalls(self._declares) if recovers else None,
        )
        return channel

    def _add(
        self,
        deltas: list[Delta],
        field: str,
        text: str,
        logprobs: list[Logprob] | None = None,
        behind: str = "",
    ) -> None:
        channel = self._channel(field)
        text = channel.feed(text)
        if text:
            if not self._produced:
                self._produced = not text.isspace()
            if logprobs:
                deltas.append(Text(text, spelling(text, behind, logprobs)))
            else:
                deltas.append(channel.delta(text))

    def _with_whole_characters(self, delta: ToolCall | CallExtra) -> ToolCall | CallExtra:
        """A delta of a call, its arguments without half characters."""
        if isinstance(delta, CallExtra) or not delta.arguments:
            return delta
        channel = self._arguments.get(delta.key)
        if channel is None:
            if delta.arguments.isascii():
                return delta
            channel = TextChannel(partial(ToolCall, delta.key, None, None))
            self._arguments[delta.key] = channel
        arguments = channel.feed(delta.arguments)
        if channel.half:
            self._cut_arguments[delta.key] = None
        else:
            self._cut_arguments.pop(delta.key, None)
        return ToolCall(delta.key, delta.id, delta.name, arguments)


def _arguments_reader(calls: CallAssembler, key: int) -> FastReader:
    """The reader of more arguments; their text alone only for the call with this key."""

    def delta(payload: bytes) -> ToolCall | None:
        return calls.append_arguments(*read_arguments(payload))

    def text(payload: bytes) -> str:
        index, arguments = read_arguments(payload)
        if not calls.adds_arguments(key, index, arguments):
            raise NotMore
        return arguments

    return FastReader(ToolCall, str(key), delta, text, plain=False)
