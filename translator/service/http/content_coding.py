"""Content codings of requests: bodies that a client has compressed; RFC 9110, section 8.4.

    content-encoding = coding, { ",", coding } ;          in the order in which they were applied
    body             = frame, { frame } ;                 gzip and zstd have several, the others one

Codex compresses with zstd when its user is logged in with ChatGPT and its provider is called
"OpenAI"; it does not send a body again that was refused. A few bytes can become any number, so data
is decompressed in blocks, none of the codings of a list may become more than a body may have, and
the reader can let other tasks have their turn after each block.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from typing import Any, Protocol

from msgspec import Struct

from translator.service.base.errors import UnsupportedEncoding
from translator.wire.errors import InvalidRequest, RequestTooLarge

MAX_BLOCK_BYTES = 128 * 1024
"""Bytes that are decompressed at once, at about which a decompressor stops: 0.1 to 0.5 ms."""

MAX_CODINGS = 4
"""Most codings of one body: each takes time of its own."""

MAX_FRAMES = 2000
"""Most frames of one body, each of which takes up to 0.1 ms. Who compresses in parallel writes one
per 64 KiB or more: 1024 for 64 MiB."""

ZSTD_WINDOW_LOG = 23
"""The largest window of zstd, which is held: 8 MiB, as RFC 9659 has it for HTTP."""

_WINDOW_BYTES = 8192  # what is left of it behind a frame is copied: so many frames cost linear time

_GZIP = b"\x1f\x8b"


class Frame(Protocol):
    """The decompressor of one frame, in the terms of bz2, lzma and zstd."""

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether it can go on only with more data."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows the end of the frame."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next block, of about `max_length` bytes at most."""
        ...


class Coding(Struct, frozen=True):
    """A content coding."""

    name: str
    begin: Callable[[bytes], Frame]
    """A new frame, which begins with these bytes."""

    errors: tuple[type[Exception], ...]
    several: bool = False
    """Whether one frame may follow the other."""

    head: int = 1
    """How many bytes `begin` needs."""


class _ZlibFrame:
    """A frame of zlib's, which leaves to its caller what it has not consumed."""

    def __init__(self, window_bits: int) -> None:
        self._zlib = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        block = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self.needs_input = len(block) < max_length and not self._zlib.unconsumed_tail
        return block


class _BrotliFrame:
    """The one frame of Brotli, which refuses more itself."""

    unused_data = b""

    def __init__(self, decompressor: Any) -> None:  # noqa: ANN401 - it has no types
        self._brotli = decompressor
        self.eof = False
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        block: bytes = self._brotli.process(data, output_buffer_limit=max_length)
        self.eof = self._brotli.is_finished()
        # it may take more data while it still has more to give
        self.needs_input = len(block) < max_length and self._brotli.can_accept_more_data()
        return block


def _begin_gzip(_: bytes) -> Frame:
    return _ZlibFrame(16 + zlib.MAX_WBITS)


def _begin_deflate(begun: bytes) -> Frame:
    """The zlib format, as the RFC has it, or raw deflate as some send it."""
    has_header = begun[0] & 0x0F == zlib.DEFLATED and int.from_bytes(begun[:2], "big") % 31 == 0
    return _ZlibFrame(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _first_module(*names: str) -> Any:  # noqa: ANN401 - any of them
    """The first module that is installed; None without one."""
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return None


def zstd_coding(zstd: Any) -> Coding:  # noqa: ANN401 - the module has one of two names
    """zstd, by Python's own module or its backport."""
    options = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return Coding(
        "zstd",
        lambda _: zstd.ZstdDecompressor(options=options),
        (zstd.ZstdError,),
        several=True,
    )


def brotli_coding(brotli: Any) -> Coding:  # noqa: ANN401 - it has no types
    return Coding("br", lambda _: _BrotliFrame(brotli.Decompressor()), (brotli.error,))


def _codings() -> dict[str, Coding]:
    found: list[Coding] = []
    if (zstd := _first_module("compression.zstd", "backports.zstd")) is not None:
        found.append(zstd_coding(zstd))
    brotli = _first_module("brotli")
    # without this method, of 1.2, a block has no bound
    if brotli is not None and hasattr(brotli.Decompressor, "can_accept_more_data"):
        found.append(brotli_coding(brotli))
    found.append(Coding("gzip", _begin_gzip, (zlib.error,), several=True))
    found.append(Coding("deflate", _begin_deflate, (zlib.error,), head=2))
    return {coding.name: coding for coding in found}


CODINGS = _codings()
"""The codings that are served here: all of them, where the service was installed as a whole."""

_ALIASES = {"x-gzip": "gzip"}  # RFC 9110, section 8.4.1.3


def decoder_of(header: str, limit: int) -> Decoder | None:
    """The decoder of a body with this `content-encoding`; None for a plain one.

    `limit` is the most bytes that the body may become. Raises UnsupportedEncoding.
    """
    names = [name for one in header.lower().split(",") if (name := one.strip()) not in _PLAIN]
    if not names:
        return None
    known = [CODINGS.get(_ALIASES.get(name, name)) for name in names]
    found = [coding for coding in known if coding is not None]
    if len(found) < len(known):
        raise UnsupportedEncoding(
            f"The content-encoding {header[:40]!a} is not supported; send the body as it is, or in "
            f"one of these: {', '.join(CODINGS)}.",
            CODINGS,
        )
    if len(found) > MAX_CODINGS:
        raise UnsupportedEncoding(
            f"The body has {len(found)} content-encodings; at most {MAX_CODINGS} are supported.",
            CODINGS,
        )
    return Decoder([_Layer(coding, limit) for coding in reversed(found)])


_PLAIN = frozenset({"", "identity"})


class Decoder:
    """Decompresses one body.

    `feed` and `end` raise InvalidRequest for what is no such data, and RequestTooLarge.
    """

    def __init__(self, layers: Sequence[_Layer]) -> None:
        """The layers from the outermost one, which was applied last."""
        self._layers = layers

    def feed(self, data: bytes) -> Generator[bytes]:
        """The blocks that the data becomes, some of them empty; all of them must be taken."""
        return _through(self._layers, data)

    def end(self) -> None:
        """The body has ended."""
        for layer in self._layers:
            layer.end()


def _through(layers: Sequence[_Layer], data: bytes) -> Generator[bytes]:
    if not layers:
        yield data
        return
    first, *others = layers
    for block in first.feed(data):
        yield from _through(others, block)


class _Layer:
    """One coding of a body: its frames."""

    def __init__(self, coding: Coding, limit: int) -> None:
        self._coding = coding
        self._limit = limit
        self._frame: Frame | None = None
        self._held: bytes = b""  # of a frame that cannot begin yet
        self._frames = 0
        self._size = 0

    def feed(self, data: bytes) -> Generator[bytes]:
        for start in range(0, len(data), _WINDOW_BYTES):
            yield from self._feed(data[start : start + _WINDOW_BYTES])

    def _feed(self, data: bytes) -> Generator[bytes]:
        name = self._coding.name
        while data or (self._frame is not None and not self._frame.needs_input):
            if self._frame is None:
                data = self._held + data
                self._held = b""
                if self._frames and not self._coding.several:
                    raise _broken(f"something follows the end of its {name} data")
                if len(data) < self._coding.head:
                    self._held = data
                    return
                self._frames += 1
                if self._frames > MAX_FRAMES:
                    raise _broken(f"its {name} data has more than {MAX_FRAMES} frames")
                self._frame = self._coding.begin(data)
            try:
                block = self._frame.decompress(data, MAX_BLOCK_BYTES)
            except self._coding.errors:
                raise _broken(f"it is no valid {name} data") from None
            self._size += len(block)
            if self._size > self._limit:
                raise RequestTooLarge(f"The request body is over {self._limit} bytes.")
            data = b""
            if self._frame.eof:
                data, self._frame = self._frame.unused_data, None
            yield block

    def end(self) -> None:
        """Raise InvalidRequest where the data ends too early. No data at all is an empty body."""
        if self._frame is not None or self._held:
            raise _broken(f"its {self._coding.name} data is cut")


def _broken(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body could not be decompressed: {reason}.", param=None)
