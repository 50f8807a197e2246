"""One request and its answer: what every endpoint needs of HTTP, and nothing about models.

    exchange = body, ( start, { write }, end | whole answer ) ;

An exchange bounds what the client can make us hold (the body's size) and wait for (the next piece
of a body, room for the next piece of an answer). While an upstream works for a client, the client
is watched: when it leaves, the work is cancelled where it stands, even inside a blocked write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import closing
from typing import Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from translator.service.base.drain import Drain
from translator.service.base.errors import ClientLeft, RequestStalled, Stopping, UnsupportedEncoding
from translator.service.base.ids import NewId
from translator.service.base.reusable_timeout import Patience
from translator.service.base.sinks import EXTENSION, Http
from translator.service.config.settings import Server
from translator.service.observe.record import Record
from translator.wire.errors import RequestTooLarge, TranslatorError

JSON = {"content-type": "application/json"}


class Exchange(Record):
    """One HTTP request on its way through the service."""

    # beside a record's, so that those stay few enough for Python to keep them in little space
    __slots__ = (
        *("_drain", "_ended", "_now", "_patience", "_receive", "_scope", "_send", "_server"),
        *("added", "direct"),
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
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._server = server
        self._drain = drain
        self._patience: Patience | None = None  # of the task that answers
        self._now = asyncio.get_running_loop().time
        self._ended = False
        self.direct: Http | None = scope.get("extensions", {}).pop(EXTENSION, None)
        """The short way for pieces of an answer that has begun, where the server has one."""

        super().__init__(
            scope["method"],
            scope["path"],
            given_id=self.header("x-request-id") or "",
            new_id=new_id,
        )
        self.headers = scope["headers"]
        self.added: Mapping[str, str] = {}
        """Headers of the answer, whatever it will be."""

    @property
    def started(self) -> bool:
        """Whether the status line has been sent: from then on, no HTTP error is possible."""
        return self.status is not None

    @property
    def ended(self) -> bool:
        """Whether the whole answer has been sent."""
        return self._ended

    def header(self, name: str) -> str | None:
        """The first request header of that name, which is given in lower case."""
        wanted = name.encode()
        for key, value in self._scope["headers"]:
            if key == wanted:
                return str(value, "latin-1")
        return None

    def take(self, name: str) -> str | None:
        """The request header of that name, which is gone from then on."""
        value = self.header(name)
        wanted = name.encode()
        self._scope["headers"] = [pair for pair in self._scope["headers"] if pair[0] != wanted]
        return value

    def asks(self, name: str) -> bool:
        """Whether the query has a parameter of that name."""
        query = str(self._scope["query_string"], "latin-1")
        return any(part.partition("=")[0] == name for part in query.split("&"))

    def path_param(self, name: str) -> str:
        return str(self._scope["path_params"][name])

    async def body(self) -> bytes:
        """The whole request body, within its bounds."""
        limit = self._server.max_body_bytes
        encoding = (self.header("content-encoding") or "identity").lower()
        if encoding != "identity":
            raise UnsupportedEncoding(
                f"The content-encoding {encoding[:40]!a} is not supported; send the body as it is.",
                param=None,
            )
        announced = self.header("content-length") or ""
        if announced.isascii() and announced.isdigit() and int(announced) > limit:
            raise RequestTooLarge(f"The request body is over {limit} bytes.")
        pieces: list[bytes] = []
        size = 0
        more = True
        with closing(_Upload(self._drain, self._server.client_timeout_s)) as upload:
            while more:
                message = await upload.next(self._receive)
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > limit:
                    raise RequestTooLarge(f"The request body is over {limit} bytes.")
                more = message.get("more_body", False)
        return b"".join(pieces)

    async def while_client_waits(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or as much of it as can be done until the client leaves.

        What the work holds open (the upstream's answer) is closed when this returns.
        """
        if self.direct is not None:
            await self._until_left(work, self.direct)
            return
        working = asyncio.create_task(work)
        leaving = asyncio.create_task(self._departure())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if self._ended:  # a server reports "gone" after a finished answer, too
                await asyncio.wait((working,))
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.wait((working, leaving))
        if working.cancelled():
            raise ClientLeft
        working.result()

    async def _until_left(self, work: Coroutine[Any, Any, None], direct: Http) -> None:
        """The same without a task for either."""
        task = asyncio.current_task()
        assert task is not None
        before, has_left = task.cancelling(), False

        def left() -> None:
            nonlocal has_left
            if not self._ended and not has_left:
                has_left = True
                task.cancel()

        if not direct.watch(left):
            work.close()
            raise ClientLeft
        try:
            await work
        except asyncio.CancelledError:
            if has_left and task.uncancel() <= before:
                raise ClientLeft from None
            raise
        finally:
            direct.unwatch()

    async def _departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers: what follows must come from the same task."""
        self.status = status
        left = {} if self.client is None else self.client.headers()
        headers = {"x-request-id": self.request_id, **headers, **self.added, **left}
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in headers.items()
        ]
        await self._give({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, piece: bytes) -> None:
        """Send one piece of the answer; waits for a client that reads slowly, within its bound."""
        await self._give({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece of the answer."""
        await self._give({"type": "http.response.body", "body": piece})
        self._ended = True

    async def _give(self, message: Message) -> None:
        if self.direct is not None and not self.direct.waits():
            await self._send(message)
            return
        if self._patience is None:
            self._patience = Patience()
        try:
            with self._patience.until(self._now() + self._server.client_timeout_s):
                await self._send(message)
        except TimeoutError:
            if self.direct is not None:
                self.direct.abort()  # closed, it would wait for the client once more, without bound
            raise ClientLeft("it does not take its answer") from None

    def close(self) -> None:
        """Nothing more is sent."""
        if self._patience is not None:
            self._patience.close()

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str] = JSON) -> None:
        """Send a whole answer."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.end(body)

    async def error(self, error: TranslatorError) -> None:
        """Send an error as an HTTP answer."""
        self.outcome = error.code or error.type
        body = msgspec.json.encode(error.envelope())
        await self.whole(error.status_hint, body, JSON | error.headers)


class _Upload:
    """The waits for a request's body: bounded each, and ended by the end of the service."""

    def __init__(self, drain: Drain, limit_s: float) -> None:
        """Raises Stopping."""
        self._drain = drain
        self._limit_s = limit_s
        self._stopping = False
        self._patience = Patience()
        self._now = asyncio.get_running_loop().time
        drain.join(self._stop)

    async def next(self, receive: Receive) -> Message:
        """What comes next; raises RequestStalled, and Stopping."""
        try:
            with self._patience.until(self._now() + self._limit_s):
                return await receive()
        except TimeoutError:
            raise (Stopping if self._stopping else RequestStalled) from None

    def _stop(self) -> None:
        self._stopping = True
        self._patience.end()

    def close(self) -> None:
        self._drain.leave(self._stop)
        self._patience.close()
