"""Adaptive requests: retried as an upstream's refusals teach, which is remembered for a while.

    attempt, { refused for a reason that teaches something new, attempt under what it teaches }

A refusal may name fields of the request, which are left out or changed, or facts of the dialect, as
the form of messages that a chat template wants. Many upstreams name one thing at a time, so there
are as many attempts as bring something new, within bounds, and only until the client has something
of an answer. What helped is remembered for the upstream's model, so that the next request is right
at once.

Only what an accepted attempt confirms is remembered, and nothing that stands only in the client's
own words, which the upstream quotes: that holds for the one request.

Where nothing is wrong with the request, because the model has failed or the server is not well, the
same request is sent once more.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from msgspec import Raw, Struct
from msgspec.structs import replace

from translator import (
    Dialect,
    InvalidRequest,
    Notice,
    ParsedRequest,
    Target,
    Translation,
    UpstreamError,
)
from translator.common.pauses import Pause, no_pause, paced
from translator.common.schemas import SchemaRules
from translator.reader.quotations import without_quotations
from translator.reader.rejected_fields import find_rejected_fields, without
from translator.reader.taught_facts import merged_fact, taught_facts
from translator.service.access.client import ANY_OUTPUT
from translator.service.base.ids import NewId
from translator.service.base.redaction import NOTHING_SECRET, Redaction
from translator.service.config.settings import Upstream
from translator.service.models.table import Route
from translator.service.upstreams.judging import judged

from .fallbacks import Choices
from .learned import NOTHING_LEARNED, Learned, LearnedFacts, in_words
from .slices import Slices

if TYPE_CHECKING:
    from translator.common.hosted import Hosted
    from translator.request.store_context import StoreContext
    from translator.rounds import Rounds

    from .images import RequestImages

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
"""Attempts of one request: a client waits for all of them."""

MAX_ADAPTING_S = 60.0
"""How long after the first attempt another one may begin."""

NO_FACTS: frozenset[str] = frozenset()
"""One for all requests: each empty one would take 216 bytes."""

_LOSSY = frozenset({"reasoning_replay", "schema_rules"})
_REASONING_ITEM = re.compile(rb'"type"\s*:\s*"reasoning"')
_LIMITED_SCHEMA = re.compile(
    rb'"(?:pattern|format)"\s*:\s*"|"(?:min|max)(?:Length|Items|Properties)"\s*:\s*\d'
)


class Described(Exception):
    """The images of an attempt have been described: it is to be written again."""


class ChatRequestAttempt(Struct, frozen=True):
    """A chat request, its notices, and the translation of the answer to it."""

    translation: Translation
    body: bytes
    notices: tuple[Notice, ...]


class AdaptiveRequest:
    """One request of a client, and the chat request of each attempt.

    `attempt` is the latest; `write()` makes the first one.
    """

    __slots__ = (
        *("_account", "_attempts", "_choices", "_clock", "_created_at", "_descriptions"),
        *("_earlier", "_has_asked_again", "_hosted", "_images", "_key", "_known", "_learned"),
        *("_may_ask_again", "_may_retry", "_model", "_new_id", "_output_limit"),
        *("_redaction", "_request", "_request_id", "_response_id", "_rounds", "_store"),
        *("_taught", "_tentative", "_timer", "_until"),
        *("attempt", "describes", "route"),
    )

    def __init__(
        self,
        request: ParsedRequest,
        route: Route,
        learned: LearnedFacts,
        *,
        model: str,
        may_retry: bool,
        clock: Callable[[], int],
        new_id: NewId,
        earlier: Sequence[Raw] | None = None,
        store: StoreContext | None = None,
        account: Callable[[int], None] = lambda size: None,
        redaction: Callable[[Upstream], Redaction] = lambda upstream: NOTHING_SECRET,
        timer: Callable[[], float] = time.monotonic,
        may_ask_again: Callable[[Upstream], bool] = lambda upstream: True,
        choices: Choices | None = None,
        request_id: str = "",
        images: RequestImages | None = None,
        output_limit: int | None = None,
        hosted: Hosted | None = None,
    ) -> None:
        """`clock()` is the time in whole seconds since 1970.

        `redaction(upstream)` has the secrets that its words must not tell the client.

        `may_retry`: refusals are learned from. `may_ask_again(upstream)` is called before the same
        request is sent once more. `choices` are the routes of a model that has several; `route` is
        the current one of them. `request_id` is for the log. `images` has descriptions of images,
        where a route has another model describe them. `output_limit` is what the client can pay
        for, in tokens, which is sent though it did not ask for a limit. `hosted` are the hosted
        tools that the client may have run.
        """
        self._hosted = hosted
        self._rounds: Rounds | None = None  # after the first one
        self._account = account
        self._redaction = redaction
        self._request_id = request_id
        self._request: ParsedRequest | None = request
        self._output_limit = output_limit
        if output_limit is not None and request.request.max_output_tokens is None:
            asked = replace(request.request, max_output_tokens=ANY_OUTPUT)  # to be limited
            self._request = replace(request, request=asked)
        self._earlier = earlier
        self._store = store
        self._model = model
        self._learned = learned
        self._may_retry = may_retry
        self._clock = clock
        self._new_id = new_id
        self._response_id = new_id("resp_")
        self._created_at = clock()
        self._timer = timer
        self._attempts = 1
        self._may_ask_again: Callable[[Upstream], bool] | None = may_ask_again
        self._choices = choices
        self._images = images
        self._take(route)
        self.attempt: ChatRequestAttempt

    def _take(self, route: Route) -> None:
        """Ask the upstream of a route from now on."""
        self.route = route
        self._key = (route.upstream.name, route.upstream_model or self._model)
        self._known = self._learned.recall(*self._key) if self._may_retry else NOTHING_LEARNED
        self._tentative = NOTHING_LEARNED  # by this request, and not confirmed yet
        self._taught = NO_FACTS  # facts, by this request
        self._until = self._timer() + MAX_ADAPTING_S
        self._has_asked_again = False
        self._descriptions = None if self._images is None else self._images.known(route)
        self.describes = self._descriptions is not None
        """Whether images that lack a description are to be described before it is sent."""

    @property
    def response_id(self) -> str:
        """The id of its response."""
        return self._response_id

    def redaction(self) -> Redaction:
        """The secrets that the words of the current upstream must not tell the client."""
        return self._redaction(self.route.upstream)

    def write(self, pause: Pause = no_pause) -> None:
        """Translate the request; raises InvalidRequest where that is not possible.

        `pause` is called between steps.
        """
        self.attempt = self._written(pause)

    @property
    def undescribed(self) -> bool:
        """Whether the attempt waits for descriptions of images: it is to be written again then."""
        return self.describes and bool(self.attempt.translation.undescribed)

    async def describe(self) -> NoReturn:
        """Have the images of the attempt described, as far as possible; raises Described."""
        images, self.describes = self._images, False
        assert images is not None, "there is nobody to describe images"
        await images.describe(self.attempt.translation.undescribed, self.route)
        raise Described

    async def rewrite(self, slices: Slices) -> None:
        """Write the attempt again, with what was described; that took none of its own time."""
        self._until = self._timer() + MAX_ADAPTING_S
        if self._images is not None and self._images.large:
            await slices.run(self.write)
        else:
            self.write()

    def next_round(
        self, pause: Pause = no_pause, *, output_limit: int | None = None, is_last: bool = False
    ) -> None:
        """Write the chat request of the next round; what was learned holds for it, too.

        `output_limit` is what the client can pay for, in tokens, where that is less than it asks
        for; `is_last`: no tool can be called in it.
        """
        self._rounds = self.attempt.translation.rounds or self._rounds
        assert self._rounds is not None, "the response has no rounds"
        if is_last:
            self._rounds.withdraw_tools()
        if output_limit is not None:
            self._output_limit = output_limit
        self._attempts = 1
        self._until = self._timer() + MAX_ADAPTING_S
        self._has_asked_again = False
        self.attempt = self._written(pause)

    def accepted(self) -> None:
        """The upstream has accepted the attempt: remember what made it acceptable."""
        found, self._tentative = self._tentative, NOTHING_LEARNED
        if found is NOTHING_LEARNED:  # as nearly always
            return
        found = replace(found, refused=tuple(one for one in found.refused if not one.once))
        if found == NOTHING_LEARNED:
            return
        self._learned.keep(*self._key, found)
        upstream, model = self._key
        log.warning("upstream %s, model %a: %s; remembered", upstream, model, in_words(found))

    def adapt_to(self, error: UpstreamError, pause: Pause = no_pause) -> bool:
        """Whether a new attempt, which is written then, may avoid this error.

        `pause` is called between steps.
        """
        if self._request is None:
            return False
        may_ask = self._attempts < MAX_ATTEMPTS and self._timer() <= self._until
        adapted = (
            self._ask_again(pause, may_ask=may_ask)
            if error.again
            else self._learn(error, pause, may_ask=may_ask)
        )
        return adapted or self._move_on(error, pause)

    def _move_on(self, error: UpstreamError, pause: Pause) -> bool:
        """Whether another route is asked instead, with an attempt of its own."""
        if self._choices is None or self._attempts >= MAX_ATTEMPTS:
            return False
        route = self._choices.next(error)
        while route is not None:
            self._take(route)
            try:
                self.attempt = self._written(pause)
            except InvalidRequest as refused:  # as under `strict`, where it would lose something
                log.warning("model %a cannot be asked: %s", route.model, refused.message)
                route = self._choices.skip("refused")
            else:
                self._attempts += 1
                return True
        return False

    def final_error(self, error: UpstreamError) -> UpstreamError:
        """The error for the client after the last attempt."""
        return error if self._choices is None else self._choices.final_error(error)

    def answered(self) -> None:
        """The answer has begun: its route has proved good."""
        if self._choices is not None:
            self._choices.answered()

    @property
    def choices(self) -> Choices | None:
        """The routes of a model that has several."""
        return self._choices

    def _ask_again(self, pause: Pause, *, may_ask: bool) -> bool:
        before, self._has_asked_again = self._has_asked_again, True
        may = self._may_ask_again
        if before or not may_ask or may is None or not may(self.route.upstream):
            return False
        self._attempts += 1
        self.attempt = self._written(pause)
        return True

    def _learn(self, error: UpstreamError, pause: Pause, *, may_ask: bool) -> bool:
        found = self._new_in(error, error.text) if self._may_retry else NOTHING_LEARNED
        if found == NOTHING_LEARNED:
            return False
        if not may_ask:
            self.accepted()  # else no request would ever get further
            return False
        pause()
        text = without_quotations(error.text, self.attempt.body)
        pause()
        kept = found if text == error.text else self._new_in(error, text)
        before, self._known = self._known, _overlaid(self._known, found)
        attempt = self._written(pause)
        if attempt.body == self.attempt.body:
            self._known = before
            return False
        self._tentative = self._tentative.merged(kept)
        self._taught = self._taught.union(found.facts)
        self._attempts += 1
        self.attempt = attempt
        return True

    def forget(self) -> None:
        """Release the request: the client has something of an answer, so no attempt follows."""
        if self._request is None:
            return
        self._may_retry = False
        self._request = self._earlier = self._store = self._may_ask_again = self._images = None
        self.attempt = replace(self.attempt, body=b"")
        self.attempt.translation.forget_request()

    def _new_in(self, error: UpstreamError, text: str) -> Learned:
        """What an error of this text teaches that is not known yet.

        A fact that this request was taught before stays: its opposite would only lead back.
        """
        status = error.status_hint
        if status not in (400, 500, 502) or error.lacks:
            return NOTHING_LEARNED
        known = self._known
        fields = find_rejected_fields(text, self.attempt.body, efforts_only=status != 400)
        facts = {
            name: value
            for name, value in taught_facts(text, known.facts).items()
            if merged_fact(known.facts.get(name), value) != known.facts.get(name)
            and (name not in self._taught or isinstance(value, SchemaRules))
        }
        return Learned(tuple(one for one in fields if one not in known.refused), facts)

    def _written(self, pause: Pause) -> ChatRequestAttempt:
        """The chat request under all that is known by now."""
        strict = self.route.options.strict  # then nothing may be lost
        dialect = self._dialect(strict=strict)
        refused = [one for one in self._known.refused if not (strict and one.loses)]
        limits = [one.limit for one in refused if one.limit is not None]
        translation = self._translation(dialect, limits, pause)
        moved = self._moved_notices()
        if self.describes and translation.undescribed:
            # It is written again, and only then it is known what is lost of them.
            paths = {image.path for image in translation.undescribed}
            notices = tuple(one for one in translation.notices if one.path not in paths)
            return ChatRequestAttempt(translation, translation.chat_body, (*moved, *notices))
        if not refused and not self._known.facts:
            notices = (*moved, *translation.notices) if moved else translation.notices
            return ChatRequestAttempt(translation, translation.chat_body, notices)
        pause()
        body, gone = without(translation.chat_body, refused) if refused else (b"", [])
        if any(one.field == "tool_choice" for one in gone):
            # The translation enforces on the answer what the upstream does not accept.
            translation = self._translation(
                replace(
                    dialect,
                    tool_choices=dialect.tool_choices & {"auto"},
                    tool_choices_thinking=None,
                ),
                limits,
                pause,
            )
            pause()
            body, gone = without(translation.chat_body, refused)
        assert self._request is not None, "the request was released"
        asked = self._request.request.max_output_tokens
        lost = [
            one.notice() for one in gone if one.loses and (one.limit is None or asked is not None)
        ]
        if self._known.facts and not strict:
            lost += self._lost_by_facts(translation.notices, pause)
        return ChatRequestAttempt(
            translation, body or translation.chat_body, (*moved, *translation.notices, *lost)
        )

    def _moved_notices(self) -> tuple[Notice, ...]:
        """The notice of an attempt that goes elsewhere than the client asked for."""
        choices = self._choices
        if choices is None or not choices.why:
            return ()
        asked, route = choices.asked, choices.route
        message = (
            f"'{asked.model}' on upstream {asked.upstream.name} was not asked, or did not answer "
            f"({choices.why}); '{route.model}' on upstream {route.upstream.name} was."
        )
        return (Notice("model", "fallback", message),)

    def _dialect(self, *, strict: bool) -> Dialect:
        """The dialect of the model under the facts that are known by now."""
        dialect, facts = self.route.dialect, self._known.facts
        if not facts:
            return dialect
        dialect = dialect.for_model(self._key[1])
        return replace(
            dialect,
            **{
                name: merged_fact(getattr(dialect, name), value)
                for name, value in facts.items()
                if not (strict and name in _LOSSY)
            },
        )

    def _lost_by_facts(self, noticed: Sequence[Notice], pause: Pause) -> Iterator[Notice]:
        """The notices of what the known facts leave out of this request, beyond those there are."""
        assert self._request is not None, "the request was released"
        facts, request = self._known.facts, self._request.request
        items = [
            *(self._earlier or ()),
            *(request.input if isinstance(request.input, list) else ()),
        ]
        if facts.get("reasoning_replay") == "drop" and _any_has(_REASONING_ITEM, items, pause):
            message = "The upstream does not take the reasoning of earlier turns."
            yield Notice("input", "refused_upstream", message)
        rules = facts.get("schema_rules", SchemaRules())
        limits = bool(rules.dropped) or rules.max_bound is not None
        limits = limits and not any(one.path.startswith("tools") for one in noticed)
        if limits and _any_has(_LIMITED_SCHEMA, request.tools or (), pause):
            message = "The upstream does not take all limits in schemas; some were left out."
            yield Notice("tools", "refused_upstream", message)

    def _translation(self, dialect: Dialect, limits: Sequence[int], pause: Pause) -> Translation:
        """The translation for a dialect; `limits` are those of the output that were learned."""
        route = self.route
        if route.max_output_tokens is not None:
            limits = (*limits, route.max_output_tokens)
        if self._output_limit is not None:
            limits = (*limits, self._output_limit)
        assert self._request is not None, "the request was released"
        return Translation(
            self._request,
            dialect=dialect,
            response_id=self._response_id,
            created_at=self._created_at,
            new_id=self._new_id,
            now=self._clock,
            target=Target(
                model=route.upstream_model,
                max_output_tokens=min(limits, default=None),
                vision=route.vision,
                context_window=route.context_window,
                origin=route.origin,
                descriptions=self._descriptions,
            ),
            options=route.options,
            earlier=self._earlier,
            store=self._store,
            judge=_Judge(route.upstream, self._redaction, self._request_id),
            account=self._account,
            pause=pause,
            hosted=self._hosted,
            rounds=self._rounds,
        )


class _Judge:
    """Whose affair an error in the upstream's body is: `judged`, for one request."""

    __slots__ = ("_redaction", "_request_id", "_upstream")

    def __init__(
        self, upstream: Upstream, redaction: Callable[[Upstream], Redaction], request_id: str
    ) -> None:
        self._upstream = upstream
        self._redaction = redaction
        self._request_id = request_id

    def __call__(self, error: UpstreamError) -> UpstreamError:
        redaction = self._redaction(self._upstream)
        return judged(error, self._upstream, redaction, request_id=self._request_id)


def _overlaid(known: Learned, found: Learned) -> Learned:
    """What is known, and what this request has just been taught, which counts for its attempts."""
    facts = {name: merged_fact(known.facts.get(name), value) for name, value in found.facts.items()}
    return Learned((*known.refused, *found.refused), {**known.facts, **facts}, known.contested)


def _any_has(words: re.Pattern[bytes], values: Sequence[Raw], pause: Pause) -> bool:
    return any(words.search(memoryview(value)) for value in paced(values, pause))
