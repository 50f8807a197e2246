"""Incremental JSON readers: one finds the end of a value, one decodes a single string argument.

Both accept slices cut anywhere, scan each character once, and hold back only an unfinished escape
or the first half of a surrogate pair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from translator.wire.json_values import NOT_JSON, as_object, as_string

from .pieces import Pieces

_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END_OR_ESCAPE = re.compile(r'["\\]')
_PLAIN = re.compile(r'[^"\\]+')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([^u]))", re.DOTALL)
_UNFINISHED_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_UNFINISHED_LOW = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z")
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_REPLACEMENT = "\ufffd"


class JsonExtent:
    """The end of a JSON object or array in a text that grows.

    It counts brackets outside of strings, and does not validate the JSON. The text is scanned when
    `whole` or `cut` is asked for, each character once.
    """

    __slots__ = ("_begun", "_braces", "_depth", "_escaped", "_in_string", "_scanned", "_text")

    def __init__(self, text: Pieces) -> None:
        self._text = text
        self._scanned = 0
        self._depth = 0
        self._braces = 0  # of the depth
        self._begun = False
        self._in_string = False
        self._escaped = False

    @property
    def whole(self) -> bool:
        """Whether the value is complete: at least one bracket was opened, and all are closed."""
        self._scan_new()
        return self._begun and self._depth == 0

    @property
    def cut(self) -> bool:
        """Whether the text begins as an object, and stops before the end of it.

        Not so is a text that ends in a brace and could not be JSON, whatever followed: models write
        broken JSON, too. Brackets do not count, for that reason: `{"a": [1}` has its end.
        """
        text = self._text.text().strip()
        if not text.startswith("{") or _is_json(text):  # which is quicker than to count
            return False
        self._scan_new()
        return self._braces > 0 and not (text.endswith("}") and _is_broken(text))

    def _scan_new(self) -> None:
        text = self._text.since(self._scanned)
        self._scan(text)
        self._scanned += len(text)

    def _scan(self, text: str) -> None:
        position = 0
        while position < len(text):
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            pattern = _STRING_END_OR_ESCAPE if self._in_string else _STRUCTURE
            found = pattern.search(text, position)
            if found is None:
                return
            position = found.end()
            match found.group():
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._escaped = True
                case "{":
                    self._begun = True
                    self._depth += 1
                    self._braces += 1
                case "[":
                    self._begun = True
                    self._depth += 1
                case "}":
                    self._depth -= 1
                    self._braces -= 1
                case _:
                    self._depth -= 1


def is_cut_object(text: str) -> bool:
    """Whether a text begins as a JSON object, and stops before the end of it."""
    pieces = Pieces()
    pieces.append(text)
    return JsonExtent(pieces).cut


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogatepass"), type=Raw)
    except NOT_JSON:
        return False
    return True


def _is_broken(text: str) -> bool:
    """Whether a text is no JSON, and no beginning of JSON either."""
    try:
        json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        # An invalid escape does not end its string: the text may stop inside of it.
        in_string = error.msg.startswith(("Unterminated string", "Invalid"))
        return error.pos < len(text) and not in_string
    except RecursionError:
        pass
    return False


class StringArgument:
    """Decodes the one string argument of a call while its JSON text streams in.

    For custom tools, which are emulated by a function with one argument: from `{"input": "…"}` it
    yields the plain text of `…`. Raw text instead of JSON is recognised at once; another wrapping
    (another key, a bare JSON string) at the end.
    """

    __slots__ = ("_buffered", "_held", "_key", "_longest_opening", "_opening", "_phase")

    def __init__(self, key: str) -> None:
        self._opening = re.compile(r'\s*\{\s*"' + re.escape(key) + r'"\s*:\s*"')
        self._key = key
        self._longest_opening = len(key) + 64  # with some white space between the tokens
        self._phase: Callable[[str], str] = self._at_start
        self._held: str = ""
        self._buffered = Pieces()

    def feed(self, text: str) -> str:
        """The plain text that this slice completes; often empty."""
        return self._phase(text) if text else ""

    def end(self) -> str:
        """The rest of the plain text, at the end of the arguments."""
        text, self._held = self._held, ""
        if self._phase == self._in_other_json:
            return self._best_guess(self._buffered.text())
        if self._phase == self._at_start:
            return self._best_guess(text)
        return _REPLACEMENT if text.startswith("\\u") and len(text) >= 6 else text

    def _at_start(self, text: str) -> str:
        text, self._held = self._held + text, ""
        opened = self._opening.match(text)
        if opened:
            self._phase = self._in_string
            return self._in_string(text[opened.end() :])
        start = text.lstrip()
        if start and start[0] not in '{"':
            self._phase = self._in_raw_text
            return text
        if len(text) > self._longest_opening or start.startswith('"'):
            self._phase = self._in_other_json
            self._buffered.add(text)
            return ""
        self._held = text
        return ""

    def _in_string(self, text: str) -> str:
        if not self._held and '"' not in text and "\\" not in text:
            return text
        text, self._held = self._held + text, ""
        decoded: list[str] = []
        position = 0
        while position < len(text):
            plain = _PLAIN.match(text, position)
            if plain:
                decoded.append(plain.group())
                position = plain.end()
            elif text[position] == '"':
                self._phase = self._after_string
                break
            elif _UNFINISHED_ESCAPE.match(text, position):
                self._held = text[position:]
                break
            else:
                character, end = _read_escape(text, position)
                if character is None:
                    self._held = text[position:]
                    break
                decoded.append(character)
                position = end
        return "".join(decoded)

    def _after_string(self, text: str) -> str:
        return ""  # the closing brace, or undeclared keys

    def _in_raw_text(self, text: str) -> str:
        return text

    def _in_other_json(self, text: str) -> str:
        self._buffered.add(text)
        return ""

    def _best_guess(self, text: str) -> str:
        """The text in arguments of another form than `{key: string}`."""
        try:
            value: object = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
        except NOT_JSON:
            return text
        if isinstance(value, str):
            return value
        fields = as_object(value)  # text with another beginning is raw text
        if not fields:
            return ""
        only = next(iter(fields.values())) if len(fields) == 1 else None
        return as_string(fields.get(self._key)) or as_string(only) or text


def _read_escape(text: str, position: int) -> tuple[str | None, int]:
    r"""The character that the escape at `position` stands for, and where it ends.

    None while the second half of a surrogate pair is missing. An invalid escape (`\x`) is kept
    literally.
    """
    escape = _ESCAPE.match(text, position)
    if escape is None:  # \u without four digits
        return text[position : position + 2], position + 2
    if escape[2] is not None:
        known = _SHORT_ESCAPES.get(escape[2]) or (escape[2] if escape[2] in '"\\/' else None)
        return known or escape[0], escape.end()
    unit = int(escape[1], 16)
    if 0xD800 <= unit < 0xDC00:
        low = _LOW_SURROGATE.match(text, escape.end())
        if low:
            return chr(0x10000 + ((unit - 0xD800) << 10) + int(low[1], 16) - 0xDC00), low.end()
        if _UNFINISHED_LOW.match(text, escape.end()):
            return None, position
    if 0xD800 <= unit < 0xE000:
        return _REPLACEMENT, escape.end()
    return chr(unit), escape.end()
