"""A filter for bodies that are passed through: no error in them tells a secret.

    body  = { event }                       a stream; any other body is one event
    event = ordinary | error                ordinary: it has choices, and no error

Only errors are changed: what the model says goes through as it is, even if it is a key. A complete
event costs one look. An event that the network has cut is passed on as soon as its choices begin;
until then it may be an error, and is held; and so is an error behind the choices. What is held is
bounded: of a longer error, secrets are taken out as it comes.

With the operator's key, an error that is the operator's affair (a refused key, an empty account) is
replaced by ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from translator.reader.upstream_errors import read_error_object
from translator.service.base.redaction import Redaction
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_list, as_object

MAX_HELD_BYTES = 64 * 1024
"""Most bytes of an event that are held because it may be an error."""

_CHOICES = b'"choices"'
_BOUNDARY = re.compile(rb"\n(?:\r?\n|\r)|\r\n(?:\r?\n|\r)|\r\r\n?")
_LINE = re.compile(rb"\s*(data|event|id|retry)?:")
"""The first line of an event stream, which some upstreams call JSON, or text."""

_CUT_BOUNDARY = re.compile(rb"[\r\n]+\Z")
_BESIDE_DATA = re.compile(rb"^(?!data:)[^\r\n]+", re.MULTILINE)
_DATA = re.compile(rb"^data: ?([^\r\n]*)", re.MULTILINE)
_ERROR_EVENT = re.compile(rb"^event: ?error", re.MULTILINE)
_NEVER = b"\0"
_NEWLINE = ord("\n")
_LOOK_BACK = 128
"""Bytes of what was searched before that are searched again: a mark may have been cut."""


def _name(word: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """The patterns of a JSON member of that name, not null; and of its beginning at the end.

    JSON may spell each letter as an escape.
    """
    whole, cut = "", r'(?:"\s*(?::\s*)?)?'
    for letter in reversed(word):
        digits = f"{ord(letter):04x}"
        spelled = rf"(?:{letter}|\\u{digits})"
        escape = ""
        for digit in reversed(f"u{digits[:-1]}"):
            escape = f"(?:{digit}{escape})?"
        whole = spelled + whole
        cut = rf"(?:{spelled}{cut}|\\{escape})?"
    options = re.IGNORECASE  # of the digits of an escape
    return (
        re.compile(rf'(?<!\\)"{whole}"\s*:\s*[^\sn]'.encode(), options),
        re.compile(rf'(?<!\\)"{cut}\Z'.encode(), options),
    )


_ERROR, _CUT_ERROR = _name("error")


def _is_ordinary(chunk: bytes) -> bool:
    """Whether a chunk is whole events of one line, each with choices and none with an error."""
    count = chunk.count(_CHOICES)
    return (
        count > 0
        and chunk.startswith(b"data:")
        and chunk.endswith(b"\n\n")
        and chunk.count(b"\n") == 2 * count
        and chunk.find(b'"error"') < 0
        and chunk.find(b"\\u00") < 0
    )


def _error_in(data: bytes) -> re.Match[bytes] | None:
    """The first member of that name."""
    may_be = data.find(b'"error"') >= 0 or data.find(b"\\u00") >= 0
    return _ERROR.search(data) if may_be else None


def _cut_in(data: bytes) -> re.Match[bytes] | None:
    """The beginning of such a member, or of the event's end, at the end of the data."""
    last = data.rfind(b'"')
    before = data.rfind(b'"', 0, last) if last > 0 else -1
    found = _CUT_ERROR.search(data, max(0, before)) if last >= 0 else None
    return found or _CUT_BOUNDARY.search(data, max(0, len(data) - _LOOK_BACK))


class ErrorFilter:
    """Takes a body in chunks, and returns what may be passed on of it."""

    __slots__ = (
        *("_begun", "_cleans", "_fails", "_held", "_idle", "_judge", "_redaction", "_searched"),
        *("_sends", "_streamed", "_usual", "found", "ordinary", "private"),
    )

    def __init__(
        self,
        redaction: Redaction,
        judge: Callable[[UpstreamError], UpstreamError],
        *,
        streamed: bool,
    ) -> None:
        """`judge` maps an upstream's error to the client's; `streamed`: the body has events."""
        self._redaction = redaction
        self._judge = judge
        self._streamed = streamed
        self._begun = False
        self._idle = False  # no event is cut
        self._usual = _NEVER  # how ordinary events begin, up to their choices, if no event is cut
        self._held = b""
        self._searched = 0  # how much of it was searched for the end of the event
        self._fails = False  # the current event has an error
        self._sends = False  # the current event is ordinary so far, and part of it was sent
        self._cleans = False  # the current event is too long to be held
        self.ordinary = False
        """Whether an event that is no error has been passed on: an answer has begun."""
        self.private: UpstreamError | None = None
        """The latest error that is not for the client, which got ours."""
        self.found: UpstreamError | None = None
        """The latest error in the body, as the client got it."""

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on after a chunk."""
        if (
            chunk.startswith(self._usual)
            and chunk.find(b"\n") == len(chunk) - 2
            and chunk.find(b"error") < 0
            and (chunk.find(b"\\") < 0 or chunk.find(b"\\u00") < 0)  # which may spell it
            and chunk[-1] == _NEWLINE
        ):
            return chunk
        return self._feed(chunk)

    def end(self) -> bytes:
        """What may be passed on at the end of the body."""
        rest, self._held = self._held, b""
        return self._event(rest) if rest else b""

    def _feed(self, chunk: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            self._streamed = self._idle = self._streamed or _LINE.match(chunk) is not None
        if self._idle and _is_ordinary(chunk):
            self._usual = chunk[: chunk.find(_CHOICES) + len(_CHOICES)]
            self.ordinary = True
            return chunk
        data = self._held + chunk
        parts: list[bytes] = []
        begin = 0
        if self._streamed:
            for found in _BOUNDARY.finditer(data, max(0, self._searched - _LOOK_BACK)):
                parts.append(self._event(data[begin : found.end()]))
                begin = found.end()
        self._held = data[begin:]
        parts.append(self._cut_event(0 if begin else self._searched))
        self._searched = len(self._held)
        self._idle = self._streamed and not (self._held or self._sends or self._cleans)
        self._usual = _NEVER
        return b"".join(parts)

    # --- an event that has not ended -------------------------------------------------------------

    def _cut_event(self, searched: int) -> bytes:
        """What may be passed on of the event that is held."""
        if not self._held:
            return b""
        if self._cleans:
            return self._cleaned_so_far()
        begin = max(0, searched - _LOOK_BACK)
        if not self._sends and not self._fails and self._held.find(_CHOICES, begin) >= 0:
            self._fails = _error_in(self._held) is not None
            if not self._fails:
                self._sends = True
                self.ordinary = self.ordinary or self._streamed
                self._held = self._clean_comments(self._held)
        if not self._sends:
            return self._send(0)
        cut = _error_in(self._held) or _cut_in(self._held)
        return self._send(cut.start() if cut else len(self._held))

    def _send(self, size: int) -> bytes:
        data, self._held = self._held[:size], self._held[size:]
        if len(self._held) <= MAX_HELD_BYTES:
            return data
        self._cleans = True
        return data + self._cleaned_so_far()

    def _cleaned_so_far(self) -> bytes:
        """The held bytes without secrets, but for a tail that may hold half of one."""
        data = self._held
        size = max(0, len(data) - self._redaction.longest)
        for start, stop in self._redaction.spans(data):
            if start < size < stop:
                size = start
        self._held = data[size:]
        return self._redaction(data[:size])

    # --- an event that has ended -----------------------------------------------------------------

    def _event(self, data: bytes) -> bytes:
        """A whole event, or what is left of it, without secrets if it is an error."""
        sends, cleans = self._sends, self._cleans
        self._fails = self._sends = self._cleans = False
        if cleans:
            return self._redaction(data)
        if sends:
            return self._rest_of_ordinary(data)
        if _CHOICES in data:
            data = self._clean_comments(data)
            if _error_in(data):
                return self._with_choices(data)
            self.ordinary = True
            return data
        return self._without_choices(data)

    def _rest_of_ordinary(self, data: bytes) -> bytes:
        """The rest of an event whose choices were sent: it may end in an error."""
        found = _error_in(data)
        if not found:
            return data
        rest = data[found.start() :]
        body = rest.rstrip()
        clean = self._clean_object(b"{" + body)
        clean = self._redaction(rest) if clean is None else clean[1:] + rest[len(body) :]
        return data[: found.start()] + clean

    def _with_choices(self, data: bytes) -> bytes:
        """An event with choices and an error."""
        if not self._streamed:
            return self._clean_object(data) or self._redaction(data)
        payload = b"\n".join(_DATA.findall(data))
        clean = self._clean_object(payload)
        if clean is None:
            return self._redaction(data)
        if clean == payload:
            return data
        return b"\n".join([*_BESIDE_DATA.findall(data), b"data: %b\n\n" % clean])

    def _without_choices(self, data: bytes) -> bytes:
        payload = b"\n".join(_DATA.findall(data)) if self._streamed else data
        try:
            decoded: object = msgspec.json.decode(payload)
        except NOT_JSON:
            return self._redaction(data)  # a comment, `[DONE]`, or an error in plain words
        error = read_error_object(decoded)
        if error is not None:
            judged = self.found = self._judge(error)
            if judged is not error:
                self.private = judged
                ours = msgspec.json.encode(judged.envelope())
                return b"data: %b\n\n" % ours if self._streamed else ours
        elif not _error_in(data) and not _ERROR_EVENT.search(data):
            self.ordinary = True
            return data
        return self._redaction(data)

    def _clean_comments(self, data: bytes) -> bytes:
        """An event without secrets in lines that are not data, of which most events have none."""
        if not self._streamed or data.startswith(b"data:"):
            return data
        return _BESIDE_DATA.sub(lambda line: self._redaction(line[0]), data)

    def _clean_object(self, data: bytes) -> bytes | None:
        """A JSON object without secrets beside its choices; None if it is none.

        The same bytes where nothing is removed.
        """
        try:
            fields = _read_fields(data)
            error = read_error_object({"error": msgspec.json.decode(fields.get("error", b"null"))})
            choices = msgspec.json.decode(fields.get("choices", b"[]"))
        except NOT_JSON:
            return None
        clean = {
            self._redaction.text(name): self._without_secrets(name, value)
            for name, value in fields.items()
        }
        if any((as_object(choice) or {}).get("error") for choice in as_list(choices) or ()):
            clean["choices"] = self._clean_choices(fields["choices"])
        if error is not None:
            self.found = self._judge(error)
        if error is not None and (judged := self.found) is not None and judged is not error:
            self.private = judged
            clean["error"] = Raw(msgspec.json.encode(judged.envelope()["error"]))
            return msgspec.json.encode(clean)
        same = [*map(bytes, clean.values())] == [*map(bytes, fields.values())]
        same = same and clean.keys() == fields.keys()
        is_plain = len(_ERROR.findall(data)) == (error is not None)  # no name stands twice
        if same and (is_plain or not self._redaction.spans(data)):
            return data
        return msgspec.json.encode(clean)

    def _without_secrets(self, name: str, value: Raw) -> Raw:
        return value if name == "choices" else Raw(self._redaction(bytes(value)))

    def _clean_choices(self, choices: Raw) -> Raw:
        """Choices with an error of their own, which some upstreams send, without secrets in it."""
        if not self._redaction.spans(bytes(choices)):
            return choices
        clean: list[Raw] = []
        for choice in _read_list(choices):
            try:
                fields = _read_fields(choice)
            except NOT_JSON:
                clean.append(choice)
                continue
            if "error" in fields:
                fields["error"] = Raw(self._redaction(bytes(fields["error"])))
            clean.append(Raw(msgspec.json.encode(fields)))
        return Raw(msgspec.json.encode(clean))


_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_list = msgspec.json.Decoder(list[Raw]).decode
