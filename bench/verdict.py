"""Performance targets, and whether the figures of one run meet them.

Targets are ratios wherever the machine would otherwise decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from .section import DIRECT, LITELLM, NGINX, OURS, Facts, Section, table


class Promise(msgspec.Struct, frozen=True):
    """One target. `measured` raises KeyError where a fact is missing."""

    what: str
    relation: Literal["≤", "≥"]
    limit: float
    unit: str
    """The suffix of the numbers, with its space where it needs one."""

    measured: Callable[[Facts], float]
    digits: int = 2

    def row(self, facts: Facts) -> tuple[str, str, str, str]:
        target = f"{self.relation} {self.limit:g}{self.unit}"
        try:
            value = self.measured(facts)
        except KeyError:
            return self.what, target, "–", "not measured"
        met = value <= self.limit if self.relation == "≤" else value >= self.limit
        return self.what, target, f"{value:,.{self.digits}f}{self.unit}", "yes" if met else "no"


def fact(name: str, owner: str = OURS) -> Callable[[Facts], float]:
    return lambda facts: facts[name, owner]


def ratio(name: str, other: str) -> Callable[[Facts], float]:
    """Ours over another's."""

    def measured(facts: Facts) -> float:
        ours, theirs = facts[name, OURS], facts[name, other]
        return ours / theirs if theirs else float("inf")

    return measured


PROMISES = (
    Promise(
        "CPU per token, 200 streams of 50 tokens a second, relative to nginx forwarding bytes",
        *("≤", 2.0, " ×"),
        ratio("us_per_token 200", NGINX),
    ),
    Promise(
        "the same, relative to LiteLLM", "≤", 1 / 20, " ×", ratio("us_per_token 200", LITELLM), 3
    ),
    Promise(
        "streams of 50 tokens a second on one core, 99 % of tokens younger than 20 ms",
        *("≥", 400, ""),
        fact("capacity"),
        0,
    ),
    Promise("the same, relative to LiteLLM", "≥", 50, " ×", ratio("capacity", LITELLM), 1),
    Promise("time added to the first token, p50, idle", "≤", 1.5, " ms", fact("first_added_ms")),
    Promise(
        "the same, relative to LiteLLM", "≤", 1 / 10, " ×", ratio("first_added_ms", LITELLM), 3
    ),
    Promise("flat out, CPU per token", "≤", 6, " µs", fact("us_per_token flat out")),
    Promise(
        "core alone, bytes to bytes, per text chunk", "≤", 5, " µs", fact("us_per_chunk", "text")
    ),
    Promise(
        "request of 1 MB: decode, translate, encode, relative to `json.loads` + `json.dumps`",
        *("≤", 0.8, " ×"),
        fact("request_to_json", "1 MB"),
    ),
    Promise("memory per open stream that waits", "≤", 40, " KiB", fact("kib_per_stream"), 1),
    Promise("start of the process to the first answer", "≤", 0.8, " s", fact("start_s")),
    Promise(
        "the same, relative to importing the dependencies alone",
        *("≤", 1.5, " ×"),
        lambda facts: facts["start_s", OURS] / facts["import_s", OURS],
    ),
    Promise(
        "longest stall of 200 streams while a 4 MB request is parsed",
        "≤",
        50,
        " ms",
        fact("pause_ms"),
        1,
    ),
    Promise("tokens a second with two workers, relative to one", "≥", 1.7, " ×", fact("workers")),
    Promise(
        "the load alone, 800 streams: 99 % of tokens younger than",
        *("≤", 5, " ms"),
        fact("age_p99_ms 800", DIRECT),
    ),
)


def verdict(facts: Facts) -> Section:
    """The table of targets."""
    return Section(
        title="Targets",
        table=table(
            ("measure", "target", "measured", "met"), [promise.row(facts) for promise in PROMISES]
        ),
    )
