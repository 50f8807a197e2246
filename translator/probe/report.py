"""Probe report: the result of a run, printed as settings in TOML or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from translator.dialects import BASE, known_host
from translator.dialects.table import all_facts

from .findings import Finding
from .verdict import Fit, settings_lines

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

    @property
    def best(self) -> Fit:
        return self.fits[0]

    @property
    def equals(self) -> list[str]:
        """Other dialects with as few contradictions."""
        return [fit.name for fit in self.fits[1:] if fit.distance == self.best.distance]


def as_settings(
    report: Report, *, name: str, api_key_env: str | None, given: Sequence[str] = ()
) -> str:
    """The report as a settings file, with the findings in comments.

    `given` are more lines of the upstream's section.
    """
    best = report.best
    agreed = len(report.findings) - len(best.contradicted)
    lines = [
        f"# {report.base_url}, model {report.model}: {report.requests} requests",
        "#",
        "# findings:",
        *(f"#   {f.seen}  ({f.evidence})" for f in report.findings),
    ]
    if report.notes:
        lines += ["#", "# notes:", *(f"#   {note}" for note in report.notes)]
    if report.unknown:
        lines += ["#", "# unknown:"]
        lines += [f"#   {line}" for line in _by_reason(report.unknown)]
    lines += ["#", f"# closest dialect: {best.name} ({_agreement(agreed, len(report.findings))})"]
    if report.marks:
        lines.append(f"#   recognised by: {', '.join(report.marks)}")
    if report.equals:
        lines.append(f"#   equally close: {', '.join(report.equals)}")
    host = known_host(urlsplit(report.base_url).hostname or "")
    if host not in (BASE.name, best.name):
        lines.append(f"#   this host is known for the dialect {host}, and seems to have changed")
    agent_turn = "accepted" if report.agent_turn == TAKEN else report.agent_turn
    lines += [f"#   agent turn in this dialect: {agent_turn}", ""]
    lines += settings_lines(
        best, name=name, base_url=report.base_url, api_key_env=api_key_env, given=given
    )
    return "".join(f"{_comment(line) if line.startswith('#') else line}\n" for line in lines)


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


def as_json(report: Report, *, name: str, api_key_env: str | None) -> dict[str, Any]:
    """The report as a JSON object."""
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
        "dialects": [{"name": fit.name, "contradicted": fit.distance} for fit in report.fits],
        "facts": all_facts(best.corrected),
        "settings": settings_lines(
            best, name=name, base_url=report.base_url, api_key_env=api_key_env
        ),
        "requests": report.requests,
    }
