"""The probe run: model list, plan, and verification of the settings to be printed."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import httpx

from translator.service.config.settings import Server, Upstream
from translator.service.upstreams.client import Upstreams

from .client import ProbeClient
from .findings import Finding
from .plan import plan
from .report import TAKEN, Report
from .state import Check, ProbeFailed, ProbeState
from .verdict import Fit, marked, ranked
from .verification import verification

T = TypeVar("T")

MAX_REQUESTS = 60
"""Most requests that are sent; about thirty are needed."""

MAX_SECONDS = 600.0
"""Longest time for all of them."""

MAX_MODELS_NAMED = 5


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
    """Probe one model (by the upstream's id) of an upstream; raises ProbeFailed.

    `only` names the dialect to correct, where it is known. `progress` receives one line at a time.
    """
    client = ProbeClient(
        lambda: Upstreams(Server(), transport),
        upstream,
        max_requests=max_requests,
        max_seconds=max_seconds,
        now=now,
        sleep=sleep,
        progress=progress,
    )
    models = await client.models(model)
    state = ProbeState(model)
    try:
        await _run(plan(state), client)
    except ProbeFailed as error:
        raise ProbeFailed(_failure(error, client.status, model, models)) from None

    def rank(findings: Sequence[Finding]) -> list[Fit]:
        marks = state.marks | client.marks
        return ranked(findings, model=model, base_url=upstream.base_url, marks=marks, only=only)

    verified = await _run(verification(state, rank, model), client)
    last, best = verified.trials[-1], verified.fits[0].name
    return Report(
        model=model,
        base_url=upstream.base_url,
        fits=verified.fits,
        findings=state.findings,
        notes=state.notes,
        unknown=state.unknown,
        marks=[client.redact(mark) for mark in marked(best, state.marks | client.marks)],
        agent_turn=TAKEN if last.status == "passed" else last.reason,
        requests=client.requests,
        trials=verified.trials,
    )


async def _run(check: Check[T], client: ProbeClient) -> T:
    """Send the requests of a check; what it returns."""
    try:
        request = next(check)
        while True:
            request = check.send(await client.send(request))
    except StopIteration as end:
        result: T = end.value
        return result


def _failure(error: ProbeFailed, status: int, model: str, models: Sequence[str]) -> str:
    """Why the probe failed, with the remedy where it is clear."""
    if status in (401, 403):
        return (
            f"The upstream rejected the key ({status}); "
            "--api-key-env names the environment variable that holds it."
        )
    if status in (400, 404) and models and model not in models:
        near = difflib.get_close_matches(model, models, n=MAX_MODELS_NAMED, cutoff=0.3)
        known = ", ".join(near or models[:MAX_MODELS_NAMED])
        return f"The upstream has no model {model}; the models that it lists include {known}."
    if status == 404:
        return f"{error} (404: check the URL, which ends before /chat/completions, and the model.)"
    return str(error)
