"""The notebook of an interview: how a question is asked, and what was written down.

Where a request holds several things that may be refused, all are asked at once: the words of a
refusal often name one, which is then left out. Where they name none, each is asked by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from .findings import Finding, Is
from .payloads import MAX_TOKENS, Fields, Question
from .replies import Outcome, Refused, Reply, Taken, Unclear

T = TypeVar("T")
Asking = Generator[Question, Outcome, T]
"""Yields questions, is sent their outcomes, and returns what it was about."""

NEVER = r"(?!)"


class CouldNotAsk(Exception):
    """Not even the first question was answered; the text is a sentence that says why."""


class Trial(Struct, frozen=True):
    """What became of several things that one request held."""

    taken: frozenset[str]
    refused: dict[str, str]
    """The words of each refusal."""
    unclear: dict[str, str]
    """Why nothing is known."""
    reply: Reply | None
    """The answer to the last request that was taken."""


class Notebook:
    """What is known so far of one model of an upstream."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.limit = "max_tokens"
        """The field that limits an answer."""
        self.stream_options: Fields = {}
        self.thinks = False
        """It thinks when nothing is said of it."""
        self.off: Fields | None = None
        """What switches its thinking off, where that is known."""
        self.came_in: str | None = None
        """The field in which reasoning came."""
        self.marks: set[str] = set()
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        """What was seen and is no fact of a dialect, in sentences."""
        self.unknown: dict[str, str] = {}
        """Why nothing is known, by topic."""

    def body(self, messages: list[Fields], **fields: Any) -> Fields:  # noqa: ANN401 - JSON
        body: Fields = {"model": self.model, "messages": messages, "stream": True}
        return {**body, **self.stream_options, self.limit: MAX_TOKENS, **fields}

    def ask(
        self, topic: str, body: Fields, *, words: str = NEVER, whole: bool = True
    ) -> Asking[Outcome]:
        """Ask one question. A server that fails with these `words` refuses what it was asked."""
        outcome = yield Question(topic, body, whole)
        if isinstance(outcome, Unclear) and _names(words, outcome.text):
            outcome = Refused(outcome.text)
        match outcome:
            case Taken(reply):
                self.marks |= reply.marks
            case Unclear(reason):
                self.unknown[topic] = reason
            case Refused():
                pass
        return outcome

    def attempt(
        self,
        topic: str,
        words: Mapping[str, str],
        body: Callable[[Collection[str]], Fields],
        *,
        about: str = NEVER,
        point: str = "",
        steady: Collection[str] = (),
        whole: bool = False,
    ) -> Asking[Trial]:
        """Try several things at once; `words` are the patterns by which a refusal names each.

        `body` writes the request that holds some of them. Without any it would be taken. `about`
        are words by which a refusal names what is asked about, and none of them. Once the `point`
        of it all is settled and not taken, the rest is not asked about. What is `steady` is left
        out only where a refusal names it.
        """
        any_words = "|".join((about, *words.values()))
        left: list[str] = list(words)
        trial = Trial(frozenset(), {}, {}, None)
        apart = False  # each by itself
        while left:
            firm = [one for one in words if one in steady and one not in trial.refused]
            loose = [one for one in left if one not in steady]
            held: list[str] = [*loose[:1], *firm] if apart else left
            named = held if len(held) < len(words) else ["all"]
            label = topic if len(words) == 1 else f"{topic}: {', '.join(named)}"
            outcome = yield from self.ask(label, body(held), words=any_words, whole=whole)
            settled: list[str] = held
            match outcome:
                case Taken(reply):
                    trial = replace(trial, taken=trial.taken.union(held), reply=reply)
                case Unclear(reason):
                    trial = replace(trial, unclear=trial.unclear | dict.fromkeys(held, reason))
                case Refused(text):
                    settled = [one for one in held if _names(words[one], text)]
                    if not settled and (apart or len(held) == 1):
                        settled = loose[:1] or held
                    apart = apart or not settled
                    trial = replace(trial, refused=trial.refused | dict.fromkeys(settled, text))
            left = [one for one in left if one not in settled]
            if point in settled and point not in trial.taken:
                break
        return trial

    def fact(
        self,
        name: str,
        *values: Any,  # noqa: ANN401 - whatever the fact is
        evidence: str,
        weak: bool = False,
    ) -> None:
        """Write down that a fact has one of some values."""
        finding = Is(name=name, values=values, evidence=evidence, weak=weak)
        self.findings.append(finding)

    def not_seen(self, topic: str, reason: str) -> None:
        """Write down that an effect was not seen, which says nothing."""
        self.unknown[topic] = f"not seen: {reason}"


def _names(words: str, text: str) -> bool:
    return re.search(words, text, re.IGNORECASE) is not None
