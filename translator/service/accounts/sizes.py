"""The size of a request, for holds and estimates: bytes of its JSON without images, and the images.

An image counts as one only where it stands for one: as a part of a message or of a tool's output. A
text that begins like the URL of an image, wherever it is, is text, and costs what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from translator.service.access.client import Ask
from translator.service.access.cost import BYTES_PER_TOKEN
from translator.wire.json_values import NOT_JSON

HELD_BYTES_PER_TOKEN = 3
TEMPLATE_TOKENS = 256
IMAGE_TOKENS = 1500

_ANY = b"image"  # which is in all that names one
_DATA = b"data:image/"
_BEGINNING = b'"' + _DATA


class Size(Struct, frozen=True):
    """The size of a request."""

    text_bytes: int = 0
    images: int = 0

    @property
    def held_tokens(self) -> int:
        """Tokens of the input that money is held for."""
        text = -(-self.text_bytes // HELD_BYTES_PER_TOKEN)
        return text + TEMPLATE_TOKENS + IMAGE_TOKENS * self.images

    @property
    def billed_tokens(self) -> int:
        """Tokens of the input where the upstream has not counted them."""
        return self.text_bytes // BYTES_PER_TOKEN + IMAGE_TOKENS * self.images


def size_of(ask: Ask) -> Size:
    """The size of a request, with what it goes on from."""
    text = images = 0
    for place, part in enumerate((ask.body, *ask.earlier)):
        data = bytes(part)
        if _ANY not in data:
            text += len(data)
            continue
        found, size = 0, 0
        if _DATA in data:
            for url in _in_item(data) if place else _in_body(data):
                found, size = found + 1, size + len(url)
        markers = data.count(b'"input_image"') + data.count(b'"image_url"')
        text += len(data) - size
        images += max(found, -(-markers // 2))  # an image has two of them
    return Size(text, images)


class _Body(Struct):
    input: Raw = Raw()
    messages: Raw = Raw()


class _Item(Struct):
    content: Raw = Raw()
    output: Raw = Raw()


class _Part(Struct):
    image_url: Raw = Raw()


class _Url(Struct):
    url: Raw = Raw()


_read_body = msgspec.json.Decoder(_Body).decode
_read_item = msgspec.json.Decoder(_Item).decode
_read_part = msgspec.json.Decoder(_Part).decode
_read_url = msgspec.json.Decoder(_Url).decode
_read_list = msgspec.json.Decoder(list[Raw]).decode


def _in_body(data: bytes) -> Iterator[bytes]:
    """The URLs with data of the images in a request."""
    try:
        body = _read_body(data)
    except NOT_JSON:
        return
    for items in (body.input, body.messages):
        for item in _entries(items):
            yield from _in_item(item)


def _in_item(data: bytes | Raw) -> Iterator[bytes]:
    """Those in an item of the input, or in a message."""
    try:
        item = _read_item(data)
    except NOT_JSON:
        return
    for parts in (item.content, item.output):
        for part in _entries(parts):
            try:
                url = _read_part(part).image_url
                if _first(url) == b"{":
                    url = _read_url(url).url
            except NOT_JSON:
                continue
            if bytes(memoryview(url)[: len(_BEGINNING)]) == _BEGINNING:
                yield bytes(url)


def _entries(value: Raw) -> list[Raw]:
    """The entries of a list; of an object itself."""
    first = _first(value)
    if first == b"{":
        return [value]
    try:
        return _read_list(value) if first == b"[" else []
    except NOT_JSON:
        return []


def _first(value: Raw) -> bytes:
    return bytes(memoryview(value)[:1])
