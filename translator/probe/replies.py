"""Replies: an answer as the checks need it, and the outcome of a request.

    outcome = Accepted with a reply | Rejected with an error message | Inconclusive with a reason ;

Only a rejection of the request itself is `Rejected`. A rate limit, an invalid key, a server failure
and a limit that was too small say nothing about the fields of a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from translator.dialects import BASE
from translator.reader import sse
from translator.reader.body_sniffer import BodySniffer
from translator.reader.error_bodies import plain_message
from translator.reader.from_chat import DONE, ChatReader
from translator.reader.native_calls import NativeCalls
from translator.wire.deltas import CallExtra, Reasoning, ReasoningDetails, Text, ToolCall, Usage
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_list, as_object, as_string, objects_in

from .payloads import TAGS

MAX_QUOTED_CHARACTERS = 160

MIN_EXCEPTION_CHARACTERS = 10
_EXCEPTION = re.compile(r" (?=(?:Error|Exception|[A-Z]\w+(?:Error|Exception)): [^ ])")

ABOUT_THINKING = re.compile(r"think|reasoning", re.IGNORECASE)
"""Matches a rejection that mentions thinking."""

_ABOUT_LENGTH = re.compile(
    r"max_tokens or model output limit was reached|could not finish the message"
    r"|max completion tokens reached|must be (?:greater|more|larger) than",
    re.IGNORECASE,
)
_OTHER_CODES = frozenset({"content_filter", "context_length_exceeded", "tool_use_failed"})


class Reply(Struct, frozen=True):
    """An answer. `whole`: it was read to its end."""

    chunks: tuple[str, ...] = ()
    """The text of each chunk."""
    reasoning: Mapping[str, str] = {}
    """Reasoning, by the field that held it."""
    calls: tuple[str, ...] = ()
    """The names of the called functions."""
    arguments: tuple[str, ...] = ()
    """The arguments of those calls, as JSON text."""
    finish: str | None = None
    done: bool = False
    """`[DONE]` arrived."""
    usage: Usage | None = None
    marks: frozenset[str] = frozenset()
    """All keys of the chunks, each with its place, as in `delta.reasoning`; and other signs of a
    server, as in `fingerprint:fp_ollama`."""
    whole: bool = False

    @property
    def text(self) -> str:
        return self.chunks[-1] if self.cumulative else "".join(self.chunks)

    @property
    def tags(self) -> tuple[str, str] | None:
        """The pair of tags with which the text begins."""
        start = self.text.lstrip()
        return next((pair for pair in TAGS if start.startswith(pair[0])), None)

    @property
    def lone_close(self) -> tuple[str, str] | None:
        """The pair of tags of which the text contains only the closing one."""
        text = self.text
        return next((pair for pair in TAGS if pair[1] in text and pair[0] not in text), None)

    @property
    def thinks(self) -> bool:
        """Whether there is reasoning in any form, or in the usage."""
        counted = self.usage.reasoning_tokens if self.usage else 0
        return bool(self.reasoning or self._reasons_in_text or counted)

    @property
    def _reasons_in_text(self) -> bool:
        """False for empty tags, which templates leave where there was no reasoning."""
        if (pair := self.tags or self.lone_close) is None:
            return False
        reasoning = self.text.partition(pair[1])[0].strip().removeprefix(pair[0])
        return bool(reasoning.strip())

    @property
    def truncated(self) -> bool:
        """Whether it ended at the token limit."""
        return (self.finish or "").lower() in ("length", "max_tokens", "model_length")

    @property
    def empty(self) -> bool:
        """Whether there is neither text, reasoning nor a call."""
        return not (self.text.strip() or self.reasoning or self.calls)

    @property
    def json(self) -> dict[str, Any] | None:
        """The JSON object in the text, which may be fenced; None where it is no object."""
        text = self.text
        if (tags := self.tags or self.lone_close) is not None:
            text = text.rpartition(tags[1])[2]
        text = text.strip().removeprefix("```json").removesuffix("```")
        try:
            return as_object(msgspec.json.decode(text))
        except NOT_JSON:
            return None

    @property
    def has_written_calls(self) -> bool:
        """Whether the text consists of calls that the upstream did not parse."""
        return any(map(is_call, (self.text, *self.reasoning.values())))

    @property
    def cumulative(self) -> bool:
        """Whether each chunk repeats all text before it, at least twice in a row."""
        pairs = zip(self.chunks, self.chunks[1:], strict=False)
        longer = [after != before and after.startswith(before) for before, after in pairs if before]
        return len(longer) >= 2 and all(longer)


class Accepted(Struct, frozen=True):
    """The request was accepted."""

    reply: Reply
    body: bytes = b""
    """The answer as it came, where it was read to its end."""


class Rejected(Struct, frozen=True):
    """The request was rejected for its content; `text` is the upstream's error message."""

    text: str
    code: str = ""


class Inconclusive(Struct, frozen=True):
    """The outcome proves nothing, for this reason.

    `text` is the error message of a server failure: some servers fail where they should reject.
    `lost`: the connection broke, or the server failed; the same request may be answered next time.
    """

    reason: str
    text: str = ""
    lost: bool = False


Outcome = Accepted | Rejected | Inconclusive
NO_QUOTA = Inconclusive("the quota is used up")


def describe(outcome: Outcome) -> str:
    """An outcome in a few words."""
    match outcome:
        case Accepted(reply):
            return f"accepted, {_describe_reply(reply)}"
        case Rejected(text):
            return f"rejected: {quoted(text)}"
        case Inconclusive(reason):
            return reason


def _describe_reply(reply: Reply) -> str:
    parts = [f"reasoning in {field}" for field in reply.reasoning]
    if reply.calls:
        parts.append(f"{len(reply.calls)} call{'s' * (len(reply.calls) > 1)}")
    if text := reply.text.strip():
        parts.append(quoted(text, 40) if reply.whole else "an answer")
    return ", ".join(parts) or "an empty answer"


def is_call(text: str) -> bool:
    """Whether a text consists of calls, in the syntax of a model's training."""
    native = NativeCalls(lambda _name: True)
    native.feed(text)
    return bool(native.calls())


def quoted(text: str, limit: int = MAX_QUOTED_CHARACTERS) -> str:
    """A text on one line, in quotes, shortened to `limit` characters.

    Of a long error message that quotes source code, the last part counts: the exception itself.
    """
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    if len(line) > limit:
        *_, exception = _EXCEPTION.split(line)
        line = exception if len(exception) >= MIN_EXCEPTION_CHARACTERS else line
    return f"“{line if len(line) <= limit else line[: limit - 1] + '…'}”"


def classify(error: UpstreamError) -> Rejected | Inconclusive:
    """Whether an error rejects the request, or proves nothing."""
    text = error.text or error.message
    code = error.code or ""
    if error.status_hint in (401, 403):
        return Inconclusive(f"the key was not accepted ({error.status_hint})")
    if code in ("insufficient_quota", "rate_limit_exceeded"):
        return NO_QUOTA if code == "insufficient_quota" else Inconclusive("rate limited")
    if code in _OTHER_CODES or _ABOUT_LENGTH.search(text):
        return Inconclusive(f"rejected for another reason: {quoted(text)}")
    if error.status_hint in (400, 404, 409, 413):
        return Rejected(text, code)
    reason = f"the upstream failed ({error.status_hint}): {quoted(text)}"
    return Inconclusive(reason, text, lost=True)


MAX_CALLS = 1000
"""Most calls in one answer; the probe asks for two."""


class ReplyReader:
    """A parser of one answer, a stream or one JSON object, from the chunks of its body."""

    def __init__(self) -> None:
        self._decoder = sse.Decoder()
        self._reader = ChatReader(BASE, lambda _name: True, max_calls=MAX_CALLS)
        self._sniffer = BodySniffer(sse.MAX_EVENT_BYTES)
        self._chunks: list[str] = []
        self._reasoning: dict[str, list[str]] = {}
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._done = False
        self._marks: set[str] = set()

    @property
    def failure(self) -> UpstreamError | None:
        """The error in the body."""
        return self._reader.failure

    @property
    def over(self) -> bool:
        """The answer is complete; the rest of the body does not matter."""
        return self._reader.over

    def feed(self, data: bytes) -> None:
        """Parse one chunk; raises UpstreamError for an event or a value over its limit."""
        data = data if self._sniffer.streams else self._sniffer.feed(data)
        if data:
            self._read(self._decoder.feed(data))

    def end(self) -> None:
        """Parse the rest at the end of the body."""
        value = self._sniffer.value
        self._read(self._decoder.end() if value is None else [value])

    def reply(self, *, whole: bool) -> Reply:
        """The answer so far."""
        return Reply(
            chunks=tuple(self._chunks),
            reasoning={field: "".join(texts) for field, texts in self._reasoning.items()},
            calls=tuple(self._names.values()),
            arguments=tuple(self._arguments.get(key, "") for key in self._names),
            finish=self._finish,
            done=self._done,
            usage=self._usage,
            marks=frozenset(self._marks),
            whole=whole,
        )

    @property
    def stray(self) -> str:
        """Text in the body that is not an answer, shortened."""
        value = self._sniffer.value
        return self._decoder.stray if value is None else plain_message(value)

    def _read(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if self._reader.over:
                return
            self._mark(payload)
            for delta in self._reader.read(payload):
                match delta:
                    case Text(text, logprobs):
                        self._chunks.append(text)
                        self._marks.update({"logprobs"} if logprobs else ())
                    case Reasoning(text, field):
                        self._reasoning.setdefault(field, []).append(text)
                    case ReasoningDetails():
                        self._marks.add("reasoning_details")
                    case CallExtra():
                        self._marks.add("extra_content")
                    case ToolCall():
                        if delta.name is not None:
                            self._names[delta.key] = delta.name
                        before = self._arguments.get(delta.key, "")
                        self._arguments[delta.key] = before + delta.arguments
                    case Usage():
                        self._usage = delta
                    case _:
                        pass

    def _mark(self, payload: bytes) -> None:
        """Collect the marks of a payload, by which servers are recognised."""
        if payload.strip() == DONE:
            self._done = True
            return
        try:
            chunk = as_object(msgspec.json.decode(payload)) or {}
        except NOT_JSON:
            return
        self._marks.update(_keys("chunk", chunk), _keys("usage", chunk.get("usage")))
        fingerprint = as_string(chunk.get("system_fingerprint")) or ""
        if fingerprint:
            self._marks.add(f"fingerprint:{fingerprint}")
        for choice in objects_in(chunk.get("choices")):
            delta = choice.get("delta") or choice.get("message")
            self._marks.update(_keys("choice", choice), _keys("delta", delta))
            if (finish := as_string(choice.get("finish_reason"))) is not None:
                self._finish = finish
            content = as_list((as_object(delta) or {}).get("content"))
            self._marks.update(f"part.{part.get('type')}" for part in objects_in(content))


def _keys(place: str, value: object) -> Iterator[str]:
    """The keys whose value is not null, each with its place."""
    for key, one in (as_object(value) or {}).items():
        if one is not None:
            yield f"{place}.{key}"
