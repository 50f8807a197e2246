"""What an upstream answered to one question, as far as a question can need it.

    outcome = Taken with what was said | Refused with the reason | Unclear with another reason ;

Only a refusal of the request itself counts as one. A rate limit, a key that is not accepted, a
server that breaks off, and a limit that was too small say nothing of what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from translator.dialects import BASE
from translator.reader import sse
from translator.reader.from_chat import DONE, ChatReader
from translator.reader.native_calls import NativeCalls
from translator.reader.upstream_errors import plain_message
from translator.wire.deltas import CallExtra, Reasoning, ReasoningDetails, Text, ToolCall, Usage
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_list, as_object, as_string, objects_in

from .payloads import TAGS

MAX_QUOTED_CHARACTERS = 160

_ABOUT_LENGTH = re.compile(
    r"max_tokens or model output limit was reached|could not finish the message"
    r"|max completion tokens reached|must be (?:greater|more|larger) than",
    re.IGNORECASE,
)
_OTHER_CODES = frozenset({"content_filter", "context_length_exceeded", "tool_use_failed"})


class Reply(Struct, frozen=True):
    """An answer. `whole` says whether its end was read."""

    pieces: tuple[str, ...] = ()
    """The text as it came, piece by piece."""
    reasoning: Mapping[str, str] = {}
    """Reasoning by the field that it came in."""
    calls: tuple[str, ...] = ()
    """The names of the functions that were called."""
    arguments: tuple[str, ...] = ()
    """The arguments of those calls, as JSON text."""
    finish: str | None = None
    done: bool = False
    """`[DONE]` came."""
    usage: Usage | None = None
    marks: frozenset[str] = frozenset()
    """Names of all keys that came, each behind the place where it stood, as in `delta.reasoning`;
    and words by which servers are known."""
    whole: bool = False

    @property
    def text(self) -> str:
        return self.pieces[-1] if self.repeats else "".join(self.pieces)

    @property
    def tags(self) -> tuple[str, str] | None:
        """The tags between which the text begins with reasoning."""
        start = self.text.lstrip()
        return next((pair for pair in TAGS if start.startswith(pair[0])), None)

    @property
    def lone_close(self) -> tuple[str, str] | None:
        """The tags of which only the closing one stands in the text."""
        text = self.text
        return next((pair for pair in TAGS if pair[1] in text and pair[0] not in text), None)

    @property
    def thinks(self) -> bool:
        """Whether reasoning was seen in any of its forms, or counted."""
        counted = self.usage.reasoning_tokens if self.usage else 0
        return bool(self.reasoning or self._thought_in_text or counted)

    @property
    def _thought_in_text(self) -> bool:
        """Templates leave empty tags where there was no thought."""
        if (pair := self.tags or self.lone_close) is None:
            return False
        thought = self.text.partition(pair[1])[0].strip().removeprefix(pair[0])
        return bool(thought.strip())

    @property
    def cut(self) -> bool:
        """Whether it was cut at the token limit."""
        return (self.finish or "").lower() in ("length", "max_tokens", "model_length")

    @property
    def said_nothing(self) -> bool:
        return not (self.text.strip() or self.reasoning or self.calls)

    @property
    def json(self) -> dict[str, Any] | None:
        """The text, when it is a JSON object, bare or in a fence."""
        text = self.text
        if (tags := self.tags or self.lone_close) is not None:
            text = text.rpartition(tags[1])[2]
        text = text.strip().removeprefix("```json").removesuffix("```")
        try:
            return as_object(msgspec.json.decode(text))
        except NOT_JSON:
            return None

    @property
    def written_calls(self) -> bool:
        """Whether the text is nothing but calls, which the upstream did not read as such."""
        for text in (self.text, *self.reasoning.values()):
            native = NativeCalls(lambda _name: True)
            native.feed(text)
            if native.calls():
                return True
        return False

    @property
    def repeats(self) -> bool:
        """Whether each piece of the text repeats all of it so far, twice in a row at least."""
        pairs = zip(self.pieces, self.pieces[1:], strict=False)
        longer = [after != before and after.startswith(before) for before, after in pairs if before]
        return len(longer) >= 2 and all(longer)


class Taken(Struct, frozen=True):
    """The request was taken."""

    reply: Reply


class Refused(Struct, frozen=True):
    """The request was refused for what it holds; `text` is the upstream's own."""

    text: str
    code: str = ""


class Unclear(Struct, frozen=True):
    """Why nothing is known.

    `text` is what a server said that failed: some fail over what they should refuse.
    """

    reason: str
    text: str = ""


Outcome = Taken | Refused | Unclear
NO_QUOTA = Unclear("the quota is used up")


def told(outcome: Outcome) -> str:
    """An outcome in a few words."""
    match outcome:
        case Taken(reply):
            return f"taken, {_told(reply)}"
        case Refused(text):
            return f"refused: {quoted(text)}"
        case Unclear(reason):
            return reason


def _told(reply: Reply) -> str:
    told = [f"reasoning in {field}" for field in reply.reasoning]
    told += [f"{len(reply.calls)} call{'s' * (len(reply.calls) > 1)}"] if reply.calls else []
    if (text := reply.text.strip()) and reply.whole:
        told.append(quoted(text, 40))
    elif text:
        told.append("an answer")
    return ", ".join(told) or "an empty answer"


def quoted(text: str, most: int = MAX_QUOTED_CHARACTERS) -> str:
    """A text on one line, in quotes, cut to `most` characters."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return f"“{line if len(line) <= most else line[: most - 1] + '…'}”"


def refusal(error: UpstreamError) -> Refused | Unclear:
    """What an error says of the request that it answers."""
    text = error.text or error.message
    code = error.code or ""
    if error.status_hint in (401, 403):
        return Unclear(f"the key was not accepted ({error.status_hint})")
    if code in ("insufficient_quota", "rate_limit_exceeded"):
        return NO_QUOTA if code == "insufficient_quota" else Unclear("rate limited")
    if code in _OTHER_CODES or _ABOUT_LENGTH.search(text):
        return Unclear(f"refused for another reason: {quoted(text)}")
    if error.status_hint in (400, 404, 409, 413):
        return Refused(text, code)
    return Unclear(f"the upstream failed ({error.status_hint}): {quoted(text)}", text)


class ReplyReader:
    """Reads one answer, a stream or one JSON object, from the bytes of its body."""

    def __init__(self) -> None:
        self._decoder = sse.Decoder()
        self._reader = ChatReader(BASE, lambda _name: True)
        self._start = b""
        self._json: list[bytes] | None = None
        self._sniffed = False
        self._pieces: list[str] = []
        self._reasoning: dict[str, list[str]] = {}
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._done = False
        self._marks: set[str] = set()

    @property
    def failure(self) -> UpstreamError | None:
        """The error that the body holds."""
        return self._reader.failure

    @property
    def over(self) -> bool:
        """Nothing that counts can follow."""
        return self._reader.over

    def feed(self, data: bytes) -> None:
        """Raises UpstreamError for an event over the limit of `sse`."""
        if not self._sniffed:
            self._start = (self._start + data).lstrip(b" \t\r\n\xef\xbb\xbf")
            data = self._start
            self._sniffed = bool(data)
            if data[:1] in (b"{", b"[", b"<"):
                self._json = []
        if self._json is not None:
            self._json.append(data)
        else:
            self._read(self._decoder.feed(data))

    def end(self) -> None:
        self._read(self._decoder.end() if self._json is None else [b"".join(self._json)])

    def reply(self, *, whole: bool) -> Reply:
        return Reply(
            pieces=tuple(self._pieces),
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
        """Text that is no answer, shortened."""
        return plain_message(b"".join(self._json)) if self._json else self._decoder.stray

    def _read(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if self._reader.over:
                return
            self._mark(payload)
            for delta in self._reader.read(payload):
                match delta:
                    case Text(text, logprobs):
                        self._pieces.append(text)
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
        """Note the keys of a payload, which tell servers apart."""
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
    """The keys that are there and not null."""
    for key, one in (as_object(value) or {}).items():
        if one is not None:
            yield f"{place}.{key}"
