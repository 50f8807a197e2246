"""Performance goals, and whether the figures of one run meet them.

Goals are ratios wherever the machine would otherwise decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from .section import (
    CODEX_RELAY,
    DIRECT,
    LITELLM,
    NGINX,
    OURS,
    SWITCHYARD,
    Facts,
    Section,
    table,
)


class Goal(msgspec.Struct, frozen=True):
    """One goal. `measured` raises KeyError where a fact is missing."""

    what: str
    relation: Literal["≤", "≥"]
    limit: float
    unit: str
    """The suffix of the numbers, with its space where it needs one."""

    measured: Callable[[Facts], float]
    digits: int = 2

    @property
    def target(self) -> str:
        return f"{self.relation} {self.limit:.4g}{self.unit}"

    def value(self, facts: Facts) -> float | None:
        """The figure of a run; None where it was not measured."""
        try:
            return self.measured(facts)
        except KeyError:
            return None

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.relation == "≤" else value >= self.limit

    def text(self, value: float | None) -> str:
        return "–" if value is None else f"{value:,.{self.digits}f}"

    def row(self, facts: Facts) -> tuple[str, str, str, str]:
        value = self.value(facts)
        if value is None:
            return self.what, self.target, "–", "not measured"
        met = "yes" if self.is_met(value) else "no"
        return self.what, self.target, f"{self.text(value)}{self.unit}", met


def fact(name: str, owner: str = OURS) -> Callable[[Facts], float]:
    return lambda facts: facts[name, owner]


def ratio(name: str, other: str) -> Callable[[Facts], float]:
    """Ours over another's; where that is 0, there is nothing to compare with."""

    def measured(facts: Facts) -> float:
        ours, theirs = facts[name, OURS], facts[name, other]
        if not theirs:
            raise KeyError(name, other)
        return ours / theirs

    return measured


LOAD_ALONE = Goal(
    "the load alone, 800 streams: 99 % of tokens younger than",
    *("≤", 5, " ms"),
    fact("age_p99_ms 800", DIRECT),
)
"""Whether the rig itself keeps up; where it does not, other programs run, and times say little."""

GOALS = (
    Goal(
        "CPU per token, 200 streams of 50 tokens a second, relative to nginx forwarding bytes",
        *("≤", 1.6, " ×"),
        ratio("us_per_token 200", NGINX),
    ),
    Goal(
        "the same, relative to codex-relay (Rust)",
        *("≤", 1.0, " ×"),
        ratio("us_per_token 200", CODEX_RELAY),
    ),
    Goal(
        "streams of 50 tokens a second on one core, 99 % of tokens younger than 20 ms, relative to "
        "codex-relay",
        *("≥", 1.0, " ×"),
        ratio("capacity", CODEX_RELAY),
    ),
    Goal(
        "CPU per short request, relative to nemo-switchyard (Rust)",
        *("≤", 1.0, " ×"),
        ratio("us_per_request", SWITCHYARD),
    ),
    Goal("time added to the first token, p50, idle", "≤", 0.65, " ms", fact("first_added_ms")),
    Goal(
        "start of the process to the first answer, relative to importing the dependencies alone",
        *("≤", 1.3, " ×"),
        lambda facts: facts["start_s", OURS] / facts["import_s", OURS],
    ),
    Goal(
        "longest stall of 200 streams while a 4 MB request is parsed",
        *("≤", 30, " ms"),
        fact("pause_ms"),
        1,
    ),
    Goal("memory per open stream that waits", "≤", 30, " KiB", fact("kib_per_stream"), 1),
    Goal("flat out, CPU per token", "≤", 6, " µs", fact("us_per_token flat out")),
    Goal("core alone, bytes to bytes, per text chunk", "≤", 5, " µs", fact("us_per_chunk", "text")),
    Goal(
        "request of 1 MB: decode, translate, encode, relative to `json.loads` + `json.dumps`",
        *("≤", 0.8, " ×"),
        fact("request_to_json", "1 MB"),
    ),
    Goal("tokens a second with two workers, relative to one", "≥", 1.7, " ×", fact("workers")),
    LOAD_ALONE,
)
"""What `python -m bench goals` measures."""

BESIDE_LITELLM = (
    Goal(
        "CPU per token, 200 streams, relative to LiteLLM",
        *("≤", 1 / 20, " ×"),
        ratio("us_per_token 200", LITELLM),
        3,
    ),
    Goal("streams in time, relative to LiteLLM", "≥", 50, " ×", ratio("capacity", LITELLM), 1),
    Goal(
        "time added to the first token, relative to LiteLLM",
        *("≤", 1 / 10, " ×"),
        ratio("first_added_ms", LITELLM),
        3,
    ),
)
"""What only `make bench` measures: LiteLLM takes minutes."""


def goals_beside(commit: str) -> tuple[Goal, ...]:
    """Ours relative to an earlier commit that was measured in the same run."""

    def goal(what: str, limit: float, measure: str) -> Goal:
        return Goal(f"{what}, relative to {commit}", "≤", limit, " ×", ratio(measure, commit))

    return (
        goal("CPU per short request", 0.5, "us_per_request"),
        goal("time added to the first token, p50", 0.5, "first_added_ms"),
        goal("CPU per token, 200 streams", 1.0, "us_per_token 200"),
        goal("memory per open stream that waits", 1.0, "kib_per_stream"),
        goal("longest stall while a 4 MB request is parsed", 1.0, "pause_ms"),
        goal("start of the process to the first answer", 1.0, "start_s"),
    )


def verdict(facts: Mapping[tuple[str, str], float]) -> Section:
    """The table of goals, as one run of `make bench` meets them."""
    return Section(
        title="Goals",
        table=table(
            ("measure", "goal", "measured", "met"),
            [goal.row(facts) for goal in (*GOALS, *BESIDE_LITELLM)],
        ),
    )
