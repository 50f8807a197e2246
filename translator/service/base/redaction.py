"""Redaction: finds secrets in bytes, in every spelling that a foreign server may give them.

    spelling = [ escapes ], ( plain, in any case | base64, at any offset ) ;
    escapes  = JSON's, a URL's or HTML's, up to MAX_LAYERS one within the other ;

A server that repeats a key rarely does so letter by letter: PHP escapes slashes, a proxy quotes the
JSON of the server behind it, `Authorization: Basic` is base64. So data is searched as it is, and
again after each layer of escapes is undone; what is found is mapped back to the bytes that spell
it. All work is linear in the data, for one secret.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from html.entities import html5

from translator.common.lazy_pattern import lazy_pattern
from translator.wire.errors import REMOVED

MIN_SECRET_CHARACTERS = 8
"""A shorter value protects nothing, and may occur anywhere by chance."""

MAX_LAYERS = 3
"""Escapes within escapes that are undone: JSON in a string of JSON in a string of JSON."""

MAX_ESCAPES = 20_000
"""Escapes of ASCII characters in one error: no honest one has so many, and each takes a while."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="
_MAX_RUN_BYTES = 4096
_ESCAPE = (
    rb"(?<!\\)\\+(?:u00([2-7][0-9a-fA-F])|x([2-7][0-9a-fA-F])|([/%b]))"
    rb"|%%(?:25)*([2-7][0-9a-fA-F])"
    rb"|&#(?:[xX]0*([2-7][0-9a-fA-F])|0*([1-9][0-9]{1,2}));?"
    rb"|&([A-Za-z]{2,10};)"
)
_ESCAPES = lazy_pattern(_ESCAPE % b"")
_ALL_ESCAPES = lazy_pattern(_ESCAPE % rb"\"'\\")
"""With those of quotes and backslashes, which are everywhere in JSON and rare in secrets."""

Span = tuple[int, int]


class Redaction:
    """Replaces secrets by REMOVED. Secrets of fewer than MIN_SECRET_CHARACTERS are ignored."""

    max_escapes: int | None = MAX_ESCAPES
    """Data with more escapes is replaced as a whole; None: however many."""

    def __init__(self, secrets: Iterable[str] | Callable[[], Iterable[str]]) -> None:
        """`secrets` may be a function, which is called when they are first needed."""
        self._given = secrets

    @cached_property
    def secrets(self) -> frozenset[str]:
        given = self._given() if callable(self._given) else self._given
        return frozenset(one for one in given if len(one) >= MIN_SECRET_CHARACTERS)

    def __call__(self, data: bytes) -> bytes:
        """The data without secrets; its other bytes are unchanged."""
        spans = self.spans(data)
        if not spans:
            return data
        parts: list[bytes] = []
        end = 0
        for start, stop in spans:
            parts += [data[end:start], REMOVED.encode()]
            end = stop
        return b"".join([*parts, data[end:]])

    def text(self, text: str) -> str:
        """The text without secrets."""
        if not self.secrets:
            return text
        clean = self(text.encode("utf-8", "surrogatepass"))
        return clean.decode("utf-8", "surrogatepass")

    def message(self, text: str) -> str:
        """A text that may have been cut, without secrets and without the half of one at its end."""
        text = self.text(text)
        whole = text.rstrip(".… ")
        for secret in self.secrets:
            for length in range(len(secret) - 1, MIN_SECRET_CHARACTERS - 1, -1):
                if whole.endswith(secret[:length]):
                    return whole[:-length] + REMOVED + text[len(whole) :]
        return text

    def spans(self, data: bytes) -> list[Span]:
        """Where secrets are: beginnings and ends, in order, none of them overlapping."""
        if not self.secrets:
            return []
        merged: list[Span] = []
        for start, stop in sorted(self._spans(data, MAX_LAYERS)):
            if merged and start < merged[-1][1]:
                start, stop = merged[-1][0], max(stop, merged.pop()[1])
            merged.append((start, stop))
        return merged

    def with_secrets(self, more: Iterable[str]) -> Redaction:
        """A redaction of these secrets and of more."""
        more = frozenset(more)
        return Redaction(self.secrets | more) if more - self.secrets else self

    @cached_property
    def longest(self) -> int:
        """The length of the longest spelling, in bytes, with each character escaped twice."""
        return max((len(one) for one in (*self._plain, *self._coded)), default=0) * len(r"\\u0073")

    @cached_property
    def _plain(self) -> frozenset[bytes]:
        encodings = ("utf-8", "latin-1")
        return frozenset(
            secret.encode(encoding, "replace").lower()
            for secret in self.secrets
            for encoding in encodings
        )

    @cached_property
    def _coded(self) -> frozenset[bytes]:
        """What base64 has of each secret, wherever it stands among other bytes."""
        return frozenset(core for secret in self.secrets for core in _base64_cores(secret.encode()))

    @cached_property
    def _escapes(self) -> re.Pattern[bytes]:
        return _ALL_ESCAPES if any(set("\"'\\") & set(one) for one in self.secrets) else _ESCAPES

    def _spans(self, data: bytes, layers: int) -> Iterator[Span]:
        lower = data.lower()
        for form in self._plain:
            yield from ((start, start + len(form)) for start in _all(form, lower))
        for core in self._coded:
            yield from (_run_around(data, start, start + len(core)) for start in _all(core, data))
        if layers and self._escapes.search(data):
            try:
                inner = _Unescaped(data, self._escapes, self.max_escapes)
            except OverflowError:
                yield 0, len(data)
            else:
                yield from map(inner.outside, self._spans(inner.data, layers - 1))


NOTHING_SECRET = Redaction(())


class _Unescaped:
    """Data with one layer of escapes undone, and where each byte of it comes from."""

    def __init__(self, data: bytes, escapes: re.Pattern[bytes], limit: int | None) -> None:
        """Raises OverflowError for more escapes than the limit."""
        parts: list[bytes] = []
        self._inside, self._outside = [0], [0]  # beginnings of literal parts and escapes, in turn
        size = end = 0
        for number, found in enumerate(escapes.finditer(data)):
            if number == limit:
                raise OverflowError
            byte = _meaning(found)
            parts += [data[end : found.start()], byte]
            size += found.start() - end
            end = found.end()
            self._inside += [size, size + len(byte)]
            self._outside += [found.start(), end]
            size += len(byte)
        parts.append(data[end:])
        self._outside.append(len(data))
        self.data = b"".join(parts)

    def outside(self, span: Span) -> Span:
        """The bytes that spell a span of the unescaped data, whole escapes always."""
        return self._at(span[0])[0], self._at(span[1] - 1)[1]

    def _at(self, inside: int) -> Span:
        index = bisect_right(self._inside, inside) - 1
        if index % 2:
            return self._outside[index], self._outside[index + 1]
        start = self._outside[index] + inside - self._inside[index]
        return start, start + 1


def _meaning(escape: re.Match[bytes]) -> bytes:
    json_, repr_, itself, url, html_hex, html_number, name = escape.groups()
    digits = json_ or repr_ or url or html_hex
    if digits:
        return bytes([int(digits, 16)])
    if itself:
        return bytes(itself)
    if html_number:
        return chr(int(html_number)).encode()
    return html5.get(name.decode(), "?").encode()


def _all(part: bytes, data: bytes) -> Iterator[int]:
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + len(part))


def _base64_cores(secret: bytes) -> Iterator[bytes]:
    """The characters of base64 that a secret alone decides, for each offset and alphabet."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + secret)
        core = coded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))


def _run_around(data: bytes, start: int, stop: int) -> Span:
    """A span with the characters of base64 around it, which belong to the same text."""
    before = data[max(0, start - _MAX_RUN_BYTES) : start]
    after = data[stop : stop + _MAX_RUN_BYTES]
    left, right = len(before.rstrip(_BASE64)), len(after.lstrip(_BASE64))
    return start - (len(before) - left), stop + (len(after) - right)
