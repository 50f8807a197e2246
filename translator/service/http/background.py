"""Responses in the background over HTTP: produced in tasks of their own, and followed by clients.

    POST, background: true                   200 `queued`, and the work goes on
    POST, background: true, stream: true     its events, as they are stored

A run is a turn like any other, without a client that waits for it: it has its slot, its line in the
log and its charge, all of them until its own end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

from msgspec.structs import replace

import translator
from translator import TranslatorError, UpstreamError
from translator.service.base.errors import InternalError, NotStored, Restarting
from translator.service.observe.observer import AttemptFailed, EventsSent
from translator.service.store.background import EndResult, Run
from translator.service.store.event_log import EventLog
from translator.service.store.follow import followed
from translator.service.store.meter import StoreResult
from translator.service.store.part import Part, WaitTime
from translator.service.store.quota import too_large, too_large_to_store
from translator.service.store.responses import StoredResponses
from translator.service.store.runs import CANCELLED, Events
from translator.service.turns.dispatcher import Dispatcher
from translator.service.turns.turn import Turn
from translator.wire.events import Created, Error, ErrorBody, Event, Failed
from translator.wire.items import OutputItem
from translator.wire.responses import Response, ResponseError
from translator.writer.at_end import error_body
from translator.writer.sse import encode_all

from .exchange import JSON, Exchange
from .responders import EVENT_STREAM, notices_header

log = logging.getLogger(__name__)


class Admitted:
    """A response that is queued, and whose rows are on the disk."""

    __slots__ = ("run", "turn")

    def __init__(self, turn: Turn, run: Run) -> None:
        self.turn = turn
        self.run = run


class Background:
    """Produces responses in the background."""

    def __init__(self, store: StoredResponses, dispatcher: Dispatcher) -> None:
        self._store = store
        self._runs = store.runs
        self._dispatcher = dispatcher

    async def admit(self, turn: Turn) -> Admitted:
        """Queue a response; raises LimitReached and StoreUnavailable."""
        part = turn.keeping
        assert isinstance(part, Part)
        first = turn.translation.start()
        created = first[0]
        assert isinstance(created, Created)
        events = None
        if part.logs:
            events = Events(0, len(first) - 1, encode_all(first))
        draft = await part.draft(created.response)
        try:
            with WaitTime(turn.context.record):
                run = await self._runs.begin(
                    draft, part.place, events, temporary=not part.context.keeps
                )
        except BaseException:
            await part.leave(None)
            raise
        return Admitted(turn, run)

    async def respond(self, exchange: Exchange, admitted: Admitted) -> None:
        """Begin the work, and respond with the queued response, or with the events.

        To be called where the slot of the request has just been left: the work takes it.
        """
        turn, run = admitted.turn, admitted.run
        headers = notices_header(turn.notices)
        queued = run.draft.response
        self._start(turn, run)
        if run.log is None:
            await exchange.whole(200, translator.encode_json(queued), JSON | headers)
            return
        await exchange.start(200, EVENT_STREAM | headers)
        await exchange.while_connected(send_followed(exchange, self._store, run.n, after=-1))

    def _start(self, turn: Turn, run: Run) -> None:
        slot = ExitStack()
        try:
            slot.enter_context(self._dispatcher.slot(turn.context.client))
        except BaseException:
            self._finished(turn, run, "failed")
            raise
        turn.context.goes_on = True
        self._dispatcher.bounds.drain.in_background += 1
        run.task = asyncio.create_task(self._produce(turn, run, slot))

    async def _produce(self, turn: Turn, run: Run, slot: ExitStack) -> None:
        bounds = self._dispatcher.bounds
        try:
            with slot:
                await self._answer(turn, run)
        except Exception:
            log.exception("internal error")
        finally:
            self._finished(turn, run, "failed")
            bounds.drain.in_background -= 1
            turn.context.end(bounds.timer())

    async def _answer(self, turn: Turn, run: Run) -> None:
        """Produce the response, and store how it ends."""
        failure: TranslatorError | None = None
        try:
            if run.stopped is None:
                self._runs.started(run)
                await self._stream(turn, run)
        except asyncio.CancelledError:
            if run.stopped is None:
                raise
        except TranslatorError as error:
            failure = error
        except Exception:
            log.exception("internal error")
            failure = InternalError()
        if run.ending:
            return
        await self._runs.settle(run)
        if failure is not None:
            await self._fail(turn, run, failure)
        elif run.stopped == "cancelled":
            turn.context.record.outcome = "client left: it cancelled the response"
            await self._cut(turn, run, "cancelled", CANCELLED)
        elif run.stopped == "restart":
            await self._fail(turn, run, Restarting())
        elif run.stopped == "not_stored":
            await self._fail(turn, run, NotStored())
        else:
            _lost(turn)

    async def _stream(self, turn: Turn, run: Run) -> None:
        batches = turn.events()
        try:
            async for events in batches:
                if turn.translation.finished:
                    await self._end(turn, run, events)
                elif run.log is not None:
                    await self._log(run.log, events)
                del events  # so that they are not held while nothing comes
        finally:
            await batches.aclose()

    async def _log(self, log_: EventLog, events: Sequence[Event]) -> None:
        if not log_.add(encode_all(events), len(events)):
            limit = self._store.limits.max_events_bytes
            raise UpstreamError(f"The events of the response are over {limit} bytes.")
        await log_.room()

    # --- ends -------------------------------------------------------------------------------------

    async def _end(self, turn: Turn, run: Run, events: list[Event]) -> None:
        """Store the end that the turn has come to; where that fails, that it has failed."""
        await self._runs.settle(run)
        translation = turn.translation
        result: EndResult = "failed"
        broken = run.log is not None and run.log.broken
        kept = translation.kept_output
        items = () if run.temporary else kept
        why = too_large(self._store.limits, translation.held, 0, items)
        if not broken and why is None:
            result = await self._store_end(turn, run, translation.response, kept, events)
        if result == "failed":
            error = NotStored() if why is None else too_large_to_store(why, in_background=True)
            await self._fail(turn, run, error, keeps_output=False)

    async def _fail(
        self, turn: Turn, run: Run, error: TranslatorError, *, keeps_output: bool = True
    ) -> None:
        """Store that the response failed with an error, which no event has said."""
        record = turn.context.record
        body = _body_of(error)
        record.failure = error
        record.outcome = f"failed {body.code}"
        turn.context.observer.on(AttemptFailed(error))
        await self._cut(turn, run, "failed", body, keeps_output=keeps_output)

    async def _cut(
        self,
        turn: Turn,
        run: Run,
        status: Literal["failed", "cancelled"],
        body: ErrorBody,
        *,
        keeps_output: bool = True,
    ) -> None:
        """Store an end that the turn has not come to: with its whole items, or with none."""
        translation = turn.translation
        sealed = translation.seal_results() if keeps_output else []
        response, kept = translation.response, list(translation.kept_output)
        error = None
        if status == "failed":
            error = ResponseError(body.code or body.type, body.message)
        if not keeps_output:
            response, kept = replace(response, output=[]), []
        response = replace(
            response, status=status, error=error, completed_at=None, incomplete_details=None
        )
        events = list[Event]()
        if run.log is not None:
            n = run.log.next
            events += (replace(event, sequence_number=n + k) for k, event in enumerate(sealed))
            n += len(sealed)
            events.append(Error(n, body.code, body.message, body.param, body))
            events.append(Failed(n + 1, response))
            if EventsSent in turn.context.observer.wants:
                turn.context.observer.on(EventsSent(events))
        await self._store_end(turn, run, response, kept, events)

    async def _store_end(
        self,
        turn: Turn,
        run: Run,
        response: Response,
        kept: Sequence[OutputItem],
        events: Sequence[Event],
    ) -> EndResult:
        if run.log is None:
            events = ()
        result = await self._runs.end(
            run,
            response,
            () if run.temporary else kept,
            encode_all(events),
            len(events),
            size=turn.translation.held,
        )
        if result == "lost":
            _lost(turn)
        if result != "failed":
            self._finished(turn, run, "stored" if result == "stored" else "failed")
        return result

    def _finished(self, turn: Turn, run: Run, result: StoreResult) -> None:
        """Nothing of a run is written any more."""
        if not run.ended.is_set():
            self._runs.finished(run)
            part = turn.keeping
            assert isinstance(part, Part)
            part.ended_in_background(result)


def _lost(turn: Turn) -> None:
    turn.context.record.outcome = "failed: another process has ended it"


def _body_of(error: TranslatorError) -> ErrorBody:
    """An error as the last events tell it."""
    if not isinstance(error, UpstreamError):
        error = UpstreamError(error.message, code=error.code, type=error.type)
    return error_body(error)


async def send_followed(exchange: Exchange, store: StoredResponses, n: int, *, after: int) -> None:
    """Send the events of a response after one of them, as they are stored, and the end."""
    frames = followed(store, n, after=after, keep_alive_s=exchange.heartbeat_s)
    try:
        async for some in frames:
            await exchange.write(some)
    finally:
        await frames.aclose()
    await exchange.end(translator.DONE)
