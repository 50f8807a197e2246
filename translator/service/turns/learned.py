"""Learned facts: what refusals have taught of each model of an upstream, for a while.

An upstream may change, and a refusal may have been misread: so all that was learned of a model is
forgotten some hours after the first of it, and learned again if need be, at the price of a refused
attempt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from translator.common.schemas import SchemaRules
from translator.reader.rejected_fields import RejectedField
from translator.reader.taught_facts import merged_fact

MAX_MODELS = 1000
"""Models to remember facts of: without a model table, clients name any."""

MAX_FIELDS = 64
"""Rejected fields, or values of fields, to remember of one model."""


class Learned(Struct, frozen=True):
    """What was learned of one model of an upstream.

    `facts` are fields of its dialect with the values that its requests need. `contested` are those
    that were taught one way and then the other, as by two servers behind one address: the second
    lesson stays, so that what is remembered does not change to and fro.
    """

    refused: tuple[RejectedField, ...] = ()
    facts: Mapping[str, Any] = {}
    contested: frozenset[str] = frozenset()

    def merged(self, found: Learned) -> Learned:
        """These facts and those found since; the oldest fields are forgotten first."""
        facts, contested = dict(self.facts), set(self.contested)
        for name, taught in found.facts.items():
            value = merged_fact(facts.get(name), taught)
            if name in facts and value != facts[name] and not isinstance(value, SchemaRules):
                if name in contested:
                    continue
                contested.add(name)
            facts[name] = value
        refused = tuple(dict.fromkeys((*self.refused, *found.refused)))
        return Learned(refused[-MAX_FIELDS:], facts, frozenset(contested))


NOTHING_LEARNED = Learned()


class _Entry(Struct):
    learned: Learned
    until: float


class LearnedFacts:
    """The facts that this process has learned, by upstream and model; an LRU cache that expires."""

    def __init__(self, ttl_s: float, now: Callable[[], float]) -> None:
        """`ttl_s` is how long facts are remembered, in seconds of the clock `now`."""
        self._ttl_s = ttl_s
        self._now = now
        self._by_model: OrderedDict[tuple[str, str], _Entry] = OrderedDict()

    def recall(self, upstream: str, model: str) -> Learned:
        """The facts of a model, by the upstream's own id of it."""
        entry = self._by_model.get((upstream, model))
        if entry is None:
            return NOTHING_LEARNED
        if self._now() >= entry.until:
            del self._by_model[upstream, model]
            return NOTHING_LEARNED
        self._by_model.move_to_end((upstream, model))
        return entry.learned

    def keep(self, upstream: str, model: str, found: Learned) -> None:
        """Add facts; other requests may have learned others meanwhile."""
        known = self.recall(upstream, model)
        entry = self._by_model.get((upstream, model))
        if entry is None:
            until = self._now() + self._ttl_s
            self._by_model[upstream, model] = _Entry(known.merged(found), until)
        else:
            entry.learned = known.merged(found)
        while len(self._by_model) > MAX_MODELS:
            self._by_model.popitem(last=False)


def in_words(found: Learned) -> str:
    """What was learned, for the log."""
    return ", ".join([*map(_in_words, found.refused), *_facts_in_words(found.facts)])


def _in_words(refused: RejectedField) -> str:
    """A rejected field for the log, without what the client sent."""
    if refused.instead is not None:
        return f"it takes {refused.field} as {refused.instead}"
    if refused.limit is not None:
        return f"it takes a {refused.field} up to {refused.limit}"
    if refused.levels:
        return f"it takes a {refused.field} of {', '.join(refused.levels)}"
    return f"it rejects {'' if refused.value is None else 'a value of '}{refused.field}"


def _facts_in_words(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("reasoning_required"):
        yield "it rejects messages without reasoning"
        return
    if facts.get("reasoning_replay") == "drop":
        yield "it rejects messages with reasoning"
    if "schema_rules" in facts:
        yield "it rejects some schemas"
    for name, value in facts.items():
        if not name.startswith("reasoning_re") and name != "schema_rules":
            yield f"it needs {name} = {str(value).lower()}"
