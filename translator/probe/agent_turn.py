"""The agent turn: one conversation, written and read exactly as the service would.

turn = a conversation after the result of a call | a question that wants a call ;
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from translator import Target, Translation
from translator.dialects import Dialect
from translator.wire.items import FunctionCall, Message, OutputText, Reasoning
from translator.wire.json_values import NOT_JSON, as_object

from . import payloads
from .findings import FactValue, Finding, ThinkTags
from .rejections import contradictions
from .replies import Accepted, Inconclusive, Outcome, Rejected, Reply, is_call, quoted
from .state import ProbeState

EFFORT = "medium"
"""Reasoning effort of the agent turn."""

Status = Literal["passed", "unclear", "wrong", "rejected", "lost", "unknown"]
"""`unclear`: accepted, but the answer does not show whether it is read rightly. `wrong`: accepted,
and misread. `lost`: the connection broke. `unknown`: not sent, or rejected for other reasons than
its content."""


class Read(Struct, frozen=True):
    """What became of one turn, why, and what that shows."""

    status: Status
    reason: str
    findings: list[Finding] = []


def agent_turn(state: ProbeState, dialect: Dialect, *, wants_call: bool = False) -> Translation:
    """One turn of an agent, exactly as the service would send it in this dialect."""
    function = payloads.tool()["function"]
    request: dict[str, Any] = {
        "model": state.model,
        "stream": True,
        "instructions": "You answer briefly.",
        "input": [
            {"role": "developer", "content": "You are polite."},
            {"role": "user", "content": payloads.WEATHER[0]["content"]},
        ],
        "reasoning": {"effort": EFFORT},
        "max_output_tokens": payloads.MAX_TOKENS,
        "store": False,
    }
    if state.tools:
        request |= {
            "tools": [{"type": "function", "strict": True, **function}],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }
    if state.tools and not wants_call:
        call = {"type": "function_call", "call_id": payloads.ORDINARY_ID, "name": payloads.TOOL}
        summary = [{"type": "summary_text", "text": payloads.REASONING}]
        result = {"call_id": payloads.ORDINARY_ID, "output": "18 degrees, no wind"}
        request["input"] += [
            {"type": "reasoning", "summary": summary},
            {**call, "arguments": '{"city": "Paris"}'},
            {"type": "function_call_output", **result},
        ]
    if not wants_call:
        request["input"] += [
            {"role": "developer", "content": "The user is in a hurry."},
            {"role": "user", "content": "Thank you. Is that warm? Answer yes or no."},
        ]
    count = itertools.count(1)
    return Translation(
        request,
        dialect=dialect,
        response_id="resp_probe",
        created_at=0,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        target=Target(model=state.model),
    )


def judged(
    outcome: Outcome,
    translation: Translation,
    body: Mapping[str, Any],
    dialect: Dialect,
    *,
    wants_call: bool,
) -> Read:
    """Whether an agent turn was accepted, and is read rightly."""
    match outcome:
        case Accepted(reply, data):
            translation.receive(data)
            translation.close()
            return _read(translation, reply, wants_call=wants_call)
        case Rejected(text):
            findings = contradictions(text, body, dialect, EFFORT)
            return Read("rejected", f"rejected: {quoted(text)}", findings)
        case Inconclusive(reason, text, lost):
            if not text:
                return Read("lost" if lost else "unknown", reason)
            return Read("rejected", reason, contradictions(text, body, dialect, EFFORT))


def _read(translation: Translation, reply: Reply, *, wants_call: bool) -> Read:
    """Whether text, reasoning and calls of an answer are told apart."""
    output = translation.response.output
    text = "".join(
        part.text
        for item in output
        if isinstance(item, Message)
        for part in item.content
        if isinstance(part, OutputText)
    )
    calls = [item for item in output if isinstance(item, FunctionCall)]
    parts = ["reasoning"] if any(isinstance(item, Reasoning) for item in output) else []
    parts += [f"{len(calls)} call{'s' * (len(calls) > 1)}"] if calls else []
    # in the words of the reply, from which secrets are removed
    parts += [quoted(_after_reasoning(reply).strip(), 40)] if text.strip() else []
    arrived = ", ".join(parts) or "nothing"
    if (wrong := _misread(translation, reply, text, calls)) is not None:
        return wrong
    if reply.truncated:
        return Read("unclear", f"{arrived}, cut at the token limit")
    if not (calls or text.strip()):
        return Read("unclear", f"{arrived}, but neither text nor a call")
    if wants_call and not calls:
        return Read("unclear", f"{arrived}, but no call")
    return Read("passed", arrived)


def _misread(
    translation: Translation, reply: Reply, text: str, calls: Sequence[FunctionCall]
) -> Read | None:
    """What was taken for something else in an answer, or cannot be told."""
    if translation.error is not None:
        if not all(map(_is_object, reply.arguments)):
            return Read("unclear", "the model broke off in a call")
        return Read("wrong", f"the answer is read as an error: {translation.error.code}")
    tags = _tags_in(reply, text)
    if tags is not None and not tags.agrees(translation.dialect):
        return Read("wrong", "reasoning is in the text", [tags])
    if is_call(text):
        said = quoted(_after_reasoning(reply).strip(), 60)
        evidence = f"in an agent turn the text contained a call: {said}"
        finding = FactValue(name="recover_calls", values=(True,), evidence=evidence)
        return Read("wrong", "a call is in the text", [finding])
    if reply.truncated:
        return None
    if all(map(_is_object, reply.arguments)) and not all(_is_object(c.arguments) for c in calls):
        return Read("wrong", "the arguments of a call are no JSON object")
    if not (calls or text.strip()) and _after_reasoning(reply).strip():
        return Read("wrong", "the text is read as reasoning")
    return None


def _tags_in(reply: Reply, text: str) -> ThinkTags | None:
    """What tags at the beginning of the text show, or a closing one alone; others are content."""
    evidence = f"the answer of an agent turn was {quoted(reply.text.strip(), 60)}"
    begin = text.lstrip()
    for pair in payloads.TAGS:
        if begin.startswith(pair[0]):
            return ThinkTags(pair=pair, evidence=evidence)
        if pair[1] in text and pair[0] not in text and reply.tags is None:
            stray = bool(reply.reasoning) or begin.startswith(pair[1])
            return ThinkTags(
                pair=pair, opened_by_template=not stray, stray_close=stray, evidence=evidence
            )
    return None


def _after_reasoning(reply: Reply) -> str:
    """The text behind its reasoning, as far as tags show where that ends."""
    pair = reply.tags or reply.lone_close
    return reply.text if pair is None else reply.text.rpartition(pair[1])[2]


def _is_object(arguments: str) -> bool:
    try:
        return as_object(msgspec.json.decode(arguments)) is not None
    except NOT_JSON:
        return False
