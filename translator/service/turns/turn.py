"""One request of a client, answered: attempts upstream, and the events that its client gets.

    events = first, { more }, last ;        each a list of events: what one upstream read became

Before the first events, exceptions; after them, events. The first are held back until the answer
begins, because many upstreams say 200, then a comment or a role, and then what is wrong; but not
longer than a grace time, because clients and proxies give up on a request that stays without a
status. From then on, whenever nothing flows for a while, `response.in_progress` is repeated: the
idle timers of clients count events.

As long as no item of an answer has been announced, a refusal can be answered with another attempt,
whatever was sent before: every attempt begins with the same events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

import translator
from translator.request.to_chat import read_request
from translator.service.access.clients import Client
from translator.service.base.drain import Drain
from translator.service.base.errors import Overloaded, Stopping
from translator.service.base.ids import NewId
from translator.service.base.sinks import Direct
from translator.service.config.settings import Server
from translator.service.models.table import ModelTable, Route
from translator.service.observe.observer import for_events
from translator.service.observe.record import Record
from translator.service.upstreams.client import Answer, Upstreams
from translator.service.upstreams.streams import Reading
from translator.wire.errors import TranslatorError, UpstreamError, UpstreamTimeout
from translator.wire.events import Event
from translator.wire.json_values import NOT_JSON
from translator.wire.responses import Response

from .attempts import Asking, Attempt, Memory
from .counts import check_counts

log = logging.getLogger(__name__)

MAX_NOTICE_CODES = 10
"""How many different notice codes are listed: proxies bound a header's size."""


class _Head(msgspec.Struct, frozen=True):
    """As much of a request as says where it goes, and how large it is."""

    model: str | None = None
    input: str | list[Raw] | None = None
    tools: list[Raw] | None = None


_read_head = msgspec.json.Decoder(_Head).decode


class Turns:
    """What every turn needs, and how many there may be at once."""

    def __init__(
        self,
        *,
        server: Server,
        models: ModelTable,
        upstreams: Upstreams,
        clock: Callable[[], float],
        new_id: NewId,
        drain: Drain,
    ) -> None:
        self.drain = drain
        self.server = server
        self.models = models
        self.upstreams = upstreams
        self.clock = clock
        self.new_id = new_id
        self._memory = Memory()
        self._open = 0

    @contextmanager
    def place(self, client: Client | None = None) -> Generator[None]:
        """A place among the requests that are answered at once.

        Raises Overloaded without one, and LimitReached where the client has no more of them.
        """
        limit = self.server.max_concurrent_requests
        if self._open >= limit:
            raise Overloaded(limit)
        with nullcontext() if client is None else client.place():
            self._open += 1
            try:
                yield
            finally:
                self._open -= 1

    def until(self) -> float:
        """When an exchange that begins now ends at the latest, by the loop's clock."""
        return asyncio.get_running_loop().time() + self.server.exchange_timeout_s

    def reading(self, opening: Coroutine[Any, Any, Answer], until: float | None = None) -> Reading:
        """An answer on its way, within all bounds; `until` is when its exchange ends."""
        return Reading(
            opening,
            self.drain,
            until=self.until() if until is None else until,
            silence_s=self.server.read_timeout_s,
            progress_s=self.server.progress_timeout_s,
        )

    def begin(
        self,
        record: Record,
        request: bytes,
        *,
        authorization: str | None,
        earlier: Sequence[Raw] | None = None,
    ) -> Turn:
        """A turn, not yet asked upstream.

        `authorization` is the client's own. `earlier` are the items of the previous response.
        Raises InvalidRequest for a request that cannot be translated.
        """
        if record.witness is not None:
            record.witness.asked(request)
        head = _head_of(request)
        model = head.model
        route = self.models.route(model, record.client)
        check_counts(self.server, items=head.input, tools=head.tools, earlier=len(earlier or ()))
        record.charged(len(request))
        record.model = model or ""
        record.dialect = route.dialect.name
        if record.witness is not None:
            record.witness.routed(route, earlier)
        began = self.clock()
        asking = Asking(
            request,
            route,
            self._memory,
            model=record.model,
            may_retry=self.server.retry_refused,
            clock=self.clock,
            new_id=self.new_id,
            earlier=earlier,
        )
        record.translating_s = self.clock() - began
        return Turn(record, asking, route, self, authorization)


class Turn:
    """One request, its answer asked for once: by `events()` or by `response()`."""

    def __init__(
        self, record: Record, asking: Asking, route: Route, turns: Turns, authorization: str | None
    ) -> None:
        self._record = record
        self._asking = asking
        self._attempt = asking.attempt
        self._route = route
        self._turns = turns
        self._until = turns.until()
        self._server = turns.server
        self._clock = turns.clock
        self._seen = for_events(record.witness)
        self._authorization = authorization

    @property
    def translation(self) -> translator.Translation:
        """That of the latest attempt."""
        return self._attempt.translation

    @property
    def streams(self) -> bool:
        """Whether the client asks for events."""
        return bool(self.translation.request.stream)

    @property
    def notices(self) -> tuple[translator.Notice, ...]:
        """What is lost of the request, in the latest attempt."""
        return self._attempt.notices

    async def events(self, outlet: Outlet[Any] | None = None) -> AsyncGenerator[list[Event]]:
        """All events, each list as soon as it is known; the last list ends in the terminal event.

        What is known once the answer goes on may go the short way instead, if there is one. Raises
        TranslatorError, and only before the first list.
        """
        if not self.translation.wants_answer:
            yield self._told(self.translation.skip())
            return
        now = asyncio.get_running_loop().time
        due = now() + self._server.headers_grace_s  # then the client hears something, whatever
        begun = forgotten = False
        beats = 0
        while True:
            self._attempt = self._asking.attempt
            translation = self.translation
            if begun:
                _repeat_beginning(translation, beats)
            held: list[Event] = []  # what the client does not have yet
            progress = Progress(translation, self._server.progress_timeout_s, now())
            try:
                async with self._turns.reading(self._open(), self._until) as reading:
                    flow: _Flow | None = None
                    while True:
                        piece = await reading.next(due, flow)
                        if piece:
                            held += translation.receive(piece)
                            progress.check(reading.heard)
                        elif piece is not None:
                            held += translation.close()
                        elif flow is not None:
                            held, due = flow.left, flow.sent + self._server.heartbeat_s
                        piece = None  # it is not kept while nothing comes
                        if translation.finished:
                            break
                        late = now() >= due
                        if late and not held:
                            held = translation.start()
                            if not held:
                                held = translation.heartbeat()
                                beats += 1
                        if held and (begun or late or translation.produced):
                            begun = True
                            due = now() + self._server.heartbeat_s
                            yield self._told(held)
                            held = []
                            if translation.produced and not forgotten:
                                self._asking.forget()
                                self._attempt, forgotten = self._asking.attempt, True
                            if outlet is not None and translation.produced and flow is None:
                                flow = _Flow(translation, progress, reading, outlet, self._seen)
                    _raise_if_nothing_came(translation)
                    yield self._told(held)
                    if translation.error is None:
                        await reading.drain()
                    return
            except UpstreamError as error:
                self._broke(error)
                if not translation.produced and self._asking.again(error):
                    continue
                if not begun:
                    raise
                held += translation.close(error)
            except Stopping as error:
                self._broke(error)
                if not begun:
                    raise
                held += translation.close(error)
            except Exception:
                if not begun:
                    raise
                log.exception("%s: this is a fault in translator", self._record.request_id)
                fault = TranslatorError("The translator failed.", code="server_error")
                held += translation.close(fault)
            yield self._told(held)
            return

    async def response(self) -> Response:
        """The whole answer. Raises TranslatorError where there is none."""
        if not self.translation.wants_answer:
            self._told(self.translation.skip())
            return self.translation.response
        while True:
            self._attempt = self._asking.attempt
            try:
                response = await self._whole()
            except UpstreamError as error:
                self._broke(error)
                if not self._asking.again(error):
                    raise
            else:
                self._record.outcome = response.status
                self._record.usage = response.usage
                if self._record.witness is not None:
                    self._record.witness.responded(response)
                return response

    async def _whole(self) -> Response:
        translation = self.translation
        now = asyncio.get_running_loop().time
        progress = Progress(translation, self._server.progress_timeout_s, now())
        left = limit = self._server.max_answer_bytes
        async with self._turns.reading(self._open(), self._until) as reading:
            while not translation.finished and (piece := await reading.next()):
                left -= len(piece)
                if left < 0:
                    raise UpstreamError(f"The upstream's answer is over {limit} bytes.")
                translation.receive(piece)
                progress.check(reading.heard)
        return translation.complete(b"")

    async def _open(self) -> Answer:
        """One attempt: its answer; raises UpstreamError for a refusal."""
        attempt = self._attempt
        self._note(attempt)
        answer = await self._turns.upstreams.open(
            self._route.upstream,
            "chat/completions",
            body=attempt.body,
            authorization=self._authorization,
            accept="text/event-stream" if self.streams else "application/json",
            record=self._record,
        )
        if not 200 <= answer.status < 300:
            try:
                silent = self._route.dialect.overflows_silently(len(attempt.body))
                raise await answer.error(silent_overflow=silent)
            finally:
                await answer.aclose()
        self._asking.taken()
        return answer

    def _note(self, attempt: Attempt) -> None:
        """What an attempt loses, for the log."""
        if self._record.witness is not None:
            self._record.witness.lost(attempt.notices)
            self._record.witness.written(attempt.translation)
        self._record.attempts += 1
        self._record.notices = attempt.notices
        self._record.notes = in_short(attempt.notices)
        for notice in attempt.notices:
            log.debug("%s: %s: %s", self._record.request_id, notice.path, notice.message)

    def _broke(self, error: TranslatorError) -> None:
        """An attempt has failed; an error inside its answer is part of what came."""
        if self._record.witness is not None and error is not self.translation.error:
            self._record.witness.broke(error)

    def _told(self, events: list[Event]) -> list[Event]:
        """Events on their way to the client."""
        translation, record = self.translation, self._record
        if record.first_token_s is None and translation.produced:
            record.first_token_s = self._clock() - record.began
        if translation.finished:
            record.outcome = translation.response.status
            record.usage = translation.response.usage
            record.failure = translation.error
            if translation.error is not None:
                record.outcome += f" {translation.error.code}"
        if self._seen is not None:
            self._seen(events)
        return events


class Progress:
    """Whether an answer grows.

    Signs of life alone are a stall: the clock of `Reading` starts anew with each comment, this one
    does not.
    """

    def __init__(self, translation: translator.Translation, limit_s: float, began: float) -> None:
        self._translation = translation
        self._limit_s = limit_s
        self._pieces = translation.progress
        self._since = began

    def check(self, now: float) -> None:
        """To be called after each piece, with the time in seconds; raises UpstreamTimeout."""
        if self._translation.progress != self._pieces:
            self._pieces = self._translation.progress
            self._since = now
        elif now - self._since > self._limit_s:
            raise stalled()


def stalled() -> UpstreamTimeout:
    """The error of an answer that does not grow."""
    return UpstreamTimeout("The upstream sent signs of life, but its answer did not go on.")


P = TypeVar("P")


class Outlet(NamedTuple, Generic[P]):
    """The short way to the client, and how events are written there."""

    direct: Direct[P]
    encode: Callable[[Sequence[Event]], P]


class _Flow:
    """An answer that goes on: its pieces become events, and are sent, where they arrive."""

    def __init__(
        self,
        translation: translator.Translation,
        progress: Progress,
        reading: Reading,
        outlet: Outlet[Any],
        seen: Callable[[Sequence[Event]], None] | None,
    ) -> None:
        self._translation = translation
        self._progress = progress
        self._reading = reading
        self._now = asyncio.get_running_loop().time
        self._encode = outlet.encode
        self._write = outlet.direct.write
        self._seen = seen
        self.ready = outlet.direct.ready
        self.sent = reading.heard
        """When events were sent last, by the loop's clock."""

        self.left: list[Event] = []
        """What has not been sent: the end."""

    def take(self, piece: bytes) -> bool:
        translation = self._translation
        events = translation.receive(piece)
        now = self._reading.heard = self._now()
        if not events:
            self._progress.check(now)
            return True
        if translation.finished:
            self.left = events
            return False
        if self._seen is not None:
            self._seen(events)
        self._write(self._encode(events))
        self.sent = now
        return True


def in_short(notices: Sequence[translator.Notice]) -> str:
    """How many notices there are, and their codes; empty when there are none."""
    if not notices:
        return ""
    codes = list(dict.fromkeys(notice.code for notice in notices))
    shown = codes[:MAX_NOTICE_CODES] + (["..."] if len(codes) > MAX_NOTICE_CODES else [])
    return f"{len(notices)}; {','.join(shown)}"


def _repeat_beginning(translation: translator.Translation, beats: int) -> None:
    """Bring another attempt to where the client is: all attempts begin with the same events."""
    translation.start()
    for _ in range(beats):
        translation.heartbeat()


def _raise_if_nothing_came(translation: translator.Translation) -> None:
    """An error in place of an answer is a refusal, though the status line was a 200."""
    if translation.error is not None and not translation.produced:
        raise translation.error


def _head_of(body: bytes) -> _Head:
    """What is to be known of a request first; raises InvalidRequest for what is none."""
    try:
        return _read_head(body)
    except NOT_JSON:
        read_request(body)  # raises, and says what is wrong
        return _Head()
