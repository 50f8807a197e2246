"""Probe report: the result of a run, printed as settings in TOML or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from translator.dialects import BASE
from translator.dialects.table import all_facts

from .findings import Finding
from .verdict import MAX_UNSIGNED, Fit, host_of, named, settings_lines
from .verification import Trial

TAKEN = "taken"
"""The outcome `check` of the JSON report, when the agent turn was accepted."""


class Report(Struct, frozen=True):
    """The findings of a run, and the dialects ranked by them."""

    model: str
    base_url: str
    fits: list[Fit]
    """All dialects, the best first."""
    findings: list[Finding]
    notes: list[str]
    unknown: dict[str, str]
    """The reason why nothing is known, by topic."""
    marks: list[str]
    """The marks of the best dialect that were seen."""
    agent_turn: str
    """The outcome of an agent turn in this dialect; `TAKEN` when it was accepted."""
    requests: int
    trials: list[Trial] = []
    """The settings that were tried, the chosen ones last."""

    @property
    def works(self) -> bool:
        """Whether there are settings to print: none that were seen to fail."""
        return not self.trials or self.trials[-1].status not in ("rejected", "wrong")

    @property
    def best(self) -> Fit:
        return self.fits[0]

    @property
    def equals(self) -> list[str]:
        """Other dialects with as few contradictions."""
        return [fit.name for fit in self.fits[1:] if fit.distance == self.best.distance]


def as_settings(
    report: Report,
    *,
    name: str,
    api_key_env: str | None,
    given: Sequence[str] = (),
    fallback_urls: Sequence[str] = (),
) -> str:
    """The report as a settings file, with the findings in comments.

    `given` are more lines of the upstream's section; `fallback_urls`, its other replicas.
    """
    best = report.best
    lines = [f"# {report.base_url}, model {report.model}: {report.requests} requests", "#"]
    lines += [*_verdict(report), *_tried(report)]
    lines += ["#", "# findings:", *(f"#   {f.seen}  ({f.evidence})" for f in report.findings)]
    if report.notes:
        lines += ["#", "# notes:", *(f"#   {note}" for note in report.notes)]
    if report.unknown:
        lines += ["#", "# unknown:"]
        lines += [f"#   {line}" for line in _by_reason(report.unknown)]
    if report.works:
        lines.append("")
        lines += settings_lines(
            best,
            name=name,
            base_url=report.base_url,
            api_key_env=api_key_env,
            given=given,
            fallback_urls=fallback_urls,
        )
    return "".join(f"{_comment(line) if line.startswith('#') else line}\n" for line in lines)


def _verdict(report: Report) -> Iterator[str]:
    """Which dialect is the closest, why, and what its settings were checked by."""
    best = report.best
    agreed = len(report.findings) - len(best.contradicted)
    if not report.works:
        yield "# No settings work: an agent turn failed with all that were tried."
        yield "# So none are printed; what is known of the upstream stands below."
        yield "#"
    yield f"# closest dialect: {best.name} ({_agreement(agreed, len(report.findings))})"
    yield f"#   chosen because {_reason(report)}"
    if report.marks:
        yield f"#   recognised by: {', '.join(report.marks)}"
    if report.equals and best.distance <= MAX_UNSIGNED and not named(best.name, report.marks):
        yield f"#   equally close: {', '.join(report.equals)}"
    host = host_of(report.base_url)
    if host not in (BASE.name, best.name):
        yield f"#   this host is known for the dialect {host}, and seems to have changed"
    if report.works:
        outcome = report.trials[-1].outcome if report.trials else report.agent_turn
        yield f"#   agent turn, as the service writes it with these settings: {outcome}"


def _reason(report: Report) -> str:
    """Why the best dialect comes first."""
    name = report.best.name
    if len(report.fits) == 1:
        return "it was given"
    if report.works and any(trial.dialect != name for trial in report.trials):
        return "those before it failed in an agent turn"
    if name == host_of(report.base_url) != BASE.name:
        return "it is known for this host"
    if named(name, report.marks):
        return "the server names itself"
    if name == BASE.name and report.best.distance:
        return "no known dialect is close, and no server was recognised"
    return "the fewest findings contradict it"


def _tried(report: Report) -> Iterator[str]:
    """The settings that failed, and why."""
    failed = report.trials[: -1 if report.works else None]
    if failed:
        yield "#"
        yield "# settings that failed in an agent turn:"
        for trial in failed:
            yield f"#   {trial.name}: {trial.outcome}"


def _by_reason(unknown: Mapping[str, str]) -> Iterator[str]:
    """One line for each reason, with its topics."""
    for reason in dict.fromkeys(unknown.values()):
        topics = (topic for topic, why in unknown.items() if why == reason)
        yield f"{', '.join(topics)}: {reason}"


def _agreement(agreed: int, findings: int) -> str:
    if not findings:
        return "no findings"
    return f"{agreed} of {findings} findings agree"


def _comment(line: str) -> str:
    """A comment without characters that TOML does not allow in one."""
    return "".join(c if c.isprintable() else " " for c in line)


def as_json(
    report: Report,
    *,
    name: str,
    api_key_env: str | None,
    given: Sequence[str] = (),
    fallback_urls: Sequence[str] = (),
) -> dict[str, Any]:
    """The report as a JSON object; the arguments are those of `as_settings`."""
    best = report.best
    return {
        "upstream": report.base_url,
        "model": report.model,
        "dialect": best.name,
        "overrides": best.overrides,
        "findings": [
            {
                "fact": finding.fact,
                "seen": finding.seen,
                "evidence": finding.evidence,
                "agrees": finding not in best.contradicted,
            }
            for finding in report.findings
        ],
        "notes": report.notes,
        "not_known": report.unknown,
        "marks": report.marks,
        "check": report.agent_turn,
        "works": report.works,
        "tried": [
            {
                "dialect": trial.dialect,
                "variant": trial.variant,
                "status": trial.status,
                "reason": trial.reason,
            }
            for trial in report.trials
        ],
        "dialects": [{"name": fit.name, "contradicted": fit.distance} for fit in report.fits],
        "facts": all_facts(best.corrected),
        "settings": settings_lines(
            best,
            name=name,
            base_url=report.base_url,
            api_key_env=api_key_env,
            given=given,
            fallback_urls=fallback_urls,
        )
        if report.works
        else [],
        "requests": report.requests,
    }
