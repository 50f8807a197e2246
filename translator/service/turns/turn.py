"""A turn: one request of a client, sent upstream until it is accepted, and its answer.

events()      the events of a stream, a list for each write     (`state` decides)
response()    the whole response
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import translator
from translator.common.pauses import Pause, no_pause
from translator.service.access.client import WHOLE, Round
from translator.service.access.cost import Answered
from translator.service.base.errors import InternalError, OutOfDescriptors, Stopping
from translator.service.models.table import Route
from translator.service.observe.context import RequestContext, stated_usage
from translator.service.observe.observer import (
    AttemptFailed,
    AttemptWritten,
    EventsSent,
    FallbackChosen,
    ResponseSent,
)
from translator.service.upstreams.client import Answer
from translator.service.upstreams.streams import UpstreamStream
from translator.wire.errors import (
    AnswerTooLarge,
    TranslatorError,
    UpstreamError,
    UpstreamTimeout,
)
from translator.wire.events import Event
from translator.wire.responses import Response

from .adaptive import AdaptiveRequest, Described
from .bounds import TurnBounds
from .fallbacks import Choices
from .held import HeldAnswer
from .progress import ProgressTimeout
from .session_header import session_header
from .sink import EventWriter, TranslatingSink
from .slices import LARGE_BYTES, prepare_meanwhile
from .state import TurnState

if TYPE_CHECKING:
    from .hosting import Hosting, ToolRunner
    from .keeping import Keeping
    from .tool_round import ToolRound

T = TypeVar("T")

log = logging.getLogger(__name__)


class Turn:
    """One request, answered once: by `events()` or by `response()`.

    It is answered within its own context, at whose end a store knows that it is over.
    """

    __slots__ = (
        *("_authorization", "_bounds", "_context", "_deadline", "_held", "_hosting", "_kept"),
        *("_observe", "_request", "_runner", "_written_before", "keeping"),
    )

    def __init__(
        self,
        context: RequestContext,
        request: AdaptiveRequest,
        bounds: TurnBounds,
        held: HeldAnswer,
        *,
        authorization: str | None,
        keeping: Keeping | None = None,
        hosting: Hosting | None = None,
    ) -> None:
        self.keeping = keeping
        """The store's part in it, where it has one."""
        self._kept = False  # whether the store has had the response
        self._hosting = hosting
        self._runner: ToolRunner | None = None
        self._context = context
        self._request = request
        self._bounds = bounds
        self._held = held
        self._deadline = bounds.deadline()
        self._authorization = authorization
        observer = context.observer
        self._observe = observer.on if EventsSent in observer.wants else None
        self._written_before = 0  # bytes of attempts that failed
        context.lost = lambda: self.translation.answer_notices
        if context.charge is not None:
            context.answered = context.progress = self._answered

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *error: object) -> None:
        if self.keeping is None or self._kept:
            return
        try:
            await self.keeping.leave(self.translation)
        except Exception:
            log.exception("internal error")

    @property
    def context(self) -> RequestContext:
        """The context of its request."""
        return self._context

    @property
    def translation(self) -> translator.Translation:
        """The translation of the latest attempt."""
        return self._request.attempt.translation

    @property
    def streams(self) -> bool:
        """Whether the client asks for events."""
        return bool(self.translation.request.stream)

    @property
    def runs_in_background(self) -> bool:
        """Whether it goes on when its client has gone."""
        return self.keeping is not None and self.keeping.context.runs_in_background

    @property
    def route(self) -> Route:
        """The route of its model."""
        return self._request.route

    @property
    def chat_body(self) -> bytes:
        """The chat request of the latest attempt."""
        return self._request.attempt.body

    @property
    def notices(self) -> tuple[translator.Notice, ...]:
        """What the latest attempt loses of the request, and the response of its answer, so far."""
        return (*self._request.attempt.notices, *self.translation.answer_notices)

    async def events(self, writer: EventWriter[Any] | None = None) -> AsyncGenerator[list[Event]]:
        """All events, a list for each write; the last list ends in the terminal event.

        Where there is a `writer`, most events of an answer that has begun go there instead. Raises
        TranslatorError, and only before the first list, and where no tool has run.
        """
        if not self.translation.wants_answer:
            yield self._sent(await self._stored(self.translation.skip()))
            return
        now = asyncio.get_running_loop().time
        started = self.runs_in_background  # its first events have been stored
        state = TurnState(self._request, self._bounds.server, now(), started=started)
        while True:
            try:
                with self._held:
                    async with self._stream() as stream:
                        prepare_meanwhile(self.translation)
                        sink: TranslatingSink | None = None
                        while not state.turn_over:
                            chunk = await stream.next(state.due, sink)
                            if chunk is not None:
                                events = state.feed(chunk, stream.last_activity)
                                if state.translation.produced:
                                    stream.begin_by = math.inf
                            elif sink is not None:
                                events = state.resume(sink.unsent, sink.sent_at, now())
                            else:
                                events = state.tick(now())
                            chunk = None  # so that it is not held while nothing comes
                            if self.keeping is not None and self.translation.finished:
                                events = await self._stored(events)
                            if events:
                                yield self._sent(events)
                                events = []
                            if sink is None and writer is not None and state.wants_sink:
                                sink = TranslatingSink(
                                    state.translation, state.progress, stream, writer, self._observe
                                )
                        if state.translation.error is None:
                            await stream.discard_rest()
                    if state.over:
                        return
                    async with aclosing(self._run_tools(state)) as batches:
                        async for events in batches:
                            yield self._sent(events)
                            events = []
                if self.translation.finished:
                    return
                await self._write_round()
                state.begin_attempt(now())
                if await self._charge_for_round():
                    state.begin_attempt(now())
                events = list[Event]()
            except Described:
                await self._request.rewrite(self._bounds.slices)
                state.begin_attempt(now())
                events = list[Event]()
            except (TranslatorError, Stopping, OutOfDescriptors) as error:
                self._attempt_failed(error)
                failed = self.translation
                events = await self._in_slices(partial(state.fail, error, now()))
                self._count_retried(failed)
            except Exception:
                log.exception("internal error")
                events = state.fail(InternalError(), now())
            if state.over and events:
                events = await self._stored(events)
            if events:
                yield self._sent(events)
            if state.over:
                return

    async def _run_tools(self, state: TurnState) -> AsyncGenerator[list[Event]]:
        """The events while the calls of a round are run."""
        now = asyncio.get_running_loop().time
        async with self._tool_round() as tools:
            while state.translation.waits:
                ran = await tools.next(state.due)
                events = state.tick(now()) if ran is None else state.ran(ran[0].key, ran[1], now())
                if self.keeping is not None and self.translation.finished:
                    events = await self._stored(events)
                if events:
                    yield events

    def _tool_round(self) -> ToolRound:
        """The calls of the current round, to be run."""
        from .tool_round import ToolRound  # few services run tools

        hosting, translation = self._hosting, self.translation
        rounds = translation.rounds
        assert hosting is not None, "nothing here runs tools"
        assert rounds is not None, "there is nothing to run"
        if self._runner is None:
            self._runner = hosting.runner(
                self._context.client, self._authorization, rounds.tools, lambda: self.chat_body
            )
        tools = ToolRound(
            rounds.todo,
            self._runner,
            hosting,
            self._context,
            self._bounds.drain,
            self._bounds.timer,
            until=self._deadline,
        )
        self._held.stop = tools.stop
        return tools

    async def _write_round(self) -> None:
        """Write the chat request of the next round."""
        self._context.record.rounds += 1
        await self._in_slices(self._request.next_round)

    async def _charge_for_round(self) -> bool:
        """Charge for a round that is written; whether it is written anew, to be less.

        Raises what `Charge.extend` raises.
        """
        limit = self.translation.request.max_output_tokens
        paid = await self._context.charge_for_round(
            Round(body=self.chat_body, max_output_tokens=limit)
        )
        if paid == WHOLE:
            return False
        less = partial(
            self._request.next_round, output_limit=paid.max_output_tokens, is_last=paid.last
        )
        await self._in_slices(less)
        return True

    async def response(self) -> Response:
        """The whole response. Raises TranslatorError where there is none.

        One that fails once tools have run is told as a stream tells it: with its usage and items.
        """
        if not self.translation.wants_answer:
            self._sent(self.translation.skip())
            await self._store_whole()
            return self.translation.response
        while True:
            try:
                response = await self._whole()
                if response is None:
                    await self._write_round()
                    await self._charge_for_round()
                    continue
            except Described:
                await self._request.rewrite(self._bounds.slices)
            except TranslatorError as error:
                failed, final = self.translation, error
                if failed.has_run or isinstance(error, UpstreamError):
                    self._attempt_failed(error)
                if isinstance(error, UpstreamError):
                    adapts = partial(self._request.adapt_to, error)
                    if not failed.waits and await self._in_slices(adapts):
                        self._count_retried(failed)
                        continue
                    final = self._request.final_error(error)
                if not failed.has_run:
                    raise final from None
                failed.close(final)
                return await self._answered_whole()
            except Exception:
                if not self.translation.has_run:
                    raise
                log.exception("internal error")
                self.translation.close(InternalError())
                return await self._answered_whole()
            else:
                self._request.answered()
                return await self._answered_whole()

    async def _answered_whole(self) -> Response:
        """The final response, stored and recorded."""
        await self._store_whole()
        self._record_end()
        response = self.translation.response
        self._context.observer.on(ResponseSent(response))
        return response

    async def _stored(self, events: list[Event]) -> list[Event]:
        """The last events, when the response is stored where it is to be; else a failure's."""
        if self.keeping is None:
            return events
        self._kept = True
        try:
            error = await self.keeping.end(self.translation)
        except Exception:
            log.exception("internal error")
            error = InternalError()
        instead = [] if error is None else self.translation.retract(error)
        return events[:-1] + instead if instead else events

    async def _store_whole(self) -> None:
        """Store a whole response, where it is to be.

        Where that fails, raises TranslatorError, or has the response fail if tools have run.
        """
        if self.keeping is None:
            return
        self._kept = True
        error = await self.keeping.end(self.translation)
        if error is not None and self.translation.error is None:
            if not self.translation.has_run:
                raise error
            self.translation.retract(error)

    async def _in_slices(self, work: Callable[[Pause], T]) -> T:
        """The result of work on the request, which takes a while where that is large."""
        if len(self.chat_body) < LARGE_BYTES:
            return work(no_pause)
        return await self._bounds.slices.run(work)

    async def _whole(self) -> Response | None:
        """The whole response; None where another round is to follow."""
        translation = self.translation
        server = self._bounds.server
        now = asyncio.get_running_loop().time
        progress = ProgressTimeout(translation, server.progress_timeout_s, now())
        left = limit = server.max_answer_bytes  # of what brings nothing
        with self._held:
            async with self._stream() as stream:
                prepare_meanwhile(translation)
                while not translation.round_over and (chunk := await stream.next()):
                    before = translation.progress
                    translation.receive(chunk)
                    progress.check(stream.last_activity, len(chunk))
                    if translation.progress != before:
                        stream.begin_by = math.inf
                    else:
                        left -= len(chunk)
                        if left < 0:
                            raise AnswerTooLarge.than(limit)
            response = translation.complete(b"")
            if (rounds := translation.rounds) is not None and rounds.todo:
                async with self._tool_round() as tools:
                    while rounds.todo:
                        if ran := await tools.next():
                            translation.ran(ran[0].key, ran[1])
                response = translation.response
        return response if translation.finished else None

    def _stream(self) -> UpstreamStream:
        """The answer to the latest attempt; to be opened while its part of what is held counts."""
        choices = self._request.choices
        if self._request.undescribed:
            stream = self._bounds.stream(self._request.describe(), self._deadline)
        elif choices is None:
            stream = self._bounds.stream(self._open(self._authorization), self._deadline)
        else:
            first_s = choices.asked.after_s if choices.has_next else None
            opening = self._open_choice(choices, first_s)
            stream = self._bounds.stream(opening, self._deadline, first_s)
        self._held.stop = stream.stop
        self._held.owner = self
        return stream

    async def _open_choice(self, choices: Choices, first_s: float | None) -> Answer:
        """The same for one of several routes; `first_s` is how long it may take."""
        own = choices.route.upstream.shares_keys_with(choices.asked.upstream)
        # A key is for whom the client has asked, and for nobody else.
        authorization = self._authorization if own else None
        left = max(0, self._bounds.server.retries - self._context.record.retries)
        try:
            async with asyncio.timeout(first_s):
                return await self._open(authorization, retries=left)
        except TimeoutError:
            raise UpstreamTimeout(f"The upstream has not answered for {first_s:g} s.") from None

    async def _open(self, authorization: str | None, retries: int | None = None) -> Answer:
        """Send the latest attempt; raises UpstreamError unless the status is 2xx."""
        attempt, route = self._request.attempt, self._request.route
        self._attempt_written()
        answer = await self._bounds.upstreams.open(
            route.upstream,
            "chat/completions",
            body=attempt.body,
            authorization=authorization,
            accept="text/event-stream" if self.streams else "application/json",
            more=session_header(route.dialect, self.translation.request.prompt_cache_key),
            context=self._context,
            redaction=self._request.redaction(),
            retries=retries,
        )
        if not 200 <= answer.status < 300:
            try:
                silent = route.dialect.overflows_silently(len(attempt.body))
                raise await answer.error(silent_overflow=silent)
            finally:
                await answer.aclose()
        self._request.accepted()
        return answer

    def _attempt_written(self) -> None:
        attempt = self._request.attempt
        if (choices := self._request.choices) is not None:
            self._chosen(choices)
        self._context.observer.on(AttemptWritten(attempt.translation, attempt.notices))
        self._context.record.attempts += 1
        self._context.note(attempt.notices)

    def _chosen(self, choices: Choices) -> None:
        """Record which of several routes the attempt takes, and why."""
        record, route, why = self._context.record, choices.route, choices.why
        record.dialect = route.dialect.name
        served_by = "" if route.model == record.model else route.model  # that of `compact_with`
        if why and route.model == choices.asked.model:
            served_by = f"{route.model}@{route.upstream.name}"
        if (served_by, why) != (record.served_by, record.why):
            record.served_by, record.why = served_by, why
            self._context.observer.on(FallbackChosen(route, why))

    def _attempt_failed(self, error: TranslatorError) -> None:
        if error is not self.translation.error:  # such an error is in the body that was observed
            self._context.observer.on(AttemptFailed(error))

    def _count_retried(self, failed: translator.Translation) -> None:
        """Count what had come, where another attempt takes the place of a failed one."""
        if self.translation is not failed and not failed.continues:
            self._written_before += failed.written

    def _answered(self) -> Answered:
        """What has come of the answer, over all attempts."""
        usage = self._context.record.usage
        if (rounds := self.translation.rounds) is not None:
            usage = rounds.usage  # that of all rounds, whatever the client is told
        return Answered(
            self._written_before + self.translation.written,
            usage=None if usage is None else stated_usage(usage),
            response_id=self._request.response_id,
        )

    def _sent(self, events: list[Event]) -> list[Event]:
        """Events on their way to the client, recorded."""
        translation, record = self.translation, self._context.record
        if record.first_token_s is None and translation.produced:
            record.first_token_s = self._bounds.timer() - record.started_at
            self._request.answered()
        if translation.finished:
            self._record_end()
        if self._observe is not None:
            self._observe(EventsSent(events))
        return events

    def _record_end(self) -> None:
        """Record how the response has ended."""
        translation, record = self.translation, self._context.record
        response = translation.response
        record.outcome = response.status
        record.usage = response.usage
        record.failure = translation.error
        if translation.error is not None:
            record.outcome += f" {translation.error.code}"
