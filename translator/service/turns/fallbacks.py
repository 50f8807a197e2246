"""Fallbacks: the routes of a model that are asked one after the other, until one answers.

    request = choice, attempts, { failure, next choice, attempts }, answer | error

A model of the settings may have further upstreams, and other models after it. The next one is asked
as long as the client has nothing of an answer, never after; each attempt is a translation of its
own, under the dialect of its route. The first route is asked first, unless its upstream has failed
several times in a row just now, or another one has answered this conversation lately: its prompt
cache is there, and reasoning that it signed is taken back by no other.

All of it is of one process, and bounded.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from translator import ParsedRequest
from translator.service.config.settings import Server
from translator.service.models.table import Route
from translator.service.observe.record import Record
from translator.service.upstreams.error_kinds import kind_of
from translator.wire.errors import (
    AccountEmpty,
    AnswerTooLarge,
    CredentialRefused,
    InvalidRequest,
    UpstreamError,
)
from translator.wire.json_values import NOT_JSON

log = logging.getLogger(__name__)

MAX_CONVERSATIONS = 10_000
"""Conversations that are remembered: those that another route than the first has answered."""

MAX_FIRST_ITEMS = 8
MAX_FIRST_CHARACTERS = 16 * 1024
"""How much of the beginning of a conversation tells it from others, where it has no name."""

_SESSION_HEADERS = frozenset({b"session_id", b"session-id", b"x-session-id", b"conversation_id"})
"""Headers in which clients name a conversation: Codex, OpenCode, and others."""

_MOVING_STATUSES = frozenset({402, 404, 408, 429})
"""Statuses below 500 after which another route may answer: no credit, no such model, a timeout, a
rate limit that is still there after the retries."""

_REFUSALS = frozenset({"content_filter", "invalid_prompt"})
"""Codes by which an upstream refuses what is said; another one is not asked instead."""


class _Breaker:
    """Keeps requests away from an upstream that has failed several times in a row."""

    __slots__ = ("_failures", "_until")

    def __init__(self) -> None:
        self._failures = 0
        self._until = -math.inf

    def is_open(self, now: float) -> bool:
        return now < self._until

    def failed(self, now: float, server: Server) -> bool:
        """Note a failure; whether the breaker has opened by it."""
        self._failures += 1
        if self._failures < server.breaker_failures:
            return False
        self._until = now + server.breaker_s
        return True

    def answered(self) -> None:
        self._failures = 0
        self._until = -math.inf


class _Kept(Struct):
    """The route that has answered a conversation, by its place, and until when it is the first."""

    place: int
    until: float


class Fallbacks:
    """What is known of all routes of models that have several."""

    def __init__(self, server: Server, timer: Callable[[], float]) -> None:
        """`timer` measures durations, in seconds."""
        self.server = server
        self.timer = timer
        self._breakers: dict[str, _Breaker] = {}  # by the upstream's name
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def choices(
        self,
        route: Route,
        record: Record,
        request: ParsedRequest | InvalidRequest,
        earlier: Sequence[Raw] | None,
    ) -> Choices | None:
        """The choices of a request; None for a model that has one route."""
        if not route.others or isinstance(request, InvalidRequest):
            return None
        return Choices(self, route, _conversation(record, request, earlier))

    def breaker(self, route: Route) -> _Breaker:
        return self._breakers.setdefault(route.upstream.name, _Breaker())

    def kept_place(self, conversation: bytes) -> int:
        """The place of the route that a conversation stays with; 0 where it begins anew."""
        kept = self._kept.get(conversation)
        if kept is None:
            return 0
        if self.timer() >= kept.until:
            del self._kept[conversation]
            return 0
        return kept.place

    def keep(self, conversation: bytes, place: int) -> None:
        """Note the route that has answered. Its time runs from when it first did."""
        kept = self._kept.get(conversation)
        if place == 0:
            self._kept.pop(conversation, None)
        elif kept is None or kept.place != place:
            until = self.timer() + self.server.fallback_ttl_s
            self._kept[conversation] = _Kept(place, until)
            self._kept.move_to_end(conversation)
            if len(self._kept) > MAX_CONVERSATIONS:
                self._kept.popitem(last=False)


class Choices:
    """The routes of one request, in the order in which they are asked.

    `route` is that of the current attempts; `why` says in one word why it is not the first choice,
    and is empty where it is.
    """

    def __init__(self, fallbacks: Fallbacks, route: Route, conversation: bytes) -> None:
        self._fallbacks = fallbacks
        self._conversation = conversation
        self._all = (route, *route.others)
        self._until = fallbacks.timer() + fallbacks.server.fallback_budget_s
        self._first_error: UpstreamError | None = None
        now = fallbacks.timer()
        kept = fallbacks.kept_place(conversation)
        places = sorted(
            range(len(self._all)),
            key=lambda place: (self._breaker(place).is_open(now), place != kept, place),
        )
        self._place, *self._left = places
        self._reason = "conversation" if self._place == kept else "breaker_open"

    @property
    def asked(self) -> Route:
        """The route of the model that the client asked for."""
        return self._all[0]

    @property
    def route(self) -> Route:
        return self._all[self._place]

    @property
    def why(self) -> str:
        return self._reason if self._place else ""

    @property
    def has_next(self) -> bool:
        return bool(self._left) and self._fallbacks.timer() < self._until

    def next(self, error: UpstreamError) -> Route | None:
        """The route that is asked after an error of the current one; None: the client gets it."""
        if self._first_error is None:
            self._first_error = error
        if not self._may_move(error):
            return None
        self._failed(error)
        if not self.has_next:
            return None
        return self.skip(kind_of(error))

    def skip(self, why: str) -> Route | None:
        """The route after the current one, which cannot be asked."""
        if not self._left:
            return None
        before = self.route
        self._place, *self._left = self._left
        self._reason = why
        log.warning("%s cannot answer (%s): %s is asked", _named(before), why, _named(self.route))
        return self.route

    def answered(self) -> None:
        """The current route has begun to answer."""
        self._breaker(self._place).answered()
        self._fallbacks.keep(self._conversation, self._place)

    def final_error(self, error: UpstreamError) -> UpstreamError:
        """The error for the client when none has answered: that of the first one asked."""
        return self._first_error or error

    def _may_move(self, error: UpstreamError) -> bool:
        if error.code == "context_length_exceeded":
            return self.asked.after_overflow
        if isinstance(error, AnswerTooLarge) or error.code in _REFUSALS:
            return False
        if isinstance(error, AccountEmpty | CredentialRefused) or error.lacks == "credit":
            return True
        return error.status_hint >= 500 or error.status_hint in _MOVING_STATUSES

    def _failed(self, error: UpstreamError) -> None:
        """Count a failure of the upstream; those of a model, and a rate limit, are none."""
        status = error.status_hint
        if status < 500 and error.code != "insufficient_quota" and status != 402:
            return
        fallbacks = self._fallbacks
        if self._breaker(self._place).failed(fallbacks.timer(), fallbacks.server):
            log.warning(
                "upstream %s is asked last for %gs after repeated failures",
                self.route.upstream.name,
                fallbacks.server.breaker_s,
            )

    def _breaker(self, place: int) -> _Breaker:
        return self._fallbacks.breaker(self._all[place])


def _named(route: Route) -> str:
    return f"model {route.model!a} on upstream {route.upstream.name}"


class _Part(Struct):
    """Of a part of a message, what is said."""

    text: str | None = None


class _Item(Struct):
    """Of an input item, who said what."""

    role: str | None = None
    type: str | None = None
    content: str | list[_Part] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join([part.text or "" for part in self.content])
        return self.content or ""


_read_item = msgspec.json.Decoder(_Item).decode


def _conversation(record: Record, request: ParsedRequest, earlier: Sequence[Raw] | None) -> bytes:
    """A digest that is the same for all requests of a conversation.

    Of its `prompt_cache_key`, else of the client's session header, else of how it begins: all items
    before the first one of the assistant, however they are written.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (record.client, record.model):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    if request.request.prompt_cache_key:
        digest.update(request.request.prompt_cache_key.encode("utf-8", "surrogatepass"))
        return digest.digest()
    session = next((value for name, value in record.headers if name in _SESSION_HEADERS), b"")
    if session:
        digest.update(session)
        return digest.digest()
    source = request.request.input
    if isinstance(source, str) and not earlier:
        digest.update(_start(source))
        return digest.digest()
    items = source if isinstance(source, list) else ()
    for text in _first_texts((*(earlier or ()), *items)):
        digest.update(_start(text))
    return digest.digest()


def _first_texts(items: Iterable[Raw]) -> Iterable[str]:
    for item in islice(items, MAX_FIRST_ITEMS):
        try:
            read = _read_item(item)
        except NOT_JSON:
            return
        if read.role is None or read.role == "assistant":
            return
        yield read.text()


def _start(text: str) -> bytes:
    return text[:MAX_FIRST_CHARACTERS].encode("utf-8", "surrogatepass")
