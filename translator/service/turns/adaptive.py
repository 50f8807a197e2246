"""Adaptive requests: retried without the fields that an upstream rejects, which are remembered.

    attempt, [ rejected, attempt without a field ], [ rejected, attempt with its reasoning ]

Each kind of rejection is answered once, in whatever order they come, and only until the client has
something of an answer. What helped is remembered for the upstream's model as long as the process
lives, so that the next request is right at once.

It counts as help when the second attempt is accepted, or is rejected for another reason: many
upstreams name one field at a time, so that it may take several requests to learn them all.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Raw, Struct
from msgspec.structs import replace

from translator import Dialect, Notice, ParsedRequest, Target, Translation, UpstreamError
from translator.reader.rejected_fields import (
    REASONING_REQUIRED,
    RejectedField,
    find_rejected_fields,
    wants_reasoning,
    without,
)
from translator.service.base.ids import NewId
from translator.service.base.redaction import NOTHING_SECRET, Redaction
from translator.service.models.table import Route
from translator.service.upstreams.judging import judged

log = logging.getLogger(__name__)

MAX_MODELS = 1000
"""Models to remember facts of: without a model table, clients name any."""

MAX_FIELDS = 64
"""Rejected fields, or values of fields, to remember of one model."""


class Learned(Struct, frozen=True):
    """Facts learned of one model of an upstream."""

    refused: tuple[RejectedField, ...] = ()
    reasoning: bool = False
    """It rejects an assistant message without reasoning."""

    def merged(self, found: Learned) -> Learned:
        """These facts and those found since; the oldest fields are forgotten first."""
        refused = tuple(dict.fromkeys((*self.refused, *found.refused)))
        return Learned(refused[-MAX_FIELDS:], reasoning=self.reasoning or found.reasoning)


NOTHING_LEARNED = Learned()


class LearnedFacts:
    """The facts that this process has learned, by upstream and model; an LRU cache."""

    def __init__(self) -> None:
        self._by_model: OrderedDict[tuple[str, str], Learned] = OrderedDict()

    def recall(self, upstream: str, model: str) -> Learned:
        """The facts of a model, by the upstream's own id of it."""
        key = (upstream, model)
        if key not in self._by_model:
            return NOTHING_LEARNED
        self._by_model.move_to_end(key)
        return self._by_model[key]

    def keep(self, upstream: str, model: str, found: Learned) -> None:
        """Add facts; other requests may have learned others meanwhile."""
        self._by_model[upstream, model] = self.recall(upstream, model).merged(found)
        while len(self._by_model) > MAX_MODELS:
            self._by_model.popitem(last=False)


class ChatRequestAttempt(Struct, frozen=True):
    """A chat request, its notices, and the translation of the answer to it."""

    translation: Translation
    body: bytes
    notices: tuple[Notice, ...]


class AdaptiveRequest:
    """One request of a client, and the chat request of each attempt.

    `attempt` is the latest; `write()` makes the first one.
    """

    def __init__(
        self,
        request: ParsedRequest,
        route: Route,
        learned: LearnedFacts,
        *,
        model: str,
        may_retry: bool,
        clock: Callable[[], float],
        new_id: NewId,
        earlier: Sequence[Raw] | None = None,
        account: Callable[[int], None] = lambda size: None,
        redaction: Redaction = NOTHING_SECRET,
    ) -> None:
        """`redaction` has the secrets that the upstream's words must not tell the client."""
        self._account = account
        self._judge = partial(judged, upstream=route.upstream, redaction=redaction)
        self._request: ParsedRequest | None = request
        self._earlier = earlier
        self.route = route
        self._learned = learned
        self._may_retry = may_retry
        self._clock = clock
        self._new_id = new_id
        self._response_id = new_id("resp_")
        self._created_at = int(clock())
        self._key = (route.upstream.name, route.upstream_model or model)
        self._known = learned.recall(*self._key) if may_retry else NOTHING_LEARNED
        self._tentative = NOTHING_LEARNED  # by this request, and not confirmed yet
        self._answered: set[str] = set()  # kinds of rejection
        self.attempt: ChatRequestAttempt

    def write(self) -> None:
        """Translate the request; raises InvalidRequest where that is not possible."""
        self.attempt = self._written()

    def accepted(self) -> None:
        """The upstream has accepted the attempt: remember what made it acceptable."""
        if self._tentative == NOTHING_LEARNED:
            return
        found, self._tentative = self._tentative, NOTHING_LEARNED
        self._known = self._known.merged(found)
        self._learned.keep(*self._key, found)
        upstream, model = self._key
        said = [_in_words(one) for one in found.refused]
        said += ["it rejects messages without reasoning"] if found.reasoning else []
        log.warning("upstream %s, model %a: %s; remembered", upstream, model, ", ".join(said))

    def adapt_to(self, error: UpstreamError) -> bool:
        """Whether a new attempt, which is written then, may avoid this error."""
        if not self._may_retry:
            return False
        kind, found = self._read(error)
        if kind is None:
            return False
        self.accepted()  # the reason is another one by now
        if kind in self._answered:
            return False
        self._answered.add(kind)
        self._tentative = found
        attempt = self._written()
        if attempt.body == self.attempt.body:
            return False
        self.attempt = attempt
        return True

    def forget(self) -> None:
        """Release the request: the client has something of an answer, so no attempt follows."""
        if self._request is None:
            return
        self._may_retry = False
        self._request = self._earlier = None
        self.attempt = replace(self.attempt, body=b"")
        self.attempt.translation.forget_request()

    def _read(self, error: UpstreamError) -> tuple[str | None, Learned]:
        """The kind of rejection that an error is, if it is one, and the facts that it tells."""
        text = error.text
        if wants_reasoning(text) and not self._known.merged(self._tentative).reasoning:
            return "reasoning", Learned(reasoning=True)
        if error.status_hint != 400:
            return None, NOTHING_LEARNED
        refused = tuple(find_rejected_fields(text, self.attempt.body))
        return ("field", Learned(refused)) if refused else (None, NOTHING_LEARNED)

    def _written(self) -> ChatRequestAttempt:
        """The chat request under all facts that are known by now."""
        facts = self._known.merged(self._tentative)
        dialect = self.route.dialect
        if facts.reasoning:
            dialect = replace(dialect, **REASONING_REQUIRED)
        translation = self._translation(dialect)
        if not facts.refused:
            return ChatRequestAttempt(translation, translation.chat_body, translation.notices)
        strict = self.route.options.strict  # then nothing may be lost
        refused = [one for one in facts.refused if not (strict and one.loses)]
        body, gone = without(translation.chat_body, refused)
        if any(one.field == "tool_choice" for one in gone):
            # The translation enforces on the answer what the upstream does not accept.
            translation = self._translation(
                replace(
                    dialect,
                    tool_choices=dialect.tool_choices & {"auto"},
                    tool_choices_thinking=None,
                )
            )
            body, gone = without(translation.chat_body, refused)
        notices = (one.notice() for one in gone if one.loses)
        return ChatRequestAttempt(translation, body, (*translation.notices, *notices))

    def _translation(self, dialect: Dialect) -> Translation:
        route, clock = self.route, self._clock
        assert self._request is not None, "the request was released"
        return Translation(
            self._request,
            dialect=dialect,
            response_id=self._response_id,
            created_at=self._created_at,
            new_id=self._new_id,
            now=lambda: int(clock()),
            target=Target(
                model=route.upstream_model,
                max_output_tokens=route.max_output_tokens,
                vision=route.vision,
                context_window=route.context_window,
            ),
            options=route.options,
            earlier=self._earlier,
            judge=self._judge,
            account=self._account,
        )


def _in_words(refused: RejectedField) -> str:
    """A rejected field for the log, without what the client sent."""
    if refused.instead is not None:
        return f"it takes {refused.field} as {refused.instead}"
    return f"it rejects {'' if refused.value is None else 'a value of '}{refused.field}"
