"""The probe run: model list, plan, ranking, and the replay of one agent turn.

The replay sends a request exactly as the service would translate it for the best dialect. If the
upstream rejects a field of it, that is a further finding, and the ranking is repeated.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import httpx
import msgspec

from translator import Target, Translation
from translator.dialects import Dialect, nearest_effort
from translator.reader.rejected_fields import find_rejected_fields
from translator.service.config.settings import Server, Upstream
from translator.service.upstreams.client import Upstreams

from . import payloads
from .client import ProbeClient
from .findings import EffortFieldRejected, EffortRejected, FactValue, Finding
from .payloads import ProbeRequest
from .plan import plan
from .replies import Accepted, Outcome, Rejected, describe, quoted
from .report import TAKEN, Report
from .state import ProbeFailed, ProbeState
from .verdict import Fit, marked, ranked

MAX_REQUESTS = 60
"""Most requests that are sent; about thirty are needed."""

MAX_SECONDS = 600.0
"""Longest time for all of them."""

EFFORT = "medium"
"""Reasoning effort of the agent turn."""

MAX_REPLAYS = 3
"""Most attempts at the agent turn; each rejection adds findings."""

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
    upstreams = Upstreams(Server(), transport)
    try:
        client = ProbeClient(
            upstreams,
            upstream,
            max_requests=max_requests,
            max_seconds=max_seconds,
            now=now,
            sleep=sleep,
            progress=progress,
        )
        models, owners = await client.models()
        state = ProbeState(model)
        try:
            await _run_plan(state, client)
        except ProbeFailed as error:
            raise ProbeFailed(_failure(error, client.status, model, models)) from None
        marks = state.marks | owners
        rank = partial(ranked, model=model, base_url=upstream.base_url, marks=marks, only=only)
        fits, agent_turn = await _replay(rank, state, client)
    finally:
        await upstreams.aclose()
    return Report(
        model=model,
        base_url=upstream.base_url,
        fits=fits,
        findings=state.findings,
        notes=state.notes,
        unknown=state.unknown,
        marks=marked(fits[0].name, marks),
        agent_turn=agent_turn,
        requests=client.requests,
    )


async def _run_plan(state: ProbeState, client: ProbeClient) -> None:
    check = plan(state)
    request = next(check)
    try:
        while True:
            request = check.send(await client.send(request))
    except StopIteration:
        return


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


async def _replay(
    rank: Callable[[list[Finding]], list[Fit]], state: ProbeState, client: ProbeClient
) -> tuple[list[Fit], str]:
    """The ranked dialects, and the outcome of an agent turn in the first one."""
    for _ in range(MAX_REPLAYS):
        fits = rank(state.findings)
        request = _agent_turn(fits[0].corrected, state.model)
        outcome = await client.send(request)
        findings = _rejected_facts(outcome, request, fits[0].corrected)
        if not findings:
            return fits, TAKEN if isinstance(outcome, Accepted) else describe(outcome)
        state.findings += findings
    return rank(state.findings), "rejected, each time for another reason"


def _agent_turn(dialect: Dialect, model: str) -> ProbeRequest:
    """One turn of an agent, exactly as the service would send it in this dialect."""
    call = {"type": "function_call", "call_id": payloads.ORDINARY_ID, "name": payloads.TOOL}
    function = payloads.tool()["function"]
    request: dict[str, Any] = {
        "model": model,
        "stream": True,
        "instructions": "You answer briefly.",
        "input": [
            {"role": "developer", "content": "You are polite."},
            {"role": "user", "content": "What is the weather in Paris?"},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": payloads.REASONING}],
            },
            {**call, "arguments": '{"city": "Paris"}'},
            {
                "type": "function_call_output",
                "call_id": payloads.ORDINARY_ID,
                "output": "18 degrees, no wind",
            },
            {"role": "developer", "content": "The user is in a hurry."},
            {"role": "user", "content": "Thank you. Is that warm? Answer yes or no."},
        ],
        "tools": [{"type": "function", "strict": True, **function}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": EFFORT},
        "max_output_tokens": payloads.MAX_TOKENS,
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
    return ProbeRequest(f"agent turn in dialect {dialect.name}", body)


_SWITCHED_OFF = {"parallel_tool_calls": "parallel_tool_calls", "stream_options": "stream_usage"}
"""Chat fields, each with the fact that leaves it out."""


def _rejected_facts(outcome: Outcome, request: ProbeRequest, dialect: Dialect) -> list[Finding]:
    """The findings of a rejected agent turn that contradict the dialect that wrote it."""
    if not isinstance(outcome, Rejected):
        return []
    evidence = f"in an agent turn it was rejected: {quoted(outcome.text)}"
    level = nearest_effort(dialect.efforts, EFFORT) if dialect.efforts else EFFORT
    findings: list[Finding] = []
    for one in find_rejected_fields(outcome.text, msgspec.json.encode(request.body)):
        field = one.field.partition(".")[0]
        if field in dialect.efforts.get(level, {}):
            if one.value is None:
                findings.append(EffortFieldRejected(name=field, evidence=evidence))
            else:
                fields = {field: request.body[field]}
                findings.append(EffortRejected(level=level, ways=[fields], evidence=evidence))
        elif one.field in _SWITCHED_OFF:
            name = _SWITCHED_OFF[one.field]
            findings.append(FactValue(name=name, values=(False,), evidence=evidence))
    return [finding for finding in findings if not finding.agrees(dialect)]
