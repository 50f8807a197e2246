"""One request until the upstream takes it: what a refusal teaches, and what is asked again.

    attempt, [ refused, attempt without a field ], [ refused, attempt with its reasoning ]

Each sort of refusal is answered once, in whatever order they come, and only while the client has
nothing of an answer. What was found to help is remembered for the upstream's model, as long as the
process lives, so the next request is right at once.

A finding counts as right when the second attempt is taken, or is refused for something else: many
upstreams name one field at a time, so several requests may find out what one could not.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from msgspec import Raw, Struct
from msgspec.structs import replace

from translator import Dialect, Notice, Target, Translation, UpstreamError
from translator.reader.rejected_fields import (
    REASONING_REQUIRED,
    RejectedField,
    find_rejected_fields,
    wants_reasoning,
    without,
)
from translator.service.base.ids import NewId
from translator.service.models.table import Route
from translator.service.upstreams.client import judged

log = logging.getLogger(__name__)

MAX_MODELS = 1000
"""Models of upstreams of which findings are kept; clients name them where there is no table."""

MAX_FIELDS = 64
"""Refused fields, or values of them, that are kept of one model."""


class Findings(Struct, frozen=True):
    """What one model of an upstream was found to want."""

    refused: tuple[RejectedField, ...] = ()
    reasoning: bool = False
    """It refuses an assistant message without reasoning."""

    def and_refused(self, more: Iterable[RejectedField]) -> Findings:
        return replace(self, refused=tuple(dict.fromkeys((*self.refused, *more)))[-MAX_FIELDS:])


NOTHING = Findings()


class Memory:
    """The findings of the process, by upstream and model; those least used go first."""

    def __init__(self) -> None:
        self._findings: OrderedDict[tuple[str, str], Findings] = OrderedDict()

    def recall(self, upstream: str, model: str) -> Findings:
        """What is known of a model; `model` is the upstream's own id."""
        key = (upstream, model)
        if key not in self._findings:
            return NOTHING
        self._findings.move_to_end(key)
        return self._findings[key]

    def keep(self, upstream: str, model: str, found: Findings) -> None:
        """Add what was found to what is known; other requests may have found something else."""
        known = self.recall(upstream, model)
        self._findings[upstream, model] = replace(
            known.and_refused(found.refused), reasoning=known.reasoning or found.reasoning
        )
        while len(self._findings) > MAX_MODELS:
            self._findings.popitem(last=False)


class Attempt(Struct, frozen=True):
    """A request as it goes upstream once: the translation of its answer, its body, its losses."""

    translation: Translation
    body: bytes
    notices: tuple[Notice, ...]


class Asking:
    """One request of a client, written anew for each attempt.

    Raises InvalidRequest for a request that cannot be translated.
    """

    def __init__(
        self,
        request: bytes,
        route: Route,
        memory: Memory,
        *,
        model: str,
        may_retry: bool,
        clock: Callable[[], float],
        new_id: NewId,
        earlier: Sequence[Raw] | None = None,
    ) -> None:
        self._request = request
        self._earlier = earlier
        self._route = route
        self._memory = memory
        self._may_retry = may_retry
        self._clock = clock
        self._new_id = new_id
        self._response_id = new_id("resp_")
        self._created_at = int(clock())
        self._place = (route.upstream.name, route.upstream_model or model)
        self._known = memory.recall(*self._place) if may_retry else NOTHING
        self._found = NOTHING  # by this request, and not yet known to be right
        self._answered: set[str] = set()  # sorts of refusal
        self.attempt = self._written()

    def taken(self) -> None:
        """The upstream has taken the attempt: what it was changed by is worth remembering."""
        if self._found == NOTHING:
            return
        found, self._found = self._found, NOTHING
        self._known = self._with(found)
        self._memory.keep(*self._place, found)
        upstream, model = self._place
        wants = [_in_words(one) for one in found.refused]
        wants += ["it refuses messages without reasoning"] if found.reasoning else []
        log.warning("upstream %s, model %a: %s; remembered", upstream, model, ", ".join(wants))

    def again(self, error: UpstreamError) -> bool:
        """Whether another attempt, which is then written, could do better than this error."""
        if not self._may_retry:
            return False
        sort, found = self._read(error)
        if sort is None:
            return False
        self.taken()  # it is refused for something else by now
        if sort in self._answered:
            return False
        self._answered.add(sort)
        before, self._found = self.attempt.body, found
        self.attempt = self._written()
        return self.attempt.body != before

    def forget(self) -> None:
        """The client has something of an answer: there will be no other attempt."""
        self._may_retry = False
        self._request, self._earlier = b"", None
        self.attempt = replace(self.attempt, body=b"")
        self.attempt.translation.forget_request()

    def _read(self, error: UpstreamError) -> tuple[str | None, Findings]:
        """What sort of refusal an error is, and what it teaches."""
        text = error.text
        if wants_reasoning(text) and not self._with(self._found).reasoning:
            return "reasoning", Findings(reasoning=True)
        if error.status_hint != 400:
            return None, NOTHING
        refused = tuple(find_rejected_fields(text, self.attempt.body))
        return ("field", Findings(refused)) if refused else (None, NOTHING)

    def _with(self, found: Findings) -> Findings:
        known = self._known.and_refused(found.refused)
        return replace(known, reasoning=known.reasoning or found.reasoning)

    def _written(self) -> Attempt:
        """The request under all that is known by now."""
        findings = self._with(self._found)
        dialect = self._route.dialect
        if findings.reasoning:
            dialect = replace(dialect, **REASONING_REQUIRED)
        translation = self._translation(dialect)
        if not findings.refused:
            return Attempt(translation, translation.chat_body, translation.notices)
        strict = self._route.options.strict  # then nothing may be lost
        refused = [one for one in findings.refused if not (strict and one.loses)]
        body, gone = without(translation.chat_body, refused)
        if any(one.field == "tool_choice" for one in gone):
            # What the upstream does not take, the translation enforces on the answer.
            translation = self._translation(
                replace(
                    dialect,
                    tool_choices=dialect.tool_choices & {"auto"},
                    tool_choices_thinking=None,
                )
            )
            body, gone = without(translation.chat_body, refused)
        notices = (one.notice() for one in gone if one.loses)
        return Attempt(translation, body, (*translation.notices, *notices))

    def _translation(self, dialect: Dialect) -> Translation:
        route, clock = self._route, self._clock
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
            ),
            options=route.options,
            earlier=self._earlier,
            judge=lambda error: judged(error, route.upstream),
        )


def _in_words(refused: RejectedField) -> str:
    """One finding for the log; what a client sent stays out of it."""
    if refused.instead is not None:
        return f"it takes {refused.field} as {refused.instead}"
    return f"it refuses {'' if refused.value is None else 'a value of '}{refused.field}"
