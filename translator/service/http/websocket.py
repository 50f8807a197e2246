"""The Responses API over a WebSocket: many turns on one connection.

    session  = { request }            text messages of one JSON object each
    request  = { type: "response.create", [ stream_id ], [ generate ], … as in POST }
    response = { event } | error      the events of the HTTP stream, without `[DONE]`

Requests with the same `stream_id` are a lane, answered one after the other; lanes are independent.
Responses are remembered as long as the connection is open, so that `previous_response_id` works
though nothing is stored. A turn that fails removes the response that it continued, if that was of
its own lane: the client then sends the whole conversation again.

An error leaves the connection open. Every queue and the history have a bound.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from starlette.types import Receive, Send

import translator
from translator.common.pauses import Pause, no_pause
from translator.service.base.errors import (
    ClientLeft,
    InternalError,
    TooManyUploads,
    TooManyWaiting,
)
from translator.service.base.ids import REQUEST_ID
from translator.service.base.sinks import MessageWriter
from translator.service.base.uploads import Uploads
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import NOBODY, ErrorSent, ObserverFactory
from translator.service.observe.record import Record, request_id
from translator.service.turns.dispatcher import Dispatcher, model_in
from translator.service.turns.sink import EventWriter
from translator.service.turns.slices import LARGE_BYTES
from translator.text_run import UNFRAMED
from translator.wire.errors import InvalidRequest, TranslatorError
from translator.wire.events import Event
from translator.wire.json_values import NOT_JSON
from translator.wire.responses import Response

from .history import Histories, History, Link, items_of, recalled
from .websocket_end import (
    LOST,
    UNREAD,
    WebSocketEnd,
    departure,
    gives_way,
    raise_other,
    restarting,
    time_is_up,
)

log = logging.getLogger(__name__)

ROUTE = "/v1/responses"
"""The path of the turns, as telemetry names it."""

MAX_ACTIVE = 16
"""Concurrent turns of one connection; further lanes wait."""

MAX_LANES = 32
"""Lanes of one connection, besides the one without a name."""

MAX_WAITING = 64
"""Queued requests of one connection."""

NORMAL_CLOSURE = 1000
SERVICE_RESTART = 1012

_LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}")


class _Head(Struct, frozen=True):
    """The fields of a message that decide its lane."""

    type: object = None
    stream_id: object = None


class _Parent(Struct, frozen=True):
    """The field that names the response to continue."""

    previous_response_id: str | None = None


class ErrorBody(Struct, frozen=True):
    """`error` of an error frame; `headers` are those of the HTTP answer that it stands for."""

    type: str
    code: str | None
    message: str
    param: str | None
    headers: dict[str, str] | UnsetType = UNSET


class ErrorFrame(Struct, frozen=True, tag_field="type", tag="error"):
    """An error in place of a response. Codex reads the headers beside the error, SDKs in it."""

    status: int
    error: ErrorBody
    headers: dict[str, str] | UnsetType = UNSET


_read_head = msgspec.json.Decoder(_Head).decode
_read_parent = msgspec.json.Decoder(_Parent).decode
_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class _Queued:
    """A message that waits for its turn; its bytes count among those of all uploads."""

    __slots__ = ("_upload", "frame", "size")

    def __init__(self, frame: bytes, uploads: Uploads) -> None:
        self.size = len(frame)
        self.frame: bytes | None = frame
        """None when it had to give way."""
        self._upload = uploads.begin(0, self._give_way)
        self._upload.add(len(frame))

    def _give_way(self) -> None:
        self.frame = None

    def close(self) -> None:
        self._upload.close()


class _Lane:
    """The queue of one `stream_id`."""

    __slots__ = ("active", "name", "waiting")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.waiting: deque[_Queued] = deque()
        self.active = False


class WebSocketSession:
    """One WebSocket, from its handshake to its close."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        context: RequestContext,
        dispatcher: Dispatcher,
        authorization: str | None,
        observe: ObserverFactory | None,
        direct: MessageWriter | None,
        uploads: Uploads,
        histories: Histories,
    ) -> None:
        """`authorization` is the client's own; it and `context` are of the handshake."""
        self._receive = receive
        self._send = send
        self._direct = direct
        self._context = context
        self._record = context.record
        self._dispatcher = dispatcher
        self._server = dispatcher.server
        self._authorization = authorization
        self._observe = observe
        self._uploads = uploads
        self._histories = histories
        self._history: History
        self._lanes: dict[str | None, _Lane] = {}
        self._waiting_bytes = 0
        self._active = asyncio.Semaphore(MAX_ACTIVE)
        self._answering: set[asyncio.Task[None]] = set()
        self._closing: TranslatorError | None = None  # why no more requests are answered
        self._end = WebSocketEnd(direct)
        self._unwanted = asyncio.Event()
        self.idle_since: float | None = asyncio.get_running_loop().time()
        """Since when nothing is answered, by the loop's clock; None while something is."""
        self._count = 0

    async def run(self) -> None:
        """Respond until the client leaves, the connection is too old, or the service stops."""
        headers = [(b"x-request-id", self._record.request_id.encode())]
        await self._receive()  # the handshake itself
        try:
            await self._send({"type": "websocket.accept", "headers": headers})
        except OSError:  # a server's way to report a disconnect
            raise ClientLeft(LOST) from None
        self._record.status = 101
        self._history = self._histories.begin(self._server.max_history_bytes)
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._serve(tasks)
        except ExceptionGroup as ended:  # no `except*`, which keeps the group to itself
            raise_other(ended)
            self._record.outcome = self._end.outcome(closing=self._closing is not None)
            ended.with_traceback(None)  # whose frames hold the group
        finally:
            self._history.close()
            for lane in self._lanes.values():
                for queued in lane.waiting:
                    queued.close()
        self._record.remarks = f"{self._count} turn{'' if self._count == 1 else 's'}"

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        listening = tasks.create_task(self._listen(tasks))
        drain = self._dispatcher.bounds.drain.begun
        limit_s = self._server.max_websocket_s
        waits = [asyncio.create_task(one.wait()) for one in (drain, self._unwanted)]
        try:
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if drain.is_set():
            self._closing, why = restarting(), "the service shuts down"
        elif self._unwanted.is_set():
            self._closing, why = gives_way(), "idle, and another client needed its place"
        else:
            self._closing, why = time_is_up(limit_s), f"open for {limit_s / 60:g} minutes"
        while self._answering:
            await asyncio.wait(self._answering)
        if not drain.is_set():
            await self._send_error(self._closing, None)
        listening.cancel()
        code = SERVICE_RESTART if drain.is_set() else NORMAL_CLOSURE
        self._record.outcome = f"closed: {why} ({code})"
        await self._send_messages({"type": "websocket.close", "code": code})

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        """Queue the client's requests; raises ClientLeft when it leaves."""
        while (message := await self._receive())["type"] == "websocket.receive":
            text = message.get("text")
            frame = text.encode() if text is not None else message.get("bytes") or b""
            lane = None
            try:
                head = _head_of(frame)
                lane = self._lane(head)
                self._queue(lane, head, frame)
            except TranslatorError as error:
                await self._send_error(error, lane)
            else:
                if not lane.active:
                    lane.active = True
                    task = tasks.create_task(self._answer(lane))
                    self._answering.add(task)
                    self.idle_since = None
                    task.add_done_callback(self._answered_all)
        raise self._end.client_left(departure(message))

    def _answered_all(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not self._answering:
            self.idle_since = asyncio.get_running_loop().time()

    def give_way(self) -> None:
        """Close it: it is idle, and another client needs its place."""
        self.idle_since = None
        self._unwanted.set()

    def _lane(self, head: _Head) -> _Lane:
        name = head.stream_id
        if name is not None and not (isinstance(name, str) and _LANE.fullmatch(name)):
            raise InvalidRequest(
                "Invalid 'stream_id': expected 1 to 256 of the characters A-Z a-z 0-9 _ - and '.'.",
                param="stream_id",
                code="invalid_stream_id",
            )
        if name not in self._lanes:
            if name is not None and len(self._lanes.keys() - {None}) >= MAX_LANES:
                raise InvalidRequest(
                    f"A connection has at most {MAX_LANES} different stream ids.",
                    param="stream_id",
                    code="websocket_stream_limit_reached",
                )
            self._lanes[name] = _Lane(name)
        return self._lanes[name]

    def _queue(self, lane: _Lane, head: _Head, frame: bytes) -> None:
        if head.type != "response.create":
            raise InvalidRequest(
                f"Unknown event type: {str(head.type)[:100]!r}; expected 'response.create'.",
                param="type",
                code="unknown_event_type",
            )
        if self._closing is not None:
            raise self._closing
        waiting = sum(len(one.waiting) for one in self._lanes.values())
        size = self._waiting_bytes + len(frame)
        if waiting >= MAX_WAITING or (waiting and size > self._server.max_body_bytes):
            raise TooManyWaiting
        self._waiting_bytes = size
        lane.waiting.append(_Queued(frame, self._uploads))

    # --- turns ----------------------------------------------------------------------------------

    async def _answer(self, lane: _Lane) -> None:
        """Answer the requests of a lane, one after the other."""
        try:
            while lane.waiting:
                async with self._active:
                    queued = lane.waiting.popleft()
                    queued.close()
                    self._waiting_bytes -= queued.size
                    frame, queued.frame = queued.frame, None
                    if self._closing is not None:
                        await self._send_error(self._closing, lane)
                    elif frame is None:
                        await self._send_error(TooManyUploads(), lane)
                    else:
                        await self._turn(lane, frame)
        finally:
            lane.active = False

    async def _turn(self, lane: _Lane, frame: bytes) -> None:
        timer = self._dispatcher.bounds.timer
        record = Record(
            method="WS",
            path=self._record.path,
            route=ROUTE,
            request_id=request_id("", self._dispatcher.new_id),
            started_at=timer(),
            headers=self._record.headers,
        )
        context = RequestContext(record)
        if self._context.client is not None:
            context.admit(self._context.client)
        if self._observe is not None:
            context.observer = self._observe(record) or NOBODY
        self._count += 1
        before = REQUEST_ID.set(record.request_id)
        try:
            with self._dispatcher.slot(context.client):
                await self._answered(lane, frame, context)
        except TranslatorError as error:
            record.model = record.model or model_in(frame)
            await self._fail_turn(error, lane, context)
        except (ClientLeft, asyncio.CancelledError):
            record.outcome = self._end.of_turn()
            raise
        except Exception:
            log.exception("internal error")
            await self._fail_turn(InternalError(), lane, context)
        finally:
            context.end(timer())
            REQUEST_ID.reset(before)

    async def _answered(self, lane: _Lane, frame: bytes, context: RequestContext) -> None:
        parent_id = _parent_of(frame)
        parent = None if parent_id is None else self._history.recall(parent_id)
        at_hand = parent if parent is not None and not parent.stored else None
        can_continue = False
        try:
            if len(frame) < LARGE_BYTES:
                body = _as_post(frame)
            else:
                body = await self._dispatcher.bounds.slices.run(partial(_as_post, frame))
            turn = await self._dispatcher.begin(
                context,
                body,
                authorization=self._authorization,
                earlier=None if at_hand is None else at_hand.all_items(),
                remembers=True,
            )
            if turn.keeping is not None:
                at_hand = at_hand or recalled(turn.keeping, lane.name)
            del body  # which is not held while the answer comes
            source = turn.translation.request.input  # which the turn releases
            writer = None if self._direct is None else _event_writer(self._direct, lane)
            async with turn, aclosing(turn.events(writer)) as batches:
                async for events in batches:
                    context.record.status = 200
                    if turn.translation.finished:
                        response = turn.translation.response
                        if turn.keeping is not None and turn.keeping.context.keeps:
                            link = Link(None, (), lane.name, stored=True)
                        else:
                            output = turn.translation.kept_output or response.output
                            link = Link(at_hand, items_of(source, output), lane.name)
                        can_continue = self._remember(response, link)
                    await self._send_events(events, lane)
                    del events  # so that they are not held while nothing comes
        finally:
            own = parent is not None and parent.lane == lane.name
            if own and not can_continue and parent_id is not None:
                self._history.forget(parent_id)

    def _remember(self, response: Response, link: Link) -> bool:
        """Remember a response that can be continued; False for one that failed."""
        if response.status == "failed":
            return False
        self._history.keep(response.id, link)
        return True

    # --- sending --------------------------------------------------------------------------------

    async def _send_events(self, events: Sequence[Event], lane: _Lane) -> None:
        await self._send_messages(*map(_as_message, _messages(events, lane)))

    async def _fail_turn(
        self, error: TranslatorError, lane: _Lane, context: RequestContext
    ) -> None:
        record = context.record
        record.outcome = error.code or error.type
        record.failure = error
        record.status = error.status_hint
        context.observer.on(ErrorSent(error))
        await self._send_error(error, lane)

    async def _send_error(self, error: TranslatorError, lane: _Lane | None) -> None:
        """Send an error in place of a response."""
        headers = error.headers or UNSET
        # Codex gives a turn up on the code, where over HTTP it has retried by the status before
        code = "server_error" if error.code == "server_is_overloaded" else error.code
        body = ErrorBody(error.type, code, error.message, error.param, headers)
        frame = ErrorFrame(error.status_hint, body, headers)
        await self._send_messages(_as_message(_in_lane(msgspec.json.encode(frame), lane)))

    async def _send_messages(self, *messages: dict[str, object]) -> None:
        """Send messages; waits for a slow client up to `client_timeout_s`."""
        waits = len(messages) > 1 or self._direct is None or self._direct.waits()
        try:
            async with asyncio.timeout(self._server.client_timeout_s if waits else None):
                for message in messages:
                    await self._send(message)
        except TimeoutError:
            if self._direct is not None:
                self._direct.abort()  # closing would wait for the client once more
            raise self._end.client_left(UNREAD) from None
        except OSError:  # a server's way to report a disconnect
            raise self._end.client_left(LOST) from None


def _head_of(frame: bytes) -> _Head:
    try:
        return _read_head(frame)
    except NOT_JSON as error:
        raise InvalidRequest(
            f"A message is one JSON object; this is not: {error}.", param=None, code="invalid_json"
        ) from None


def _parent_of(frame: bytes) -> str | None:
    """The id of the response to continue; None, too, for a field that is rejected later."""
    try:
        return _read_parent(frame).previous_response_id
    except NOT_JSON:
        return None


def _as_post(frame: bytes, pause: Pause = no_pause) -> bytes:
    """The body of the POST that a message stands for; it always asks for a stream."""
    fields = _read_fields(frame)
    pause()
    for name in ("type", "stream_id"):
        fields.pop(name, None)
    fields["stream"] = Raw(b"true")
    return msgspec.json.encode(fields)


def _event_writer(direct: MessageWriter, lane: _Lane) -> EventWriter[Sequence[bytes]]:
    encode, encode_one = partial(_messages, lane=lane), partial(_message, lane=lane)
    return EventWriter(direct, encode, encode_one, direct.write_message, UNFRAMED)


def _messages(events: Sequence[Event], lane: _Lane) -> list[bytes]:
    """Events as JSON texts."""
    return [_message(event, lane) for event in events]


def _message(event: Event, lane: _Lane) -> bytes:
    return _in_lane(translator.encode_json(event), lane)


def _in_lane(body: bytes, lane: _Lane | None) -> bytes:
    """A JSON object with the name of its lane added."""
    if lane is None or lane.name is None:
        return body
    return b'%b,"stream_id":"%b"}' % (body[:-1], lane.name.encode())


def _as_message(text: bytes) -> dict[str, object]:
    return {"type": "websocket.send", "text": text.decode()}
