"""Facade: one Responses request and its answer, over Chat Completions.

request ──► chat_body ──► upstream
events  ◄── start, receive, close ◄── upstream's bytes      streaming
Response ◄── complete ◄── upstream's whole body              at once, through the same machine
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from .common.hosted import Hosted, Outcome
from .common.invalid import nested_too_deeply
from .common.pauses import Pause, no_pause
from .dialects import DIALECTS, Dialect
from .options import Options
from .prepared import Unprepared, remembered
from .reader import sse
from .reader.body_sniffer import BodySniffer
from .reader.error_bodies import plain_message
from .reader.from_chat import ChatReader
from .request.compaction import SummaryReader
from .request.parse import ParsedRequest, parsed_request
from .request.to_chat import Target, write_chat_request
from .text_run import UNFRAMED, Framing, TextRun
from .wire import responses
from .wire.deltas import Delta, Failure, Finish, ServiceTier, Usage, Verdict
from .wire.errors import (
    AnswerTooLarge,
    InvalidRequest,
    TranslatorError,
    UpstreamError,
    as_upstream_error,
)
from .wire.events import Event
from .wire.items import OutputItem
from .wire.notices import Notice
from .writer.phase import Phase
from .writer.segments import Writing, writing_of
from .writer.stream import ResponseStream

if TYPE_CHECKING:
    from .request.store_context import StoreContext
    from .rounds import Rounds

_KEEP_ALIVES = frozenset({Usage, ServiceTier})
"""Deltas without content; some upstreams send them all the time."""

_ACCOUNTED_BYTES = 64 * 1024
"""How much of a body is received from one account of what is held of it to the next."""

_BYTES_FOR_A_CALL = 512
"""Where there are many calls, so much for each: an account looks at all of them."""

_DEFAULT_TARGET = Target()
_DEFAULT_OPTIONS = Options()


class Translation:
    """One request and its response.

    `chat_body` goes upstream; `notices` tell what was dropped or weakened, `undescribed` which
    images the target's `descriptions` lack. The answer comes back through `receive(data)` with the
    upstream's body, cut anywhere, then `close()`; or at once through `complete(body)`.

    `progress` counts the deltas of the answer that had content. It does not grow while the upstream
    sends only keep-alives: comments, blank lines, chunks without text and calls. `written` is the
    size of that content.

    With `hosted` tools, a response may take several upstream turns, each with a translation of its
    own (`rounds`). Then `round_over` is set when the answer has ended, and `finished` with the last
    of them.
    """

    __slots__ = (
        *("_account", "_account_at", "_decoder", "_is_last", "_judge", "_max_bytes", "_max_items"),
        *("_progress", "_reader", "_received", "_run", "_sniffer", "_stream", "_summary", "_tools"),
        *("_unprepared", "chat_body", "dialect", "error", "finished", "notices", "request"),
        *("round_over", "rounds", "target", "undescribed"),
    )

    def __init__(
        self,
        request: bytes | dict[str, Any] | ParsedRequest,
        *,
        dialect: str | Dialect = "base",
        response_id: str,
        created_at: int,
        new_id: Callable[[str], str],
        now: Callable[[], int] | None = None,
        target: Target = _DEFAULT_TARGET,
        options: Options = _DEFAULT_OPTIONS,
        earlier: Sequence[Raw] | None = None,
        store: StoreContext | None = None,
        judge: Callable[[UpstreamError], UpstreamError] = lambda error: error,
        account: Callable[[int], None] = lambda size: None,
        pause: Pause = no_pause,
        hosted: Hosted | None = None,
        rounds: Rounds | None = None,
    ) -> None:
        """Translate a request: a body, its decoded JSON, or what `parse_request` made of it.

        `new_id(prefix)` returns an unguessable id that begins with the prefix; `created_at` and
        `now()` are seconds since 1970. `earlier` are the items of the previous response, input and
        output, or of the conversation that it names: without them it is refused. `store` is what a
        store knows of the request, and whether it keeps the response. `judge` maps an error in the
        upstream's body to the client's. `account(size)` is called each time that some 64 KiB of
        the answer have come, with the bytes that are held of it; an UpstreamError that it raises
        ends the answer. `pause()` is called between steps of the translation (`common.pauses`).
        `hosted` are the hosted tools that the program runs; `rounds` are those of the response that
        this one goes on with.
        Raises InvalidRequest (with the field's path) for a request that the API does not allow or
        that Chat Completions cannot do, and KeyError for a dialect of an unknown name.
        """
        self.dialect = DIALECTS[dialect] if isinstance(dialect, str) else dialect
        parsed = parsed_request(request, pause)
        if rounds is not None:
            parsed = rounds.continued(parsed)
        self.request = parsed.request
        self.target = target
        try:
            chat_request = write_chat_request(
                parsed.request,
                parsed.unknown,
                dialect=self.dialect,
                target=target,
                forward=options.forward,
                reject_hosted_tools=options.hosted_tools == "reject",
                hosted=hosted,
                history=() if rounds is None else rounds.history,
                earlier=earlier,
                store=store,
                pause=pause,
            )
        except RecursionError:
            raise nested_too_deeply() from None
        pause()
        self.chat_body: bytes = chat_request.body
        self.notices: tuple[Notice, ...]
        self.notices = chat_request.notices if rounds is None else rounds.notices
        self.undescribed = chat_request.undescribed
        if options.strict and self.notices and rounds is None:
            first = self.notices[0]
            raise InvalidRequest(first.refusal, param=first.path, code=first.error_code)
        self._tools = chat_request.tools
        self._stream: ResponseStream
        self._reader: ChatReader
        self._is_last = rounds is not None and rounds.is_last
        self.rounds = rounds
        """The loop of hosted tools, where the request declares any."""
        if hosted and (chat_request.compacts or not chat_request.tools.uses_hosted):
            hosted = None
        of_response = (options, response_id, created_at, new_id, now, store, hosted, rounds)
        self._unprepared: Unprepared | None = Unprepared(chat_request, target, *of_response)
        if pause is not no_pause:
            self.prepare(pause)
        self._summary = SummaryReader() if chat_request.compacts else None
        limit = options.max_answer_bytes
        self._decoder = sse.Decoder(min(sse.MAX_EVENT_BYTES, limit))
        self._sniffer: BodySniffer | None = BodySniffer(limit)  # None: the body is a stream
        self._judge = judge
        self._max_bytes, self._max_items = limit, options.max_output_items
        self._account = account
        self._account_at = min(_ACCOUNTED_BYTES, limit)
        self._received = 0
        self.error: UpstreamError | None = None
        self._progress = 0
        self._run: TextRun | None = None
        self.round_over = False
        """Whether nothing that follows in the upstream's body counts."""
        self.finished = False
        """Whether the terminal event has been produced."""

    @property
    def wants_answer(self) -> bool:
        """False for a request that only prepares the next one: nothing of it goes upstream."""
        return self.request.generate is not False

    @property
    def response(self) -> responses.Response:
        """The response so far; final after `close()` or `complete()`."""
        self.prepare()
        return self._stream.response

    @property
    def kept_output(self) -> list[OutputItem]:
        """The output for a store, when the response is final: all of its reasoning is sealed."""
        return self._stream.output.kept or []

    @property
    def answer_notices(self) -> tuple[Notice, ...]:
        """What of the answer the response does not have, so far; `notices` are the request's."""
        return () if self._unprepared is not None else self._stream.notices

    def seal_results(self) -> list[Event]:
        """The events of an item with what hosted tools found last, before a response is left."""
        return [] if self.finished or self.rounds is None else self.rounds.stream.seal_results()

    def retract(self, error: TranslatorError | str) -> list[Event]:
        """The last events in place of a terminal event that was not sent; empty after a failure."""
        assert self.finished, "there is nothing to retract before the terminal event"
        failure = as_upstream_error(error)
        events = self._stream.retract(Failure(failure))
        self.error = failure if events else self.error
        return events

    @property
    def produced(self) -> bool:
        """Whether an output item has been announced: something that a client could keep."""
        return self._unprepared is None and self._stream.produced

    @property
    def announced(self) -> bool:
        """The same of any round of the response."""
        return self.produced or self.continues

    @property
    def continues(self) -> bool:
        """Whether it goes on with a response, after its first round."""
        return self.rounds is not None and self.rounds.number > 1

    @property
    def waits(self) -> bool:
        """Whether its turn is over, and calls of hosted tools have no outcome yet."""
        return self.rounds is not None and self.rounds.waits

    @property
    def has_run(self) -> bool:
        """Whether hosted tools have run for it, or run now: asking again would run them again."""
        ran_before = any(one.item_id for one in self._tools.approved)
        return self.waits or self.continues or ran_before

    @property
    def may_go_on(self) -> bool:
        """Whether another round may follow."""
        return self.rounds is not None and not self._is_last and not self.finished

    @property
    def progress(self) -> int:
        """How many deltas of the answer have had content."""
        return self._progress + (0 if self._run is None else self._run.chunks)

    @property
    def written(self) -> int:
        """Bytes of text, reasoning and arguments that have come, in UTF-8, shown or not.

        Of a body that is not a stream, and still comes, all bytes. It is added up when it is asked
        for, which takes about a millisecond per megabyte.
        """
        if self._unprepared is not None:
            return 0
        size = self._stream.written + self._reader.withheld
        if self._summary is not None:
            size += self._summary.written
        if self._sniffer is not None and not self.finished:
            size += self._sniffer.size
        return size

    @property
    def writing(self) -> tuple[Writing, str]:
        """The kind of item that the answer is at, empty before the first; and a call's own name."""
        return writing_of(None if self._unprepared is not None else self._stream.open_segment)

    def forget_request(self) -> None:
        """Drop what only another attempt would need: the chat body, and most of `request`."""
        self.prepare()
        self.chat_body, self.undescribed = b"", ()
        self.request = remembered(self.request)
        self._tools.forget_declarations()

    def prepare(self, pause: Pause = no_pause) -> None:
        """Prepare for the answer; `start` does it when this was not called.

        Whoever calls it while the upstream works need not do it when the first byte has come.
        """
        unprepared, self._unprepared = self._unprepared, None
        if unprepared is None:
            return
        self._reader = unprepared.reader(self.request, self.dialect)
        self._stream, self.rounds = unprepared.writer(self.request, self.notices, pause)

    def start(self) -> list[Event]:
        """The first events. `receive` and `close` begin with them when this was not called."""
        self.prepare()
        return self._stream.start()

    def heartbeat(self) -> list[Event]:
        """A keep-alive event; none before the start and after the end."""
        return [] if self._unprepared is not None else self._stream.heartbeat()

    def skip(self) -> list[Event]:
        """All events of a request that wants no answer."""
        return self.start() + self._finish(Finish("stop"))

    def text_run(
        self, encode: Callable[[Event], bytes], framing: Framing = UNFRAMED, end: bytes = b""
    ) -> TextRun | None:
        """The run that the next bytes may belong to, its events encoded by `encode`, and framed.

        None while they may be anything. What the run does not take goes to `receive`, after which
        the run has to be asked for again. `end` is what stands behind frames that come framed.
        """
        fast = self._reader.fast
        if fast is None or self._decoder.held or self._summary is not None:
            return None
        growing = self._stream.growing
        if growing is None or fast.kind is not growing.kind or fast.source != growing.source:
            return None
        run = self._run
        if run is None or run.fast is not fast or not run.growing.grows_like(growing):
            run = self._run = TextRun(fast, growing, encode, framing, end)
        run.left = self._account_at - self._received
        return run

    def _settle(self, run: TextRun) -> None:
        """Account for what a run has taken; it takes no more until it is asked for again."""
        if run.chunks:
            self._progress += run.chunks
            self._received = self._account_at - run.left
        run.settle()

    def receive(self, data: bytes) -> list[Event]:
        """The events of the next bytes of the upstream's body, which may be cut anywhere."""
        if self._run is not None:
            self._settle(self._run)
        received = self._received + len(data)
        if received > self._account_at or self._sniffer is not None:
            return self._receive_bounded(data)
        self._received = received
        try:
            payloads = self._decoder.feed(data)
        except UpstreamError as error:
            return self._end(Failure(error))
        return self._read(payloads)

    def close(self, error: TranslatorError | str | None = None) -> list[Event]:
        """The last events, when the upstream's body has ended.

        `error` is the reason, when it broke. Ends in one terminal event; empty when that was sent.
        """
        if self.finished or (self.round_over and error is None):
            return []
        if self._run is not None:
            self._settle(self._run)
        events = self.start()
        if error is not None:
            return events + self._end(Failure(as_upstream_error(error)))
        body = self._sniffer.value if self._sniffer is not None else None
        if body is not None:
            self._sniffer = None  # which held it
            events += self._read([body])
            stray = plain_message(body)
        else:
            events += self._read(self._decoder.end())
            stray = self._decoder.stray
        return events if self.round_over else events + self._over(stray)

    def ran(self, key: int, outcome: Outcome) -> list[Event]:
        """The events of the outcome of a call in `rounds.todo`; none once it has one."""
        assert self.rounds is not None, "the request has no hosted tools"
        return self._ended(self.rounds.ran(key, outcome))

    def complete(self, body: bytes) -> responses.Response:
        """The response for an upstream's whole body, JSON or a stream.

        Raises UpstreamError when the body holds an error, or nothing that could be an answer, and
        when it stops in the middle of a call without a limit that explains it: such a request can
        be sent again, and half a call is of no use.
        """
        self.receive(body)
        self.close()
        if self.error is not None and (not self.produced or self._reader.fails_in_call):
            raise self.error
        return self.response

    # --- inside -------------------------------------------------------------------------------

    def _receive_bounded(self, data: bytes) -> list[Event]:
        """The same, with an account of what is held after each part of it."""
        events = self.start()
        for start in range(0, len(data), _ACCOUNTED_BYTES):
            if self.round_over:
                break
            part = data[start : start + _ACCOUNTED_BYTES]
            self._received += len(part)
            try:
                payloads = self._decoder.feed(part if self._sniffer is None else self._sniff(part))
            except UpstreamError as error:
                return events + self._end(Failure(error))
            events += self._read(payloads)
            if self._received >= self._account_at:
                events += self._account_for_growth()
        return events

    @property
    def received(self) -> int:
        """The bytes of the upstream's body that have come."""
        run = self._run
        return self._account_at - run.left if run is not None and run.chunks else self._received

    @property
    def held(self) -> int:
        """The bytes that are held of the answer; the sum takes a while for many calls."""
        if self._unprepared is not None:
            return 0
        held = self._decoder.held + self._reader.size + self._stream.size
        held += 0 if self._sniffer is None else self._sniffer.size
        return held + (0 if self._summary is None else self._summary.size)

    def _account_for_growth(self) -> list[Event]:
        """Report what is held; the last events, where that is too much."""
        held = self.held
        try:
            if held > self._max_bytes:
                raise AnswerTooLarge.than(self._max_bytes)
            self._account(held)
        except UpstreamError as error:
            return self._end(Failure(error))
        step = max(_ACCOUNTED_BYTES, _BYTES_FOR_A_CALL * self._reader.call_count)
        self._account_at = self._received + min(step, self._max_bytes - held)
        return []

    def _sniff(self, data: bytes) -> bytes:
        """The data that the decoder gets, of a body that has not shown to be a stream."""
        sniffer = self._sniffer
        assert sniffer is not None
        streamed = sniffer.feed(data)
        if sniffer.streams:
            self._sniffer = None
        elif sniffer.holds_value:
            self._progress += not data.isspace()
        return streamed

    def _read(self, payloads: list[bytes]) -> list[Event]:
        reader = self._reader
        deltas = reader.read(payloads[0]) if len(payloads) == 1 else self._read_all(payloads)
        events = self._write(deltas)
        if payloads and reader.over:
            return events + self._over("")
        return events + self._end(self._too_many_items()) if self._stream.is_full else events

    def _read_all(self, payloads: list[bytes]) -> list[Delta]:
        deltas: list[Delta] = []
        for payload in payloads:
            deltas += self._reader.read(payload)
            if self._reader.over:
                break
        return deltas

    def _over(self, stray: str) -> list[Event]:
        events = self._write(self._reader.end())
        if self._stream.is_full:
            return events + self._end(self._too_many_items())
        verdict = self._reader.verdict(stray)
        if self._reader.fails_in_call and self.rounds is not None and self.rounds.takes_cut_calls:
            verdict = Finish("stop")
        if self._stream.renamed and verdict == Finish("stop"):
            verdict = Failure(UpstreamError("The upstream renamed a call that had begun."))
        return events + self._end(verdict)

    def _too_many_items(self) -> Failure:
        return Failure(AnswerTooLarge.than(self._max_items, "output items"))

    def _write(self, deltas: list[Delta]) -> list[Event]:
        events: list[Event] = []
        if self._summary is not None:
            self._progress += sum(type(delta) not in _KEEP_ALIVES for delta in deltas)
            deltas = self._summary.read(deltas)  # which leaves only keep-alives
        for delta in deltas:
            if type(delta) not in _KEEP_ALIVES:
                self._progress += 1
            events += self._stream.feed(delta)
        return events

    def _end(self, verdict: Verdict) -> list[Event]:
        events: list[Event] = []
        if self._summary is not None:
            made, verdict = self._summary.end(verdict)
            events = [event for delta in made for event in self._stream.feed(delta)]
        if isinstance(verdict, Failure):
            self.error = self._judge(verdict.error)
            verdict = Failure(self.error)
        return events + self._finish(verdict)

    def _finish(self, verdict: Verdict) -> list[Event]:
        events = self._stream.finish(verdict)
        self.round_over = True
        if self.rounds is not None and self.rounds.stream.waiting:
            events += self.rounds.turn_over()
        return self._ended(events)

    def _ended(self, events: list[Event]) -> list[Event]:
        self.finished = self._stream.phase is Phase.OVER
        return events
