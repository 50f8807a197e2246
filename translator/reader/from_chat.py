"""An upstream's answer, read into deltas: all tolerance of odd upstreams lives here.

One payload (a chunk of a stream, or a whole completion) is decoded once and read in the order
reasoning, text, tool calls, whatever order its keys came in. What is remembered between payloads
is what upstreams spread over several: which call a piece belongs to, the finish reason, the usage.

The verdict waits for `[DONE]` or the end of the body. Usage may follow the finish reason; the
finish reason may repeat, or come with every chunk; the last one counts.

    finish reason seen                      the end it names
    [DONE], or a last chunk of usage alone  a normal end
    an error object before either           a failure, at once
    silence                                 a failure that clients may retry
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from translator.dialects import Dialect
from translator.dialects.think_tags import Splitter
from translator.wire import chat
from translator.wire.deltas import (
    CallExtra,
    Citation,
    Delta,
    Failure,
    Finish,
    Logprob,
    Reasoning,
    ReasoningDetails,
    Refusal,
    ServiceTier,
    Source,
    Sources,
    Text,
    TokenLogprob,
    ToolCall,
    Verdict,
)
from translator.wire.errors import UpstreamError
from translator.wire.json_values import (
    NOT_JSON,
    as_integer,
    as_list,
    as_object,
    as_string,
    objects_in,
    present,
    replace_lone_surrogates,
)

from .call_pieces import ToolCallPieces
from .fast_chunks import more_arguments, more_reasoning, more_reasoning_content, more_text
from .native_calls import NativeCalls
from .upstream_errors import read_error_object
from .usage import read_usage

DONE = b"[DONE]"

MAX_MALFORMED = 3
"""So many payloads in a row that are no JSON end the stream: it is not what it says it is."""

_STOPPED: dict[str, Literal["stop", "length", "content_filter"]] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral
    "repetition_truncation": "length",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "sensitive": "content_filter",  # Z.ai
    "safety": "content_filter",
    "refusal": "content_filter",
}
_WHOLE = frozenset(
    {"stop", "eos", "end_turn", "stop_sequence", "tool_calls", "function_call", "tool_use"}
)
_BROKEN = {
    "insufficient_system_resource": "The upstream ran out of resources.",  # DeepSeek
    "network_error": "The upstream had a network error.",  # Z.ai
    "error": "The upstream broke off with an error.",  # OpenRouter, vLLM
    "abort": "The upstream aborted the answer.",  # SGLang, vLLM
    "aborted": "The upstream aborted the answer.",
    "cancelled": "The upstream cancelled the answer.",
}
_STOP = Finish("stop")
_MORE_REASONING = {
    "reasoning_content": more_reasoning_content,
    "reasoning": more_reasoning,
}
_chunk_decoder = msgspec.json.Decoder(chat.Chunk)


class ChatReader:
    """Reads the payloads of one answer.

    `read(payload)` takes one payload of a stream or a whole completion and returns its deltas.
    `over` is set when nothing can follow that counts: `[DONE]` came, or the answer has failed, and
    then `failure` says how. `end()` returns the deltas that were held back, and `verdict()` says
    how the answer ended.
    """

    def __init__(self, dialect: Dialect, declares: Callable[[str], bool]) -> None:
        """`declares(name)` tells whether a function was offered to the model."""
        self._dialect = dialect
        self._native = (
            {kind: NativeCalls(declares) for kind in (*chat.REASONING_FIELDS, "text")}
            if dialect.recover_calls
            else {}
        )
        self._tags = Splitter(dialect.think_tags) if dialect.think_tags else None
        self._stray_close = bool(dialect.think_tags and dialect.think_tags.stray_close)
        self._calls = ToolCallPieces()
        self._finish_reason: str | None = None
        self._done = False
        self._usage_alone = False
        self._split_by_server = False  # reasoning has a field of its own: tags in text are text
        self._produced = False
        self._malformed = 0
        self._half: dict[str, str] = {}  # first halves of surrogate pairs, by kind of text
        self._so_far: dict[str, str | None] = {}  # all text by kind, while chunks may repeat it
        self._cited: set[tuple[str, int, int]] = set()
        self._sources: tuple[Source, ...] = ()
        self._sources_read: tuple[Raw | UnsetType, Raw | UnsetType] = (UNSET, UNSET)
        self._more: Callable[[bytes], Delta | None] | None = None  # reads what the last chunk was
        self.failure: UpstreamError | None = None
        self.over = False

    def read(self, payload: bytes) -> list[Delta]:
        """The deltas of one payload; empty for what says nothing."""
        if self._more is not None:
            try:
                more = self._more(payload)
            except NOT_JSON:
                more = None
            if more is not None:
                return [more]
        deltas = self._read(payload)
        self._more = self._reads_more_of(deltas[0]) if len(deltas) == 1 else None
        return deltas

    def _reads_more_of(self, delta: Delta) -> Callable[[bytes], Delta | None] | None:
        """What reads more of the same, where it is taken as it stands and changes nothing here."""
        if not self._produced or self._half or self._native or self._dialect.cumulative:
            return None
        match delta:
            case Text():
                return more_text if self._looks_for_tags is None else None
            case Reasoning() if self._split_by_server is not self._stray_close:
                return _MORE_REASONING.get(delta.field)
            case ToolCall():
                return partial(_more_of_a_call, self._calls)
            case _:
                return None

    def _read(self, payload: bytes) -> list[Delta]:
        if self.over:
            return []
        try:
            chunk = _chunk_decoder.decode(payload)
        except NOT_JSON:
            if payload.strip() != DONE:
                return self._read_odd(payload)
            self._done = self.over = True
            return []
        self._malformed = 0
        if not chunk.choices and chunk.usage is None:
            return self._read_odd(payload)
        if present(chunk.error):
            return self._read_odd(payload)
        return self._read_chunk(chunk)

    def end(self) -> list[Delta]:
        """What was held back until it was certain that nothing follows."""
        deltas: list[Delta] = []
        if self._tags is not None:
            self._split(deltas, self._tags.end(), None)
        natives = self._native.values()
        calls = [] if self._calls.any else [call for one in natives for call in one.calls()]
        for kind, native in self._native.items():
            if text := native.rest():
                deltas.append(_text_of_kind(kind, text))
        deltas += [_text_of_kind(kind, "\ufffd") for kind in self._half]
        self._half.clear()
        for key, call in enumerate(calls):
            deltas.append(ToolCall(key, call.id, call.name, call.arguments))
        return deltas

    def verdict(self, stray: str = "") -> Verdict:
        """How the answer ended, now that the body is over.

        `stray` is text of the body that belonged to no event; it explains an end that is none.
        """
        verdict = self._end_reached(stray)
        if verdict == _STOP and self._calls.nameless:
            return Failure(UpstreamError("The upstream called a function without saying which."))
        return verdict

    def _end_reached(self, stray: str) -> Verdict:
        if self.failure is not None:
            if self.failure.code == "content_filter" and self._produced:
                return Finish("content_filter")
            return Failure(self.failure)
        reason = self._finish_reason
        if reason is not None:
            return self._named_end(reason.lower())
        if self._done or self._usage_alone:
            return _STOP
        if self._dialect.lenient_eof and self._calls.all_whole:
            return _STOP
        what = f": {stray}" if stray else "."
        return Failure(UpstreamError(f"The upstream closed the stream before it finished{what}"))

    def _named_end(self, reason: str) -> Verdict:
        if reason in _BROKEN:
            return Failure(UpstreamError(_BROKEN[reason]))
        if reason == "model_context_window_exceeded":  # Z.ai
            if self._produced:
                return Finish("length")
            message = "The conversation is longer than the model's context window."
            return Failure(
                UpstreamError(
                    message,
                    status=400,
                    code="context_length_exceeded",
                    type="invalid_request_error",
                )
            )
        if reason in _STOPPED:
            return Finish(_STOPPED[reason])
        if reason in _WHOLE or self._produced:
            return _STOP
        shown = replace_lone_surrogates(reason[:100])
        message = f"The upstream stopped for an unknown reason ({shown}) and said nothing."
        return Failure(UpstreamError(message))

    # --- payloads ---------------------------------------------------------------------------

    def _read_odd(self, payload: bytes) -> list[Delta]:
        """A payload that is not quite a chunk: an error, a wrapper, wrong types, no JSON."""
        try:
            value = _decode_any(payload)
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
        # After a finish reason the answer is whole, whatever the server complains of afterwards
        # (OpenRouter reports "Token limit reached" behind `length`).
        if error is not None and self._finish_reason in (None, "error"):
            self._fail(error)
        return deltas

    def _fail(self, error: UpstreamError) -> None:
        self.failure = error
        self.over = True

    def _read_chunk(self, chunk: chat.Chunk) -> list[Delta]:
        deltas: list[Delta] = []
        if present(chunk.citations) or present(chunk.search_results):
            self._read_sources(chunk.citations, chunk.search_results, deltas)
        usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index:
                continue  # another candidate; only the first is translated
            usage = usage or choice.usage
            delta = choice.delta if choice.delta is not None else choice.message
            if delta is not None:
                self._read_delta(delta, choice.logprobs, deltas)
            if choice.finish_reason:
                self._finish_reason = choice.finish_reason
        usage = usage or (chunk.x_groq.usage if chunk.x_groq else None)
        self._usage_alone = bool(usage) and not chunk.choices
        if usage:
            excludes = self._dialect.prompt_excludes_cached
            deltas.append(read_usage(usage, chunk.timings, prompt_excludes_cached=excludes))
        if chunk.service_tier:
            deltas.append(ServiceTier(chunk.service_tier))
        return deltas

    def _read_delta(
        self, delta: chat.Delta, logprobs: chat.Logprobs | None, deltas: list[Delta]
    ) -> None:
        if delta.reasoning_content:
            self._read_thought("reasoning_content", delta.reasoning_content, deltas)
        elif delta.reasoning:
            self._read_thought("reasoning", delta.reasoning, deltas)
        elif delta.reasoning_text:
            self._read_thought("reasoning_text", delta.reasoning_text, deltas)
        if delta.reasoning_details is not UNSET:
            self._read_details(delta, delta.reasoning_details, deltas)
        content = delta.content
        if isinstance(content, str):
            if content:
                self._read_text(content, logprobs, deltas)
        elif content:
            self._read_parts(content, deltas)
        if delta.refusal:
            self._add(deltas, "refusal", delta.refusal)
        for annotation in delta.annotations or ():
            self._read_annotation(annotation, deltas)
        calls = delta.tool_calls
        if delta.function_call is not None:
            calls = [chat.ToolCallDelta(index=0, function=delta.function_call)]
        if calls:
            if self._tags is not None:
                self._split(deltas, self._tags.call(), None)
            self._produced = True
            deltas.extend(map(self._with_whole_characters, self._calls.read(calls)))
        if present(delta.extra_content):
            deltas.append(CallExtra(None, delta.extra_content))

    # --- kinds of content ---------------------------------------------------------------------

    def _read_thought(self, field: str, text: str, deltas: list[Delta]) -> None:
        self._split_by_server = not self._stray_close
        self._add(deltas, field, text)

    @property
    def _looks_for_tags(self) -> Splitter | None:
        """What finds reasoning among text, as long as there may be some."""
        tags = self._tags
        return None if tags is None or self._split_by_server or tags.only_text else tags

    def _read_text(self, text: str, logprobs: chat.Logprobs | None, deltas: list[Delta]) -> None:
        read = _read_logprobs(logprobs) if logprobs else None
        tags = self._looks_for_tags
        if tags is None:
            self._add(deltas, "text", text, read)
        else:
            self._split(deltas, tags.feed(text), read)

    def _split(
        self, deltas: list[Delta], runs: list[tuple[bool, str]], logprobs: list[Logprob] | None
    ) -> None:
        for is_reasoning, text in runs:
            if is_reasoning:
                self._add(deltas, "reasoning_content", text)
            else:
                self._add(deltas, "text", text, logprobs)
                logprobs = None

    def _read_parts(self, parts: list[Any], deltas: list[Delta]) -> None:
        """A list of texts and of reasoning, which is a list of texts again.

        Mistral has it under `thinking`, Databricks (for Claude) under `summary`.
        """
        for part in parts:
            fields = as_object(part) or {"text": part}
            if fields.get("type") in ("thinking", "reasoning"):
                told = fields.get("thinking") or fields.get("summary") or fields.get("text")
                for thought in objects_in(as_list(told) or [{"text": told}]):
                    self._add(deltas, "reasoning_content", as_string(thought.get("text")) or "")
            else:
                text = as_string(fields.get("text"))
                if text:
                    self._read_text(text, None, deltas)

    def _read_details(self, delta: chat.Delta, details: Raw, deltas: list[Delta]) -> None:
        """`reasoning_details`: opaque, but for its text where no other field gives it."""
        try:
            entries = msgspec.json.decode(details, type=list[dict[str, Any]])
        except NOT_JSON:
            entries = objects_in(_decode_any(bytes(details)))
            details = Raw(replace_lone_surrogates(json.dumps(entries, ensure_ascii=False)).encode())
        if not (delta.reasoning_content or delta.reasoning or delta.reasoning_text):
            for entry in entries:
                text = entry.get("text") or entry.get("summary")
                if isinstance(text, str) and text:
                    self._add(deltas, "reasoning", text)
        if entries and self._dialect.reasoning_details:
            deltas.append(ReasoningDetails(details))

    def _read_sources(
        self, citations: Raw | UnsetType, results: Raw | UnsetType, deltas: list[Delta]
    ) -> None:
        """Sources that marks in the text refer to by number; Perplexity repeats them per chunk."""
        if (citations, results) == self._sources_read:
            return
        self._sources_read = (citations, results)
        titles = {
            result.get("url"): as_string(result.get("title"))
            for result in objects_in(_decoded_raw(results))
        }
        urls = as_list(_decoded_raw(citations)) or list(titles)
        sources = tuple(
            Source(replace_lone_surrogates(url), replace_lone_surrogates(titles.get(url) or ""))
            for url in urls
            if isinstance(url, str)
        )
        if sources != self._sources:
            self._sources = sources
            deltas.append(Sources(sources))

    def _read_annotation(self, annotation: object, deltas: list[Delta]) -> None:
        """A web source, flat as in the Responses API or nested as in chat."""
        outer = as_object(annotation) or {}
        if outer.get("type") != "url_citation":
            return
        citation = as_object(outer.get("url_citation")) or outer
        url = as_string(citation.get("url"))
        start, end = as_integer(citation.get("start_index")), as_integer(citation.get("end_index"))
        if url is None or start is None or end is None:
            return  # where in the text it belongs is not known
        if (url, start, end) not in self._cited:
            self._cited.add((url, start, end))
            title = replace_lone_surrogates(as_string(citation.get("title")) or "")
            deltas.append(Citation(replace_lone_surrogates(url), title, start, end))

    def _add(
        self, deltas: list[Delta], kind: str, text: str, logprobs: list[Logprob] | None = None
    ) -> None:
        if self._dialect.cumulative:
            text = self._new_part(kind, text)
        if self._half or not text.isascii():
            text = self._whole_characters(kind, text)
        if kind in self._native:
            text = self._native[kind].feed(text)
        if text:
            if not self._produced:
                self._produced = not text.isspace()
            delta = Text(text, logprobs) if kind == "text" else _text_of_kind(kind, text)
            deltas.append(delta)

    def _new_part(self, kind: str, text: str) -> str:
        """What a chunk adds where chunks may repeat all text so far.

        The first chunk that does not begin with the text before it shows that they do not.
        """
        before = self._so_far.get(kind, "")
        if before is None:
            return text
        if not text.startswith(before):
            self._so_far[kind] = None
            return text
        new = text[len(before) :] if len(text) > len(before) else text
        self._so_far[kind] = before + new
        return new

    def _whole_characters(self, kind: str, text: str) -> str:
        """Surrogate pairs that were cut between chunks, joined; a lone half becomes U+FFFD."""
        if kind in self._half:
            text = self._half.pop(kind) + text
        if text and "\ud800" <= text[-1] < "\udc00":
            self._half[kind] = text[-1]
            text = text[:-1]
        return replace_lone_surrogates(text)

    def _with_whole_characters(self, delta: ToolCall | CallExtra) -> ToolCall | CallExtra:
        """The same for the arguments of a call, each call by itself."""
        if isinstance(delta, CallExtra) or not delta.arguments:
            return delta
        arguments = self._whole_characters(f"{delta.key}", delta.arguments)
        if arguments is delta.arguments:
            return delta
        return ToolCall(delta.key, delta.id, delta.name, arguments)


def _more_of_a_call(calls: ToolCallPieces, payload: bytes) -> ToolCall | None:
    return calls.more(*more_arguments(payload))


def _text_of_kind(kind: str, text: str) -> Delta:
    match kind:
        case "text":
            return Text(text)
        case "refusal":
            return Refusal(text)
        case kind if kind in chat.REASONING_FIELDS:
            return Reasoning(text, kind)
        case _:
            return ToolCall(int(kind), None, None, text)


def _decoded_raw(raw: Raw | UnsetType) -> object:
    return None if raw is UNSET else _decode_any(bytes(raw))


def _decode_any(payload: bytes) -> object:
    """Any JSON, also with half surrogates or broken UTF-8 in it; ValueError when it is none."""
    try:
        return msgspec.json.decode(payload)
    except NOT_JSON:
        # The standard library keeps half surrogates, which msgspec refuses.
        try:
            return json.loads(payload.decode("utf-8", "replace"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def _read_logprobs(logprobs: chat.Logprobs | None) -> list[Logprob] | None:
    if logprobs is None or not logprobs.content:
        return None
    return [
        Logprob(
            entry.token,
            entry.logprob,
            _bytes(entry.bytes, entry.token),
            [
                TokenLogprob(top.token, top.logprob, _bytes(top.bytes, top.token))
                for top in entry.top_logprobs or ()
            ],
        )
        for entry in logprobs.content
    ]


def _bytes(given: list[int] | None, token: str) -> list[int]:
    return list(token.encode()) if given is None else given
