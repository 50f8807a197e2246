"""`translator probe`: which dialect an unknown upstream speaks, found by asking it.

    models, interview, ranking, one request as the chosen dialect writes it

The questions are `questions`, their order `interview`, what their answers mean
`findings`, which dialect that is `verdict`, and `asking` sends them.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from translator import Target, Translation
from translator.dialects import BASE, Dialect, known_host, nearest_effort
from translator.dialects.table import all_facts
from translator.reader.rejected_fields import find_rejected_fields
from translator.service.config.settings import Server, Upstream
from translator.service.upstreams.client import Upstreams

from . import questions as ask
from .asking import Asker
from .findings import Finding, Is, NoEffortField, NotSent
from .interview import interview
from .notebook import CouldNotAsk, Notebook
from .questions import Question
from .replies import Outcome, Refused, Taken, quoted, told
from .verdict import Fit, marked, ranked, settings_lines

MAX_REQUESTS = 60
"""How many requests are sent at most; about thirty are needed."""

MAX_SECONDS = 600.0
"""How long the questions take at most."""

EFFORT = "medium"

MAX_CHECKS = 3
"""How often a request as the chosen dialect writes it is tried: a refusal teaches something."""

MAX_MODELS_NAMED = 5


class Report(Struct, frozen=True):
    """What was found, and what follows from it."""

    model: str
    base_url: str
    fits: list[Fit]
    """All dialects, the closest first."""
    findings: list[Finding]
    notes: list[str]
    unknown: dict[str, str]
    """Why nothing is known, by topic."""
    marks: list[str]
    """Marks of the closest dialect that were seen."""
    check: str
    """What became of a request as this dialect writes it."""
    requests: int

    @property
    def best(self) -> Fit:
        return self.fits[0]

    @property
    def equals(self) -> list[str]:
        """Other dialects that no more findings contradict."""
        return [fit.name for fit in self.fits[1:] if fit.distance == self.best.distance]


async def probe(
    upstream: Upstream,
    model: str,
    *,
    only: str | None = None,
    max_requests: int = MAX_REQUESTS,
    max_seconds: float = MAX_SECONDS,
    progress: Callable[[str], None] = lambda _line: None,
    transport: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Report:
    """Ask an upstream about one model (its own id); raises CouldNotAsk.

    `only` names the dialect to correct, where it is known. `progress` is given one line at a time.
    """
    upstreams = Upstreams(Server(), transport)
    try:
        asker = Asker(
            upstreams,
            upstream,
            max_requests=max_requests,
            max_seconds=max_seconds,
            now=now,
            sleep=sleep,
            progress=progress,
        )
        models, owners = await asker.models()
        book = Notebook(model)
        try:
            await _interviewed(book, asker)
        except CouldNotAsk as error:
            raise CouldNotAsk(_reason(error, asker.status, model, models)) from None
        marks = book.marks | owners
        rank = partial(ranked, model=model, base_url=upstream.base_url, marks=marks, only=only)
        fits, check = await _checked(rank, book, asker)
    finally:
        await upstreams.aclose()
    return Report(
        model=model,
        base_url=upstream.base_url,
        fits=fits,
        findings=book.findings,
        notes=book.notes,
        unknown=book.unknown,
        marks=marked(fits[0].name, marks),
        check=check,
        requests=asker.requests,
    )


async def _interviewed(book: Notebook, asker: Asker) -> None:
    questions = interview(book)
    question = next(questions)
    try:
        while True:
            question = questions.send(await asker.ask(question))
    except StopIteration:
        return


def _reason(error: CouldNotAsk, status: int, model: str, models: Sequence[str]) -> str:
    """Why nothing could be asked, with what to do about it where that is clear."""
    if status in (401, 403):
        return (
            f"The upstream did not accept the key ({status}); "
            "--api-key-env names the variable that holds it."
        )
    if status in (400, 404) and models and model not in models:
        near = difflib.get_close_matches(model, models, n=MAX_MODELS_NAMED, cutoff=0.3)
        known = ", ".join(near or models[:MAX_MODELS_NAMED])
        return f"The upstream knows no model {model}; among those that it lists: {known}."
    if status == 404:
        return f"{error} (404: are the URL, up to /chat/completions, and the model's id right?)"
    return str(error)


async def _checked(
    rank: Callable[[list[Finding]], list[Fit]], book: Notebook, asker: Asker
) -> tuple[list[Fit], str]:
    """The dialects in their order, and what became of a request as the first one writes it."""
    for _ in range(MAX_CHECKS):
        fits = rank(book.findings)
        question = _check(fits[0].right, book.model)
        outcome = await asker.ask(question)
        learned = _learned(outcome, question, fits[0].right)
        if not learned:
            return fits, "taken" if isinstance(outcome, Taken) else told(outcome)
        book.findings += learned
    return rank(book.findings), "refused, each time for something else"


# --- the last question ----------------------------------------------------------------------------


def _check(dialect: Dialect, model: str) -> Question:
    """A turn of an agent, as the service would send it to this dialect."""
    call = {"type": "function_call", "call_id": ask.ORDINARY_ID, "name": ask.TOOL}
    function = ask.tool()["function"]
    request: dict[str, Any] = {
        "model": model,
        "stream": True,
        "instructions": "You answer briefly.",
        "input": [
            {"role": "developer", "content": "You are polite."},
            {"role": "user", "content": "What is the weather in Paris?"},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": ask.REASONING}],
            },
            {**call, "arguments": '{"city": "Paris"}'},
            {
                "type": "function_call_output",
                "call_id": ask.ORDINARY_ID,
                "output": "18 degrees, no wind",
            },
            {"role": "developer", "content": "The user is in a hurry."},
            {"role": "user", "content": "Thank you. Is that warm? Answer yes or no."},
        ],
        "tools": [{"type": "function", "strict": True, **function}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": EFFORT},
        "max_output_tokens": ask.MAX_TOKENS,
        "store": False,
    }
    count = itertools.count(1)
    translation = Translation(
        request,
        dialect=dialect,
        response_id="resp_probe",
        created_at=0,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        target=Target(model=model),
    )
    body: dict[str, Any] = msgspec.json.decode(translation.chat_body)
    return Question("an agent's turn, as this dialect writes it", body)


def _learned(outcome: Outcome, question: Question, dialect: Dialect) -> list[Finding]:
    """What a refusal of a request that `dialect` wrote says against it."""
    if not isinstance(outcome, Refused):
        return []
    evidence = f"in an agent's turn it was refused: {quoted(outcome.text)}"
    level = nearest_effort(dialect.efforts, EFFORT) if dialect.efforts else EFFORT
    learned: list[Finding] = []
    for one in find_rejected_fields(outcome.text, msgspec.json.encode(question.body)):
        if one.field in dialect.efforts.get(level, {}):
            if one.value is None:
                learned.append(NoEffortField(name=one.field, evidence=evidence))
            else:
                fields = {one.field: question.body[one.field]}
                learned.append(NotSent(level=level, ways=[fields], evidence=evidence))
        elif one.field in _SWITCHED_OFF:
            name = _SWITCHED_OFF[one.field]
            learned.append(Is(name=name, values=(False,), evidence=evidence))
    return [finding for finding in learned if not finding.holds(dialect)]


_SWITCHED_OFF = {"parallel_tool_calls": "parallel_tool_calls", "stream_options": "stream_usage"}
"""Chat fields, and the facts that leave them out."""


# --- in words -------------------------------------------------------------------------------------


def as_settings(
    report: Report, *, name: str, api_key_env: str | None, given: Sequence[str] = ()
) -> str:
    """The report as a file of settings: what was seen stands in comments.

    `given` are more lines of the upstream's section.
    """
    best = report.best
    agreed = len(report.findings) - len(best.contradicted)
    lines = [
        f"# {report.base_url}, model {report.model}: {report.requests} requests",
        "#",
        "# seen:",
        *(f"#   {f.seen}  ({f.evidence})" for f in report.findings),
    ]
    if report.notes:
        lines += ["#", "# besides:", *(f"#   {note}" for note in report.notes)]
    if report.unknown:
        lines += ["#", "# not known:"]
        lines += [f"#   {line}" for line in _by_reason(report.unknown)]
    lines += ["#", f"# closest dialect: {best.name} ({_agreement(agreed, len(report.findings))})"]
    if report.marks:
        lines.append(f"#   marks of it that were seen: {', '.join(sorted(set(report.marks)))}")
    if report.equals:
        lines.append(f"#   as close: {', '.join(report.equals)}")
    host = known_host(urlsplit(report.base_url).hostname or "")
    if host not in (BASE.name, best.name):
        lines.append(f"#   this host is known to speak {host}, and seems to have changed")
    lines += [f"#   an agent's turn, as it is written for this dialect: {report.check}", ""]
    lines += settings_lines(
        best, name=name, base_url=report.base_url, api_key_env=api_key_env, given=given
    )
    return "".join(f"{_comment(line) if line.startswith('#') else line}\n" for line in lines)


def _by_reason(unknown: Mapping[str, str]) -> Iterator[str]:
    """Topics that share a reason, on one line."""
    for reason in dict.fromkeys(unknown.values()):
        topics = (topic for topic, why in unknown.items() if why == reason)
        yield f"{', '.join(topics)}: {reason}"


def _agreement(agreed: int, findings: int) -> str:
    if not findings:
        return "nothing was found to tell by"
    return f"{agreed} of {findings} findings agree"


def _comment(line: str) -> str:
    """A comment without what TOML does not allow in one."""
    return "".join(c if c.isprintable() else " " for c in line)


def as_json(report: Report, *, name: str, api_key_env: str | None) -> dict[str, Any]:
    """The report as JSON knows values."""
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
        "check": report.check,
        "dialects": [{"name": fit.name, "contradicted": fit.distance} for fit in report.fits],
        "facts": all_facts(best.right),
        "settings": settings_lines(
            best, name=name, base_url=report.base_url, api_key_env=api_key_env
        ),
        "requests": report.requests,
    }
