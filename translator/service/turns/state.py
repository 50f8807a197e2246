"""The state machine of a streamed turn, without I/O: chunks, time and failures in, events out.

    turn  = { round, calls of hosted tools run }, round, end ;
    round = { attempt, failure that another attempt may mend }, attempt ;

    before the first events   failures are raised, and become HTTP errors, unless a tool has run:
                              clients repeat a request after such an error, and the tool with it
    after them                failures become the last events of the stream

The first events are held back until the answer begins: many upstreams send a 200, then a comment or
a role, and then an error. They are held no longer than `headers_grace_s`, since clients and proxies
give up on a request without a status. From then on, whenever nothing was sent for `heartbeat_s`,
`response.in_progress` is repeated: the idle timeouts of clients count events.

Until an output item of a round has been announced, a failure may be answered with another attempt,
whatever was sent before: every attempt begins with the same events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from translator import Translation
from translator.common.hosted import Outcome
from translator.common.pauses import Pause, no_pause
from translator.service.config.settings import Server
from translator.wire.errors import AnswerTooLarge, TranslatorError, UpstreamError
from translator.wire.events import Event

from .adaptive import AdaptiveRequest
from .progress import ProgressTimeout


class TurnState:
    """One streamed turn.

    `feed(chunk)` takes a chunk of the upstream's body, b"" for its end; `tick()` says that time has
    passed; `resume()` takes over from a sink; `fail(error)` says that the attempt broke. Each
    returns the events to send now, often none. Times are of one clock, in seconds. `due` is when
    `tick` must be called at the latest; `over` is set with the last events.
    """

    __slots__ = (
        *("_heartbeats", "_held", "_request", "_server", "_started", "due", "over"),
        *("progress", "translation"),
    )

    def __init__(
        self, request: AdaptiveRequest, server: Server, now: float, *, started: bool = False
    ) -> None:
        """`started`: the client has the first events, which the translation has produced."""
        self._request = request
        self._server = server
        self._held: list[Event] = []  # known, and not sent yet
        self._started = started
        self._heartbeats = 0
        self.due = now + (server.heartbeat_s if started else server.headers_grace_s)
        self.over = False
        self.translation: Translation
        self.progress: ProgressTimeout
        self.begin_attempt(now)

    def begin_attempt(self, now: float) -> None:
        """Start an attempt where the client is: its first events are those that were sent."""
        self.translation = self._request.attempt.translation
        self.progress = ProgressTimeout(self.translation, self._server.progress_timeout_s, now)
        self._held = []
        if self._started and not self.translation.continues:
            self.translation.start()
            for _ in range(self._heartbeats):
                self.translation.heartbeat()

    def feed(self, chunk: bytes, now: float) -> list[Event]:
        """The events to send after a chunk. Raises UpstreamError where no answer has begun."""
        if chunk:
            self._held += self.translation.receive(chunk)
            self.progress.check(now, len(chunk))
        else:
            self._held += self.translation.close()
        return self._sendable(now)

    @property
    def turn_over(self) -> bool:
        """Whether the upstream's turn is over; the response may have further ones."""
        return self.over or self.translation.round_over

    @property
    def wants_sink(self) -> bool:
        """Whether a sink can take what follows: the turn's answer has begun, and goes on."""
        return self.translation.produced and not self.turn_over

    def ran(self, key: int, outcome: Outcome, now: float) -> list[Event]:
        """The events to send after the outcome of a call."""
        self._held += self.translation.ran(key, outcome)
        return self._sendable(now)

    def tick(self, now: float) -> list[Event]:
        """The events to send because of the time."""
        return self._sendable(now)

    def resume(self, unsent: Sequence[Event], sent_at: float, now: float) -> list[Event]:
        """The events to send after a sink, which left some `unsent` and last wrote at `sent_at`."""
        self._held = list(unsent)
        self.due = sent_at + self._server.heartbeat_s
        return self._sendable(now)

    def fail(self, error: TranslatorError, now: float, pause: Pause = no_pause) -> list[Event]:
        """The events to send after a failure; when it is not `over` then, another attempt begins.

        `pause` is called between steps. Raises the error when nothing has been sent. Empty after
        the last events: what fails then is only the end of the upstream's connection.
        """
        if self.over:
            return []
        unanswered = not (self.translation.produced or self.translation.waits)
        if isinstance(error, UpstreamError) and unanswered and self._request.adapt_to(error, pause):
            self.begin_attempt(now)
            return []
        if isinstance(error, UpstreamError) and unanswered:
            error = self._request.final_error(error)
        if not self._started and not self.translation.has_run and _is_http_error(error):
            raise error
        self.over = True
        return self._held + self.translation.close(error)

    def _sendable(self, now: float) -> list[Event]:
        translation = self.translation
        if translation.finished:
            if not translation.produced and _is_http_error(translation.error):
                raise translation.error  # a failure, though the status was 200
            self.over = True
            return self._take()
        late = now >= self.due
        if late and not self._held:
            self._held = translation.start()
            if not self._held:
                self._held = translation.heartbeat()
                self._heartbeats += 1
        if not self._held or not (self._started or late or translation.announced):
            return []
        self._started = True
        self.due = now + self._server.heartbeat_s
        if translation.produced and not translation.may_go_on:
            self._request.forget()
        return self._take()

    def _take(self) -> list[Event]:
        events, self._held = self._held, []
        return events


def _is_http_error(error: TranslatorError | None) -> TypeGuard[TranslatorError]:
    """Whether an error is told by the status where nothing has been sent.

    Codex asks again after each 5xx, whatever it says, and not after such a code in a stream.
    """
    return error is not None and not isinstance(error, AnswerTooLarge)
