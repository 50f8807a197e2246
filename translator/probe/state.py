"""Probe state: the findings on one model so far, and the requests that checks build on them.

Where a request holds several optional features, all are sent at once. If the rejection names some
of them, those are removed and the rest is sent again; if it names none, each is sent alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from .findings import FactValue, Finding
from .payloads import MAX_TOKENS, Fields, ProbeRequest
from .replies import Accepted, Inconclusive, Outcome, Rejected, Reply, describe

T = TypeVar("T")
Check = Generator[ProbeRequest, Outcome, T]
"""Yields requests, is sent their outcomes, and returns what later checks need."""

NEVER = r"(?!)"
"""A pattern that matches nothing."""


class ProbeFailed(Exception):
    """Not even the first request was answered; the text is a sentence that says why."""


class FeatureResults(Struct, frozen=True):
    """Which features of a request were accepted."""

    accepted: frozenset[str]
    rejected: dict[str, str]
    """The upstream's words, by feature."""
    inconclusive: dict[str, str]
    """The reason why nothing is known, by feature."""
    reply: Reply | None
    """The reply to the last request that was accepted."""


class ProbeState:
    """The findings on one model of an upstream, and the fields that its requests need."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
        self.stream_options: Fields = {}
        self.thinks = False
        """It thinks by default."""
        self.thinking_off: Fields | None = None
        """The fields that switch its thinking off, where they are known."""
        self.reasoning_field: str | None = None
        """The field in which reasoning arrives."""
        self.tools = True
        """It accepts tools, as far as is known."""
        self.calls = False
        """A call was seen, even one in the text."""
        self.marks: set[str] = set()
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        """Observations that are no fact of a dialect, as sentences."""
        self.unknown: dict[str, str] = {}
        """The reason why nothing is known, by topic."""

    def body(self, messages: list[Fields], **fields: Any) -> Fields:  # noqa: ANN401 - JSON
        """A request body with the limit and stream options that this upstream accepts."""
        body: Fields = {"model": self.model, "messages": messages, "stream": True}
        return {**body, **self.stream_options, self.limit_field: MAX_TOKENS, **fields}

    def send(
        self, topic: str, body: Fields, *, pattern: str = NEVER, whole: bool = True
    ) -> Check[Outcome]:
        """Send one request, and once more where the first one was lost.

        A server failure whose text matches `pattern` counts as a rejection: some servers answer 500
        to what they do not support.
        """
        outcome = _unmasked((yield ProbeRequest(topic, body, whole)), pattern)
        if isinstance(outcome, Inconclusive) and outcome.lost:
            outcome = _unmasked((yield ProbeRequest(f"{topic}, again", body, whole)), pattern)
        match outcome:
            case Accepted(reply):
                self.marks |= reply.marks
            case Inconclusive(reason):
                self.unknown[topic] = reason
            case Rejected():
                pass
        return outcome

    def send_features(
        self,
        topic: str,
        patterns: Mapping[str, str],
        body: Callable[[Collection[str]], Fields],
        *,
        any_pattern: str = NEVER,
        essential: str = "",
        sticky: Collection[str] = (),
        whole: bool = False,
        control: bool = False,
    ) -> Check[FeatureResults]:
        """Find out which of several features are accepted, in as few requests as possible.

        `patterns` maps each feature to the pattern by which a rejection names it. `body` builds the
        request with some of them; without any it must be acceptable. `any_pattern` matches
        rejections that are about these features without naming one. The search ends once the
        `essential` feature is settled and not accepted. A `sticky` feature is left out only where a
        rejection names it. `control`: where rejections name no feature and none is accepted, the
        request is sent without any; if that is rejected, too, nothing is known of the features.
        """
        known_patterns = "|".join((any_pattern, *patterns.values()))
        left: list[str] = list(patterns)
        results = FeatureResults(frozenset(), {}, {}, None)
        one_by_one = False
        while left:
            kept = [name for name in patterns if name in sticky and name not in results.rejected]
            loose = [name for name in left if name not in sticky]
            held: list[str] = [*loose[:1], *kept] if one_by_one else left
            named = held if len(held) < len(patterns) else ["all"]
            label = topic if len(patterns) == 1 else f"{topic}: {', '.join(named)}"
            outcome = yield from self.send(label, body(held), pattern=known_patterns, whole=whole)
            settled: list[str] = held
            match outcome:
                case Accepted(reply):
                    accepted = results.accepted.union(held)
                    results = replace(results, accepted=accepted, reply=reply)
                case Inconclusive(reason):
                    inconclusive = results.inconclusive | dict.fromkeys(held, reason)
                    results = replace(results, inconclusive=inconclusive)
                case Rejected(text):
                    settled = [name for name in held if _matches(patterns[name], text)]
                    if not settled and (one_by_one or len(held) == 1):
                        settled = loose[:1] or held
                    one_by_one = one_by_one or not settled
                    rejected = results.rejected | dict.fromkeys(settled, text)
                    results = replace(results, rejected=rejected)
            left = [name for name in left if name not in settled]
            if essential in settled and essential not in results.accepted:
                break
        if control and one_by_one and not results.accepted and results.rejected:
            outcome = yield from self.send(f"{topic}: none", body(()), pattern=known_patterns)
            if not isinstance(outcome, Accepted):
                reason = f"rejected without any of it, too: {describe(outcome)}"
                self.unknown[topic] = reason
                inconclusive = dict.fromkeys(patterns, reason)
                results = FeatureResults(frozenset(), {}, inconclusive, None)
        return results

    def fact(
        self,
        name: str,
        *values: Any,  # noqa: ANN401 - the value of any fact
        evidence: str,
        weak: bool = False,
    ) -> None:
        """Record that a fact has one of some values; the first one corrects a dialect."""
        finding = FactValue(name=name, values=values, evidence=evidence, weak=weak)
        self.findings.append(finding)

    def not_seen(self, topic: str, reason: str) -> None:
        """Record that an effect was not seen, which proves nothing."""
        self.unknown[topic] = f"not seen: {reason}"


def _unmasked(outcome: Outcome, pattern: str) -> Outcome:
    """A server failure as the rejection that its text makes of it."""
    if isinstance(outcome, Inconclusive) and _matches(pattern, outcome.text):
        return Rejected(outcome.text)
    return outcome


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None
