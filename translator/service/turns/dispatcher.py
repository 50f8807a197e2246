"""The dispatcher: a slot for each request, the route of its model, and its turn."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from translator import ParsedRequest, parse_request
from translator.common.pauses import Pause, no_pause
from translator.request.compaction import after_compaction, ends_in_trigger
from translator.service.access.client import Ask, Client
from translator.service.access.withheld import check_withheld
from translator.service.base.drain import Drain
from translator.service.base.errors import TooManyRequests
from translator.service.base.ids import NewId
from translator.service.config.settings import Server
from translator.service.models.table import ModelTable, Route
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import RequestReceived, Routed
from translator.service.upstreams.client import Upstreams
from translator.wire.errors import InvalidRequest, TranslatorError
from translator.wire.json_values import NOT_JSON
from translator.wire.responses import Request

from .adaptive import AdaptiveRequest
from .bounds import TurnBounds
from .counts import check_counts
from .fallbacks import Fallbacks
from .learned import LearnedFacts
from .slices import LARGE_BYTES
from .token_counter import TokenCounter
from .turn import Turn

if TYPE_CHECKING:
    from .describer import Describer
    from .hosting import Hosting
    from .images import RequestImages
    from .keeping import Keeping, ResponseStore


class _Head(msgspec.Struct, frozen=True):
    """The fields of an invalid request that decide on its route and its limits."""

    model: str | None = None
    input: str | list[Raw] | None = None
    tools: list[Raw] | None = None
    generate: bool | None = None
    max_output_tokens: int | None = None


class _Model(msgspec.Struct, frozen=True):
    """The only field of a request that the log wants of one that is refused."""

    model: str | None = None


MAX_LOOKED_INTO_BYTES = 64 * 1024
"""Largest body of a refused request whose model is looked for: it must cost next to nothing."""

_read_model = msgspec.json.Decoder(_Model).decode
_read_head = msgspec.json.Decoder(_Head).decode


class _Slot:
    """A slot for one request, as often as there are any; it raises TooManyRequests."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def check(self) -> None:
        if self._taken >= self._limit:
            raise TooManyRequests(self._limit)

    def __enter__(self) -> None:
        self.check()
        self._taken += 1

    def __exit__(self, *error: object) -> None:
        self._taken -= 1


class Dispatcher:
    """Starts turns, up to `max_concurrent_requests` at a time."""

    def __init__(
        self,
        *,
        server: Server,
        models: ModelTable,
        upstreams: Upstreams,
        clock: Callable[[], float],
        timer: Callable[[], float],
        new_id: NewId,
        drain: Drain,
        store: ResponseStore | None = None,
    ) -> None:
        self.store = store
        self.hosting: Hosting | None = None
        """The hosted tools that run here, where the settings have any."""
        self.bounds = TurnBounds(server, upstreams, drain, timer)
        self.counter = TokenCounter(self.bounds)
        self.server = server
        self.models = models
        self.clock = clock
        self._seconds = lambda: int(clock())  # one for all requests
        self.new_id = new_id
        self._learned = LearnedFacts(server.refused_ttl_s, timer)
        self._fallbacks = Fallbacks(server, timer)
        self._slot = _Slot(server.max_concurrent_requests)
        self._describer: Describer | None = None
        if models.describes_images:
            from .describer import Describer

            self._describer = Describer(
                self.bounds, models, self._learned, self._fallbacks, self._seconds, new_id
            )

    def check_slot(self, client: Client | None = None) -> None:
        """Raise what `slot` would: the body of a request that has none need not be read."""
        self._slot.check()
        if client is not None:
            client.check_slot()

    def slot(self, client: Client | None = None) -> AbstractContextManager[None]:
        """A slot for one request, while the context lasts.

        Entering it raises TooManyRequests when all are taken, and LimitReached when the client has
        taken all of its own.
        """
        return self._slot if client is None else self._slot_of(client)

    @contextmanager
    def _slot_of(self, client: Client) -> Generator[None]:
        with self._slot, client.slot():
            yield

    async def begin(
        self,
        context: RequestContext,
        body: bytes,
        *,
        authorization: str | None,
        earlier: Sequence[Raw] | None = None,
        keeps: bool = True,
        may_run: bool = False,
        remembers: bool = False,
    ) -> Turn:
        """The turn of a Responses request; nothing has been sent upstream yet.

        A large request is translated in slices; with any other this never waits. `authorization` is
        the client's own; `earlier` are the items of the previous response, where they are at hand.
        `keeps`: it is to be answered, and a store may keep the response; else no server of tools is
        asked for it. `may_run`: it may be produced in the background, if there is a store;
        `remembers`: the caller keeps the output for the next request. Raises InvalidRequest for a
        request that cannot be translated, NotFound for its model, LimitReached for its client, and
        StoreUnavailable, and what `Hosting.for_request` raises.
        """
        context.observer.on(RequestReceived(body))
        record = context.record
        began = self.bounds.timer()
        large = len(body) >= LARGE_BYTES
        parsed = await self.bounds.slices.run(partial(_parse, body)) if large else _parse(body)
        head = parsed.request if isinstance(parsed, ParsedRequest) else _head_of(body, parsed)
        record.model = head.model or ""
        route = self.models.route(head.model, context.client)
        record.dialect = route.dialect.name
        keeping = None
        if self.store is not None and isinstance(parsed, ParsedRequest):
            keeping = await self.store.begin(
                context,
                parsed.request,
                authorization=authorization,
                earlier=earlier,
                keeps=keeps,
                may_run=may_run,
            )
            earlier = earlier if keeping is None else keeping.earlier
            if keeping is not None and keeping.context.runs_in_background:
                # An upstream that is asked for a whole answer is silent until its end.
                parsed = replace(parsed, request=replace(parsed.request, stream=True))
        try:
            return await self._turn(
                context,
                parsed,
                head,
                route,
                began=began,
                body=body,
                authorization=authorization,
                earlier=earlier,
                keeping=keeping,
                asks_servers=keeps,
                remembers=remembers,
            )
        except BaseException as error:
            if context.runs_again and isinstance(error, TranslatorError):
                error.headers["x-should-retry"] = "false"  # SDKs do so after a 503
            if keeping is not None:
                await keeping.leave(None)
            raise

    async def _turn(
        self,
        context: RequestContext,
        parsed: ParsedRequest | InvalidRequest,
        head: Request | _Head,
        route: Route,
        *,
        began: float,
        body: bytes,
        authorization: str | None,
        earlier: Sequence[Raw] | None,
        keeping: Keeping | None,
        asks_servers: bool,
        remembers: bool,
    ) -> Turn:
        """The turn of a parsed request, of which the store has found its part."""
        record = context.record
        held_before = 0 if earlier is None else sum(map(len, earlier))
        large = max(len(body), held_before) >= LARGE_BYTES
        check_counts(self.server, items=head.input, tools=head.tools, earlier=len(earlier or ()))
        output_limit = None
        if context.client is not None:
            valid = isinstance(parsed, ParsedRequest)
            if isinstance(parsed, ParsedRequest):
                check_withheld(context.client, [("service_tier", parsed.request.service_tier)])
            ask = _ask(context, head, body, earlier, route, valid=valid)
            charge = await context.charge_for(ask)
            output_limit = None if charge is None else charge.max_output_tokens
        images: RequestImages | None = None
        if self._describer is not None:
            images = await self._describer.images(context, route, authorization, large=large)
        if route.compact_with is not None and ends_in_trigger(head.input):
            record.served_by = route.compact_with
            asked, route = route, self.models.compaction_route(route.compact_with)
            if not route.upstream.shares_keys_with(asked.upstream):
                authorization = None  # it is for whom the client has asked
        choices = self._fallbacks.choices(route, record, parsed, earlier)
        if choices is not None:
            route = choices.route
        record.dialect = route.dialect.name
        context.observer.on(Routed(route, earlier))
        if isinstance(parsed, InvalidRequest):
            raise parsed  # now that it is charged for, and has a model in the log
        hosting = self.hosting
        if hosting is not None and asks_servers and parsed.request.tools:
            known = earlier
            if keeping is not None:  # what the input refers to
                known = (*(earlier or ()), *keeping.context.resolved.values())
            asking = hosting.for_request(context, parsed, known, authorization, self.new_id)
            hosting = await self.bounds.drain.unless_over(asking)
        hosted = None if hosting is None else hosting.hosted_for(context.client)
        if hosted is not None and remembers:
            hosted = replace(hosted, keeps=True)
        held = self.bounds.held.answer(record.request_id)
        request = AdaptiveRequest(
            parsed,
            route,
            self._learned,
            model=record.model,
            may_retry=self.server.retry_refused,
            clock=self._seconds,
            new_id=self.new_id,
            earlier=earlier,
            store=None if keeping is None else keeping.context,
            account=held.account,
            redaction=partial(self.bounds.upstreams.redaction, authorization=authorization),
            timer=self.bounds.timer,
            may_ask_again=self.bounds.upstreams.take_retry,
            choices=choices,
            request_id=record.request_id,
            images=images,
            output_limit=output_limit,
            hosted=hosted,
        )
        if large:
            await self.bounds.slices.run(request.write)
        else:
            request.write()
        record.translation_s = self.bounds.timer() - began
        return Turn(
            context,
            request,
            self.bounds,
            held,
            authorization=authorization,
            keeping=keeping,
            hosting=None if hosted is None else hosting,
        )


def model_in(body: bytes) -> str:
    """The model that a request asks for, which is refused without being read; else empty."""
    if not body or len(body) > MAX_LOOKED_INTO_BYTES:
        return ""
    try:
        return _read_model(body).model or ""
    except NOT_JSON:
        return ""


def _ask(
    context: RequestContext,
    head: Request | _Head,
    body: bytes,
    earlier: Sequence[Raw] | None,
    route: Route,
    *,
    valid: bool,
) -> Ask:
    """What a request asks for; `valid`: it is not refused."""
    return Ask(
        size=len(body) + _size_of(earlier, context),
        answer=valid and head.generate is not False,
        model=context.record.model,
        path=context.record.path,
        request_id=context.record.request_id,
        max_output_tokens=head.max_output_tokens,
        model_output_tokens=route.max_output_tokens,
        body=body,
        earlier=earlier or (),
    )


def _size_of(earlier: Sequence[Raw] | None, context: RequestContext) -> int:
    """Bytes of the earlier items that go upstream; 0 where they do not matter."""
    if not earlier or not context.counts_tokens:
        return 0
    return sum(map(len, after_compaction(earlier)))


def _parse(body: bytes, pause: Pause = no_pause) -> ParsedRequest | InvalidRequest:
    """The parsed request, or why the body is none."""
    try:
        return parse_request(body, pause)
    except InvalidRequest as error:
        return error


def _head_of(body: bytes, error: InvalidRequest) -> _Head:
    """The head of an invalid request; raises the error where not even that can be read."""
    try:
        return _read_head(body)
    except NOT_JSON:
        raise error from None
