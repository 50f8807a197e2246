"""An HTTP exchange: one request and its response, and nothing about models.

    exchange = body, ( start, { write }, end | whole response ) ;

An exchange bounds what a client can make us hold (the size of its body) and wait for (its body,
room for the next chunk of a response). While an upstream works for a client, the
client's connection is watched: when it closes, the work is cancelled, even inside a blocked write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote

import msgspec
from starlette.types import Message, Receive, Scope, Send

from translator.service.base.drain import Drain
from translator.service.base.errors import (
    ClientLeft,
    InvalidKey,
    RequestStalled,
    Stopping,
    TooManyUploads,
)
from translator.service.base.ids import NewId
from translator.service.base.reusable_timeout import ReusableTimeout
from translator.service.base.sinks import EXTENSION, HttpWriter
from translator.service.base.uploads import Uploads
from translator.service.config.settings import Server
from translator.service.observe.context import RequestContext
from translator.service.observe.record import Record, request_id
from translator.wire.errors import RequestTooLarge, TranslatorError

from .content_coding import MAX_BLOCK_BYTES, Decoder, decoder_of

JSON = {"content-type": "application/json"}

MODEL_HEADER = "x-translator-model"
"""The header with the id of the model that a request went to in place of the requested one; what a
header cannot hold, and `%`, is percent-encoded."""

FALLBACK_HEADER = "x-translator-fallback"
"""The header that says in one word why, where the first one did not answer."""

_PLAIN_IN_HEADERS = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"  # beside what `quote` leaves as it is

_MAX_STEPS = 20  # between two turns of other tasks, while a body is decompressed: 2 ms at most

B = TypeVar("B", bytes, bytearray)
T = TypeVar("T")


class Exchange:
    """One HTTP request on its way through the service."""

    __slots__ = (
        *("_drain", "_ended", "_now", "_receive", "_scope", "_send", "_server", "_timeout"),
        *("_uploads", "added", "context", "cookies", "direct", "record"),
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        server: Server,
        new_id: NewId,
        drain: Drain,
        uploads: Uploads,
        started_at: float,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._server = server
        self._drain = drain
        self._uploads = uploads
        self._timeout: ReusableTimeout | None = None  # of the task that responds
        self._now = asyncio.get_running_loop().time
        self._ended = False
        self.direct: HttpWriter | None = scope.pop("extensions", {}).pop(EXTENSION, None)
        """The direct writer for chunks of a response that has begun, if the server has one."""
        self.record = Record(
            method=scope["method"],
            path=scope["path"],
            request_id=request_id(self.header("x-request-id") or "", new_id),
            started_at=started_at,
            headers=scope["headers"],
        )
        self.context = RequestContext(self.record)
        self.added: Mapping[str, str] = {}
        """Headers of the response, whatever it will be."""

        self.cookies: Sequence[str] = ()
        """Values of `Set-Cookie`, a header of which a response may have several."""

    @property
    def method(self) -> str:
        return self.record.method

    @property
    def path(self) -> str:
        return self.record.path

    @property
    def peer(self) -> str:
        """The address that the connection comes from; empty where it has none."""
        peer: tuple[str, int] | None = self._scope.get("client")
        return peer[0] if peer else ""

    def query(self, name: str) -> str:
        """The first parameter of that name in the query, decoded; empty without one."""
        return next(iter(self.query_values().get(name, ())), "")

    @property
    def draining(self) -> bool:
        """Whether the service shuts down."""
        return self._drain.begun.is_set()

    @property
    def grace_s(self) -> float:
        """How long the status line may be held back."""
        return self._server.headers_grace_s

    @property
    def heartbeat_s(self) -> float:
        """The longest pause in a stream."""
        return self._server.heartbeat_s

    @property
    def started(self) -> bool:
        """Whether the status line has been sent: from then on, no HTTP error is possible."""
        return self.record.status is not None

    @property
    def ended(self) -> bool:
        """Whether the whole response has been sent."""
        return self._ended

    def header(self, name: str) -> str | None:
        """The first request header of that name, which is given in lower case."""
        wanted = name.encode()
        raw: bytes
        for key, raw in self._scope["headers"]:
            if key == wanted:
                return raw.decode("latin-1")
        return None

    def authorization(self) -> str | None:
        """The client's own `Authorization`; raises InvalidKey where no upstream could read it."""
        value = self.header("authorization")
        if value is not None and not value.isascii():
            raise InvalidKey("Incorrect API key provided: it has characters beyond ASCII.")
        return value

    def all_of(self, name: str) -> str:
        """All request headers of that name, as one list; empty without any."""
        wanted = name.encode()
        raw: list[bytes] = [value for key, value in self._scope["headers"] if key == wanted]
        return b", ".join(raw).decode("latin-1") if raw else ""

    def pop_header(self, name: str) -> str | None:
        """The request header of that name, removed from the request."""
        value = self.header(name)
        wanted = name.encode()
        self._scope["headers"] = [pair for pair in self._scope["headers"] if pair[0] != wanted]
        return value

    def has_query(self, name: str) -> bool:
        """Whether the query has a parameter of that name."""
        query = str(self._scope["query_string"], "latin-1")
        return any(part.partition("=")[0] == name for part in query.split("&"))

    def query_values(self) -> dict[str, list[str]]:
        """The parameters of the query, decoded, those without a value, too."""
        query = str(self._scope["query_string"], "latin-1")
        return parse_qs(query, keep_blank_values=True, max_num_fields=None)

    def path_param(self, name: str) -> str:
        return str(self._scope["path_params"][name])

    async def body(self) -> bytes:
        """The whole request body, decompressed.

        Raises InvalidRequest for one that cannot be, RequestTooLarge, UnsupportedEncoding,
        RequestStalled, TooManyUploads, Stopping, ClientLeft, and the error of a body that is not
        valid HTTP.
        """
        limit = self._server.max_body_bytes
        codings = self.all_of("content-encoding")
        decoder = decoder_of(codings, limit) if codings else None
        announced = self.header("content-length") or ""
        if announced.isascii() and announced.isdigit() and int(announced) > limit:
            raise RequestTooLarge(f"The request body is over {limit} bytes.")
        if decoder is None and self.direct is not None:
            self._drain.check()
            at_once = self.direct.take_body()
            if at_once is not None:
                self._uploads.arrived(self._now(), len(at_once))
                return _within(limit, at_once)
        with closing(_Upload(self._drain, self._uploads)) as upload:
            if decoder is not None:
                return await self._decoded(decoder, upload, limit)
            message = await self._next(upload)
            if not message.get("more_body", False):
                whole: bytes = message.get("body", b"")
                return _within(limit, whole)
            body = bytearray(message.get("body", b""))
            while message.get("more_body", False):
                message = await self._next(upload)
                body += message.get("body", b"")
                _within(limit, body)
        return bytes(body)

    def body_at_once(self) -> bytes | None:
        """A body without a coding that has arrived whole already; None for any other."""
        if self.direct is None or self.all_of("content-encoding"):
            return None
        return self.direct.take_body()

    async def _decoded(self, decoder: Decoder, upload: _Upload, limit: int) -> bytes:
        """The whole body, decompressed as it arrives; other tasks have their turn meanwhile."""
        body = bytearray()
        size = steps = counted = 0
        more = True
        while more:
            message = await self._next(upload)
            data, more = message.get("body", b""), message.get("more_body", False)
            size += len(data)
            if size > limit:
                raise RequestTooLarge(f"The request body is over {limit} bytes.")
            for block in decoder.feed(data):
                body += block
                steps += 1
                if len(body) - counted >= MAX_BLOCK_BYTES or steps >= _MAX_STEPS:
                    upload.grow(len(body) - counted)
                    steps, counted = 0, len(body)
                    await asyncio.sleep(0)
        decoder.end()
        return bytes(body)

    async def _next(self, upload: _Upload) -> Message:
        message = await upload.next(self._receive)
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if self.direct is not None and self.direct.problem is not None:
            raise self.direct.problem
        return message

    def while_connected(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The result of `work`; raises ClientLeft when the client closes its connection.

        What the work holds open (the upstream's response) is closed when this returns.
        """
        # no coroutine around another one, which would be held as long as the answer comes
        if self.direct is not None:
            return self._until_disconnect(work, self.direct)
        return self._beside_disconnect(work)

    async def _beside_disconnect(self, work: Coroutine[Any, Any, T]) -> T:
        """`while_connected`, where only a task can notice that the client disconnects."""
        working = asyncio.create_task(work)
        leaving = asyncio.create_task(self._disconnect())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if self._ended:  # a server reports a disconnect after a finished response, too
                await asyncio.wait((working,))
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.wait((working, leaving))
        if working.cancelled():
            raise ClientLeft
        return working.result()

    async def _until_disconnect(self, work: Coroutine[Any, Any, T], direct: HttpWriter) -> T:
        """The same without a task for either."""
        task = asyncio.current_task()
        assert task is not None
        before, leaving = task.cancelling(), _Leaving(self, task)
        if not direct.on_disconnect(leaving):
            work.close()
            raise ClientLeft
        try:
            return await work
        except asyncio.CancelledError:
            if leaving.has_left and task.uncancel() <= before:
                raise ClientLeft from None
            raise
        finally:
            direct.ignore_disconnect()

    async def _disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers; the rest must come from the same task."""
        self.record.status = status
        client = self.context.client
        limits = {} if client is None else client.headers()
        headers = {"x-request-id": self.record.request_id, **headers, **self.added, **limits}
        if self.record.served_by:
            headers[MODEL_HEADER] = quote(self.record.served_by, safe=_PLAIN_IN_HEADERS)
        if self.record.why:
            headers[FALLBACK_HEADER] = self.record.why
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in headers.items()
        ]
        encoded += [(b"set-cookie", cookie.encode("latin-1")) for cookie in self.cookies]
        await self._send_message(
            {"type": "http.response.start", "status": status, "headers": encoded}
        )

    async def write(self, chunk: bytes) -> None:
        """Send a chunk of the response; waits for a slow client up to `client_timeout_s`."""
        await self._send_message({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        """Send the last chunk of the response."""
        await self._send_message({"type": "http.response.body", "body": chunk})
        self._ended = True

    async def _send_message(self, message: Message) -> None:
        if self.direct is not None and not self.direct.waits():
            await self._send(message)
            return
        if self._timeout is None:
            self._timeout = ReusableTimeout()
        try:
            with self._timeout.until(self._now() + self._server.client_timeout_s):
                await self._send(message)
        except TimeoutError:
            if self.direct is not None:
                self.direct.abort()  # closing would wait for the client once more, without bound
            raise ClientLeft("it does not read its response") from None

    def close(self) -> None:
        """Release the timer; nothing is sent any more."""
        if self._timeout is not None:
            self._timeout.close()

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str] = JSON) -> None:
        """Send a whole response."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.end(body)

    async def error(self, error: TranslatorError) -> None:
        """Send an error as an HTTP response."""
        self.record.outcome = error.code or error.type
        body = msgspec.json.encode(error.envelope())
        await self.whole(error.status_hint, body, JSON | error.headers)


class _Leaving:
    """Cancels a task when its client disconnects before the response has ended."""

    __slots__ = ("_exchange", "_task", "has_left")

    def __init__(self, exchange: Exchange, task: asyncio.Task[Any]) -> None:
        self._exchange = exchange
        self._task = task
        self.has_left = False

    def __call__(self) -> None:
        if not self._exchange.ended and not self.has_left:
            self.has_left = True
            self._task.cancel()


def _within(limit: int, body: B) -> B:
    """The body; raises RequestTooLarge when it is over the limit."""
    if len(body) > limit:
        raise RequestTooLarge(f"The request body is over {limit} bytes.")
    return body


class _Upload:
    """The bounds of a request body: its time, its bytes, and the end of the service."""

    __slots__ = ("_drain", "_now", "_stopping", "_timeout", "_upload")

    def __init__(self, drain: Drain, uploads: Uploads) -> None:
        """Raises Stopping."""
        self._drain = drain
        self._timeout = ReusableTimeout()
        self._now = asyncio.get_running_loop().time
        self._upload = uploads.begin(self._now(), self._timeout.end)
        self._stopping = False
        drain.join(self._stop)

    async def next(self, receive: Receive) -> Message:
        """The next ASGI message; raises RequestStalled, TooManyUploads, and Stopping."""
        upload = self._upload
        try:
            with self._timeout.until(upload.deadline(self._now())):
                message = await receive()
        except TimeoutError:
            if self._stopping:
                raise Stopping from None
            raise (TooManyUploads if upload.gave_way else RequestStalled) from None
        upload.add(len(message.get("body", b"")))
        if upload.gave_way:
            raise TooManyUploads
        return message

    def grow(self, size: int) -> None:
        """Count bytes that have become of those that arrived; raises TooManyUploads."""
        self._upload.grow(size)
        if self._upload.gave_way:
            raise TooManyUploads

    def _stop(self) -> None:
        self._stopping = True
        self._timeout.end()

    def close(self) -> None:
        self._drain.leave(self._stop)
        self._upload.close()
        self._timeout.close()
