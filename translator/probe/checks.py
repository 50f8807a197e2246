"""Checks that need no tools: first answer, usage, limit, thinking, roles, parameters, formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from . import payloads
from .findings import (
    EffortFieldRejected,
    EffortRejected,
    ExtraFieldRejected,
    ExtraFields,
    SetMember,
    ThinkingSwitch,
    ThinksByDefault,
    ThinkTags,
)
from .payloads import Fields
from .rejections import rejected_as_unknown
from .replies import ABOUT_THINKING, Accepted, Inconclusive, Rejected, Reply, quoted
from .state import NEVER, Check, ProbeFailed, ProbeState

MAX_SWITCHES = 4
"""No upstream is known to accept more of the ways to switch thinking off."""

_LIMIT = re.compile(r"max_(completion_)?tokens")


def first_answer(state: ProbeState) -> Check[Reply]:
    """Whether the upstream answers, whether it thinks, and where its reasoning arrives."""
    outcome = yield from state.send("first answer", state.body(payloads.ARITHMETIC))
    if isinstance(outcome, Rejected) and _LIMIT.search(outcome.text):
        evidence = f"max_tokens was rejected: {quoted(outcome.text)}"
        state.limit_field = "max_completion_tokens"
        outcome = yield from state.send("max_completion_tokens", state.body(payloads.ARITHMETIC))
        if isinstance(outcome, Accepted):
            state.fact("max_tokens_field", state.limit_field, evidence=evidence)
    match outcome:
        case Accepted(reply):
            _record_first(state, reply)
            return reply
        case Rejected(text):
            raise ProbeFailed(f"The upstream rejects even a plain question: {quoted(text)}")
        case Inconclusive(reason):
            if reason.endswith("."):
                raise ProbeFailed(reason)
            raise ProbeFailed(f"The upstream does not answer a plain question: {reason}.")


def _record_first(state: ProbeState, reply: Reply) -> None:
    state.reasoning_field = next(iter(reply.reasoning), None)
    _record_thinking(state, reply)
    if reply.tags is not None:
        evidence = f"the text began with {quoted(reply.text.strip(), 40)}"
        state.findings.append(ThinkTags(pair=reply.tags, evidence=evidence))
    elif reply.lone_close is not None:
        before = reply.text.partition(reply.lone_close[1])[0]
        by_server = bool(reply.reasoning) or not before.strip()
        state.findings.append(
            ThinkTags(
                pair=reply.lone_close,
                opened_by_template=not by_server,
                stray_close=by_server,
                evidence=f"{reply.lone_close[1]} was in the text without its opening tag",
            )
        )
    if reply.cumulative:
        state.fact("cumulative", True, evidence="each chunk repeated the text before it")
    if reply.finish is None:
        state.notes.append("An answer of text ended without a finish reason.")
    if reply.whole and not reply.done:
        state.notes.append("The stream ended without [DONE].")


def _record_thinking(state: ProbeState, reply: Reply) -> None:
    if reply.thinks and not state.thinks:
        state.thinks = True
        if reply.reasoning:
            where = f"arrived in {', '.join(reply.reasoning)}"
        else:
            where = "was in the text" if reply.tags or reply.lone_close else "was counted in usage"
        evidence = f"by default, reasoning {where}"
        state.findings.append(ThinksByDefault(by_default=True, evidence=evidence))


def usage(state: ProbeState, first: Reply) -> Check[None]:
    fields: Fields = {"stream_options": {"include_usage": True}}
    outcome = yield from state.send("usage in a stream", state.body(payloads.GREETING, **fields))
    if isinstance(outcome, Rejected):
        evidence = f"stream_options was rejected: {quoted(outcome.text)}"
        state.fact("stream_usage", False, evidence=evidence)
    elif isinstance(outcome, Accepted):
        state.stream_options = fields
        _record_thinking(state, outcome.reply)
        if outcome.reply.usage and not first.usage:
            evidence = "usage arrived only when stream_options requested it"
            state.fact("stream_usage", True, evidence=evidence)
    if first.usage:
        state.notes.append("A stream contains usage without being asked for it.")


def unstreamed(state: ProbeState) -> Check[None]:
    body = state.body(payloads.ARITHMETIC, stream=False)
    body.pop("stream_options", None)
    outcome = yield from state.send("answer without a stream", body)
    if isinstance(outcome, Rejected):
        if state.thinks and ABOUT_THINKING.search(outcome.text):
            evidence = f"a request without a stream was rejected: {quoted(outcome.text)}"
            state.fact("thinks_only_streaming", True, evidence=evidence)
        else:
            state.notes.append(f"A request without a stream is rejected: {quoted(outcome.text)}")
    elif isinstance(outcome, Accepted) and outcome.reply.thinks:
        evidence = "reasoning arrived in an answer that was not streamed"
        state.fact("thinks_only_streaming", False, evidence=evidence)


def completion_limit(state: ProbeState) -> Check[None]:
    if state.limit_field == "max_completion_tokens":
        return
    body = state.body(payloads.COUNTING)
    del body["max_tokens"]
    body["max_completion_tokens"] = payloads.FEW_TOKENS
    outcome = yield from state.send("max_completion_tokens", body)
    if isinstance(outcome, Rejected):
        evidence = f"max_completion_tokens was rejected: {quoted(outcome.text)}"
        state.fact("max_tokens_field", "max_tokens", evidence=evidence)
    elif isinstance(outcome, Accepted):
        reply = outcome.reply
        if not reply.truncated and len(reply.text) > payloads.MANY_CHARACTERS:
            evidence = (
                f"an answer of {len(reply.text)} characters exceeded a "
                f"max_completion_tokens of {payloads.FEW_TOKENS}"
            )
            state.fact("max_tokens_field", "max_tokens", evidence=evidence)
        elif reply.truncated:
            state.notes.append("Both max_tokens and max_completion_tokens are accepted.")


def thinking(state: ProbeState, first: Reply) -> Check[None]:
    """How thinking is switched off; or on, where the model does not think by default."""
    if not state.thinks:
        yield from _thinking_on(state)
        return
    if first.tags:
        yield from _splitters(state)
    works: list[str] = []
    unknown: list[str] = []
    rejected: dict[str, str] = {}
    unknown_fields: dict[str, str] = {}
    for name, (off, _) in payloads.SWITCHES.items():
        topic = f"thinking off by {name}"
        body = state.body(payloads.ARITHMETIC, **off)
        outcome = yield from state.send(topic, body)
        if isinstance(outcome, Rejected):
            rejected[name] = quoted(outcome.text)
            unknown_fields |= dict.fromkeys(
                rejected_as_unknown(outcome.text, body) & off.keys(), rejected[name]
            )
        elif isinstance(outcome, Inconclusive):
            unknown.append(name)
        elif not outcome.reply.thinks:
            unclear = outcome.reply.truncated or outcome.reply.empty
            (unknown if unclear else works).append(name)
    if rejected:
        ways = [payloads.SWITCHES[name][0] for name in rejected]
        verb = "were" if len(rejected) > 1 else "was"
        text = next(iter(rejected.values()))
        evidence = f"{', '.join(rejected)} {verb} rejected: {text}"
        state.findings.append(EffortRejected(level="none", ways=ways, evidence=evidence))
    if len(works) > MAX_SWITCHES:
        state.notes.append("It thinks only sometimes, so it is not known how to switch that off.")
    elif works:
        state.thinking_off = payloads.SWITCHES[works[0]][0]
        evidence = f"no reasoning arrived with {', '.join(works)}"
        _record_switch(state, "none", works, evidence, unknown)
    elif not unknown:
        state.notes.append("None of the known fields switched its thinking off.")
    for field, text in unknown_fields.items():
        evidence = f"{field} was rejected: {text}"
        state.findings.append(EffortFieldRejected(name=field, evidence=evidence))


def _record_switch(
    state: ProbeState,
    level: Literal["none", "high"],
    works: list[str],
    evidence: str,
    unknown: Sequence[str] = (),
) -> None:
    off, on = payloads.SWITCHES[works[0]]
    instead = {"none": off, "high": on}
    if level == "high":
        del instead["none"]
    if works[0] == "reasoning_effort":
        named = {word: {"reasoning_effort": word} for word in ("low", "medium", "high")}
        instead |= named
    state.findings.append(
        ThinkingSwitch(
            level=level,
            works=[payloads.SWITCHES[name][level == "high"] for name in works],
            unknown=[payloads.SWITCHES[name][level == "high"] for name in unknown],
            instead=instead,
            evidence=evidence,
        )
    )


def _thinking_on(state: ProbeState) -> Check[None]:
    """Whether `reasoning_effort` makes it think."""
    on = payloads.SWITCHES["reasoning_effort"][1]
    topic = "thinking on by reasoning_effort"
    outcome = yield from state.send(topic, state.body(payloads.ARITHMETIC, **on))
    if isinstance(outcome, Rejected):
        evidence = f"reasoning_effort was rejected: {quoted(outcome.text)}"
        state.findings.append(EffortRejected(level="high", ways=[on], evidence=evidence))
    elif isinstance(outcome, Accepted) and outcome.reply.thinks:
        state.reasoning_field = next(iter(outcome.reply.reasoning), None)
        _record_switch(
            state, "high", ["reasoning_effort"], "reasoning arrived with reasoning_effort"
        )
        state.findings.append(
            ThinksByDefault(
                by_default=False, evidence="without reasoning_effort no reasoning arrived"
            )
        )


def _splitters(state: ProbeState) -> Check[None]:
    """Whether a field moves reasoning from tags in the text to a field of its own."""
    for fields in payloads.SPLITTERS:
        [name] = fields
        topic = f"reasoning out of the text by {name}"
        outcome = yield from state.send(topic, state.body(payloads.ARITHMETIC, **fields))
        if isinstance(outcome, Rejected):
            evidence = f"{name} was rejected: {quoted(outcome.text)}"
            state.findings.append(ExtraFieldRejected(name=name, evidence=evidence))
        if isinstance(outcome, Accepted) and outcome.reply.reasoning and not outcome.reply.tags:
            field = next(iter(outcome.reply.reasoning))
            state.reasoning_field = field
            evidence = f"with {name} the reasoning arrived in {field}"
            state.findings.append(ExtraFields(fields=fields, evidence=evidence))
            return


def developer_role(state: ProbeState) -> Check[None]:
    outcome = yield from state.send(
        "developer role", state.body(payloads.DEVELOPER), pattern=r"\brole|developer|jinja|template"
    )
    if isinstance(outcome, Rejected):
        evidence = f"the role developer was rejected: {quoted(outcome.text)}"
        state.fact("developer_role", False, evidence=evidence)
    elif isinstance(outcome, Accepted):
        if payloads.PASSWORD in outcome.reply.text.upper():
            evidence = "a developer message was followed"
            # Weak: sending it as `system`, as most dialects do, is right there as well.
            state.fact("developer_role", True, evidence=evidence, weak=True)
        else:
            state.not_seen("developer role", "accepted, but its message was not followed")


def system_messages(state: ProbeState) -> Check[None]:
    results = yield from state.send_features(
        "system messages",
        {"leading": NEVER, "later": NEVER},
        lambda where: state.body(payloads.system_messages(where)),
        any_pattern=r"system message|alternat|\brole|jinja|template",
        control=True,
    )
    if (text := results.rejected.get("later")) is not None:
        evidence = f"a system message after other messages was rejected: {quoted(text)}"
        state.fact("system_messages", "demote_later", evidence=evidence)
    elif (text := results.rejected.get("leading")) is not None:
        evidence = f"a second leading system message was rejected: {quoted(text)}"
        state.fact("system_messages", "merge_leading", "demote_later", evidence=evidence)
    elif len(results.accepted) == 2:
        state.notes.append("System messages are accepted anywhere.")


def parameters(state: ProbeState) -> Check[None]:
    results = yield from state.send_features(
        "optional fields",
        {name: words for name, (_, words) in payloads.PARAMETERS.items()},
        lambda names: state.body(
            payloads.GREETING,
            **{field: v for name in names for field, v in payloads.PARAMETERS[name][0].items()},
        ),
        whole=True,
    )
    for name, text in results.rejected.items():
        evidence = f"{name} was rejected: {quoted(text)}"
        if name in ("user", "prompt_cache_key"):
            finding = SetMember(name="forwarded", member=name, present=False, evidence=evidence)
            state.findings.append(finding)
        elif name == payloads.NO_SUCH_FIELD:
            state.notes.append(f"Unknown fields are rejected: {quoted(text)}")
        else:
            finding = SetMember(name="refused", member=name, present=True, evidence=evidence)
            state.findings.append(finding)
    if payloads.NO_SUCH_FIELD in results.accepted:
        state.notes.append("Unknown fields are accepted (and probably ignored).")
    if "logprobs" in results.accepted and results.reply and "logprobs" in results.reply.marks:
        evidence = "log probabilities arrived when they were requested"
        state.findings.append(
            SetMember(name="refused", member="logprobs", present=False, evidence=evidence)
        )


def formats(state: ProbeState) -> Check[bool]:
    """Structured output. Returns whether schemas are followed."""
    followed = yield from _format(state, "json_schema", payloads.JSON_SCHEMA, payloads.CAPITAL)
    yield from _format(state, "json_object", payloads.JSON_OBJECT, payloads.NOT_ABOUT_JSON)
    return followed


def _format(
    state: ProbeState,
    kind: Literal["json_schema", "json_object"],
    response_format: Fields,
    messages: list[Fields],
) -> Check[bool]:
    outcome = yield from state.send(kind, state.body(messages, response_format=response_format))
    present, evidence = False, ""
    if isinstance(outcome, Rejected):
        evidence = f"{kind} was rejected: {quoted(outcome.text)}"
    elif isinstance(outcome, Accepted):
        found = outcome.reply.json
        present = found is not None and (kind == "json_object" or payloads.SCHEMA_KEY in found)
        if present:
            evidence = f"with {kind} the answer was {quoted(outcome.reply.text, 60)}"
        else:
            state.not_seen(kind, "accepted, but the answer did not have this format")
    if evidence:
        finding = SetMember(
            name="response_formats", member=kind, present=present, evidence=evidence
        )
        state.findings.append(finding)
    return present


def image(state: ProbeState) -> Check[None]:
    outcome = yield from state.send(
        "images", state.body(payloads.IMAGE), pattern="image|mmproj|multimodal|vision"
    )
    if isinstance(outcome, Rejected):
        evidence = f"this model rejected an image: {quoted(outcome.text)}"
        state.fact("images", False, evidence=evidence, weak=True)
    elif isinstance(outcome, Accepted):
        if payloads.COLOUR in outcome.reply.text.lower():
            evidence = "the answer named the colour of an image"
            state.fact("images", True, evidence=evidence, weak=True)
        else:
            state.not_seen(
                "images", "accepted, but the answer did not name the colour of the image"
            )
