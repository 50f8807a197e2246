"""Checks with tools: calls, parallel calls, `tool_choice`, structured output, history."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from translator.dialects.dialect import ChoiceKind

from . import payloads
from .findings import ReasoningReplay, ReplayResult, SchemaLimit, ToolChoice
from .payloads import Fields
from .replies import ABOUT_THINKING, Accepted, Rejected, Reply, quoted
from .state import Check, ProbeState


def tools(state: ProbeState) -> Check[int | None]:
    """How many calls the model made; None where tools are not supported at all."""
    results = yield from state.send_features(
        "tools",
        {
            "strict": r"\bstrict\b",
            "type list": r"\btype\b.{0,20}(?:must be a string|list|array|string)",
            "$schema": r"\$schema",
        },
        lambda features: state.body(payloads.WEATHER, tools=[payloads.tool(features)]),
        whole=True,
    )
    reply = results.reply
    if reply is None:
        outcome = yield from state.send(
            "plain tools", state.body(payloads.WEATHER, tools=payloads.TOOLS), pattern=r"\btools?\b"
        )
        if isinstance(outcome, Rejected):
            state.tools = False
            state.notes.append(f"Tools are rejected: {quoted(outcome.text)}")
        if not isinstance(outcome, Accepted):
            return None
        reply = outcome.reply
    for name, text in results.rejected.items():
        evidence = f"in a tool, {name} was rejected: {quoted(text)}"
        match name:
            case "strict":
                state.fact("strict_functions", False, evidence=evidence)
            case "type list":
                state.findings.append(SchemaLimit(evidence=evidence))
            case _:
                state.findings.append(SchemaLimit(keyword=name, evidence=evidence))
    state.calls = bool(reply.calls) or reply.has_written_calls
    if not reply.calls:
        if reply.has_written_calls:
            evidence = f"the text contained calls: {quoted(reply.text, 60)}"
            state.fact("recover_calls", True, evidence=evidence)
        state.not_seen("tool calls", "the model made no call, although it was asked for two")
    elif reply.finish is None and not reply.done:
        evidence = "an answer with calls ended without a finish reason and without [DONE]"
        state.fact("lenient_eof", True, evidence=evidence)
    return len(reply.calls)


def parallel_calls(state: ProbeState, calls: int) -> Check[None]:
    topic = "parallel_tool_calls"
    body = state.body(payloads.WEATHER, tools=payloads.TOOLS, parallel_tool_calls=False)
    outcome = yield from state.send(topic, body)
    if isinstance(outcome, Rejected):
        state.fact(topic, False, evidence=f"it was rejected: {quoted(outcome.text)}")
    elif isinstance(outcome, Accepted):
        count = len(outcome.reply.calls)
        if not calls:
            state.not_seen(topic, "the model makes no calls, so no difference can be seen")
        elif count > 1:
            state.fact(topic, False, evidence=f"{count} calls arrived although it was false")
        elif count == 1 and calls > 1:
            state.fact(topic, True, evidence=f"one call arrived instead of {calls}", weak=True)
        else:
            state.not_seen(topic, "accepted, but no difference could be seen")


def format_beside_tools(state: ProbeState, calls: int) -> Check[None]:
    """Whether a schema is followed beside tools, and calls are still possible.

    Where the schema is a grammar over the whole answer, the model cannot write a call.
    """
    topic = "response_format beside tools"
    beside: Fields = {"response_format": payloads.JSON_SCHEMA, "tools": payloads.TOOLS}
    outcome = yield from state.send(topic, state.body(payloads.WEATHER, **beside))
    if isinstance(outcome, Rejected):
        evidence = f"{topic} was rejected: {quoted(outcome.text)}"
        state.fact("response_format_with_tools", False, evidence=evidence)
    elif isinstance(outcome, Accepted):
        reply = outcome.reply
        if calls and not reply.calls and payloads.SCHEMA_KEY in (reply.json or {}):
            evidence = f"instead of {calls} calls, the answer was {quoted(reply.text, 60)}"
            state.fact("response_format_with_tools", False, evidence=evidence)
        elif not reply.calls:
            state.not_seen(topic, "accepted, but neither a call nor the schema could be seen")
        else:
            yield from _format_without_call(state, topic, beside)


def _format_without_call(state: ProbeState, topic: str, beside: Fields) -> Check[None]:
    outcome = yield from state.send(topic, state.body(payloads.CAPITAL_WITHOUT_TOOLS, **beside))
    if isinstance(outcome, Accepted):
        if payloads.SCHEMA_KEY in (outcome.reply.json or {}):
            evidence = (
                "beside tools the schema was followed, and calls arrived where they were expected"
            )
            state.fact("response_format_with_tools", True, evidence=evidence)
        else:
            state.not_seen(topic, "accepted, but the answer did not follow the schema")


def choices(state: ProbeState, calls: int) -> Check[None]:
    forced: tuple[tuple[ChoiceKind, Any], ...] = (
        ("required", "required"),
        ("named", payloads.NAMED),
    )
    ignored: list[ChoiceKind] = []
    for kind, choice in forced:
        if (yield from _ignores_choice(state, kind, choice)):
            ignored.append(kind)
    topic = "tool_choice none"
    body = state.body(payloads.WEATHER, tools=payloads.TOOLS, tool_choice="none")
    outcome = yield from state.send(topic, body)
    if isinstance(outcome, Rejected):
        evidence = f"rejected: {quoted(outcome.text)}"
        _record_choice(state, "none", False, evidence)
    elif isinstance(outcome, Accepted):
        if outcome.reply.calls:
            _record_choice(
                state, "none", False, f"{len(outcome.reply.calls)} calls arrived all the same"
            )
        elif outcome.reply.has_written_calls:
            _record_choice(state, "none", False, "the text contained a call all the same")
        elif calls:
            _record_choice(state, "none", True, "no calls arrived, as they do without it")
        else:
            state.not_seen(topic, "the model makes no calls, so no difference can be seen")
    if ignored:
        topic = "unknown tool_choice"
        body = state.body(
            payloads.GREETING, tools=payloads.TOOLS, tool_choice=payloads.NO_SUCH_CHOICE
        )
        outcome = yield from state.send(topic, body, whole=False)
        for kind in ignored:
            if isinstance(outcome, Accepted):
                evidence = "no call arrived, and an unknown choice was accepted as well"
                _record_choice(state, kind, False, evidence)
            else:
                state.not_seen(f"tool_choice {kind}", "accepted, but no call arrived")


def _ignores_choice(state: ProbeState, kind: ChoiceKind, choice: object) -> Check[bool]:
    """Force a call where none is needed. True when that was accepted and no call arrived."""
    topic = f"tool_choice {kind}"
    body = state.body(payloads.GREETING, tools=payloads.TOOLS, tool_choice=choice)
    outcome = yield from state.send(topic, body)
    if isinstance(outcome, Accepted):
        if outcome.reply.calls:
            _record_choice(state, kind, True, "a call arrived where none was needed")
        elif outcome.reply.truncated:
            state.not_seen(topic, "the answer was cut at the token limit")
        else:
            return True
    elif isinstance(outcome, Rejected):
        yield from _rejected_choice(state, kind, body, outcome.text)
    return False


def _rejected_choice(state: ProbeState, kind: ChoiceKind, body: Fields, text: str) -> Check[None]:
    """Whether a choice is accepted under another word, or with thinking off."""
    evidence = f"rejected: {quoted(text)}"
    if kind == "required":
        outcome = yield from state.send("tool_choice any", body | {"tool_choice": "any"})
        if isinstance(outcome, Accepted) and outcome.reply.calls:
            state.fact("required_word", "any", evidence="required was rejected, any was accepted")
            _record_choice(state, "required", True, "a call arrived where none was needed")
            return
    if not state.thinks:
        _record_choice(state, kind, False, evidence)
    elif state.thinking_off is None:
        _record_choice(
            state, kind, False, evidence, "thinking" if ABOUT_THINKING.search(text) else "always"
        )
    else:
        topic = f"tool_choice {kind}, thinking off"
        outcome = yield from state.send(topic, body | state.thinking_off)
        if isinstance(outcome, Rejected):
            _record_choice(state, kind, False, evidence, "always")
            return
        _record_choice(state, kind, False, evidence, "thinking")
        if isinstance(outcome, Accepted) and outcome.reply.calls:
            effect = "with thinking off, a call arrived where none was needed"
            _record_choice(state, kind, True, effect, "not thinking")


def _record_choice(
    state: ProbeState,
    kind: ChoiceKind,
    accepted: bool,
    evidence: str,
    when: Literal["thinking", "not thinking", "always"] | None = None,
) -> None:
    # A result seen while it thinks, whose text does not mention thinking, holds without, too.
    when = when or ("always" if state.thinks else "not thinking")
    evidence = f"tool_choice {kind}: {evidence}"
    state.findings.append(ToolChoice(kind=kind, accepted=accepted, when=when, evidence=evidence))


_IF_REJECTED: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "id": ("call_ids", ("nine_alphanumerics",), "a call id of another format was"),
    "user": ("answer_between_tool_and_user", (True,), "a user message after a tool message was"),
    "bare": ("content_beside_calls", ("empty", "null"), "an assistant message without content was"),
    "unsigned": ("extra_content_required", (payloads.SIGNATURE,), "calls without it were"),
    "unreasoned": ("reasoning_required", (True,), "calls without reasoning were"),
}
"""For each feature of a history: the fact that its rejection proves, its values, the evidence."""

_IF_ACCEPTED: dict[str, tuple[Any, str]] = {
    "id": ("as_is", f"the id {payloads.ORDINARY_ID} was accepted"),
    "user": (False, "a user message after a tool message was accepted"),
    "unreasoned": (False, "the model thinks, and calls without reasoning were accepted"),
}
"""The value of the same fact where the feature was accepted, and the evidence."""


def history(state: ProbeState) -> Check[None]:
    results = yield from state.send_features(
        "calls in the history",
        {
            "id": r"tool.?call.?id|length of 9|a-z, A-Z, 0-9",
            "user": r"after role 'tool'",
            "bare": r"(?<![\w`])content(?! and)\b",
            "unreasoned": r"reasoning_(?:content|text)|without reasoning",
            "unsigned": r"thought_signature",
        },
        lambda features: state.body(payloads.history(features), tools=payloads.TOOLS),
        any_pattern=r"\brole|alternat|\bcontent\b|jinja|template",
        # Strict upstreams reject the field that replaces each of these.
        sticky=("unreasoned", "unsigned"),
        whole=True,
        control=True,
    )
    # Without thinking there was no reasoning to be left out.
    accepted = results.accepted if state.thinks else results.accepted - {"unreasoned"}
    for feature, (fact, values, evidence) in _IF_REJECTED.items():
        if (text := results.rejected.get(feature)) is not None:
            state.fact(fact, *values, evidence=f"{evidence} rejected: {quoted(text)}")
        elif feature in accepted and feature in _IF_ACCEPTED:
            value, evidence = _IF_ACCEPTED[feature]
            state.fact(fact, value, evidence=evidence)
    avoided = frozenset(payloads.HISTORY_FEATURES) - results.accepted
    if not avoided & results.inconclusive.keys() and results.reply is not None:
        yield from _replay(state, avoided, results.reply, required="unreasoned" in results.rejected)


def _replay(
    state: ProbeState, avoided: Collection[str], without: Reply, *, required: bool
) -> Check[None]:
    """Whether reasoning of an earlier turn is accepted in the history, and whether it is read.

    `without` is the reply to the same history without reasoning.
    """
    features = [
        name for name in payloads.HISTORY_FEATURES if name not in avoided or name == "unreasoned"
    ]
    fields: dict[str, ReplayResult] = {}
    evidence: list[str] = []
    if required:
        fields["reasoning_content"] = "read"
        evidence.append("reasoning_content is required")
    for field in ("reasoning_content", "reasoning"):
        if field in fields:
            continue
        result = yield from _replay_field(state, field, features, without, required=required)
        fields[field], effect = result
        if effect:
            evidence.append(f"{field} {effect}")
    if evidence:
        state.findings.append(
            ReasoningReplay(
                fields=fields, source_field=state.reasoning_field, evidence="; ".join(evidence)
            )
        )
    base: Fields = {"reasoning_content": payloads.REASONING} if required else {}
    details: Fields = {"reasoning_details": payloads.DETAILS}
    signed = [name for name in features if name != "unsigned"]
    results = yield from state.send_features(
        "extensions in the history",
        {"reasoning_details": r"\breasoning_details\b", "extra_content": r"\bextra_content\b"},
        lambda names: state.body(
            payloads.history(
                signed if "extra_content" in names else features,
                **base,
                **(details if "reasoning_details" in names else {}),
            ),
            tools=payloads.TOOLS,
        ),
    )
    for name, text in results.rejected.items():
        state.fact(name, False, evidence=f"in the history it was rejected: {quoted(text)}")
    for name in results.accepted & state.marks:
        state.fact(name, True, evidence="it arrived in answers, and was accepted in the history")


def _replay_field(
    state: ProbeState, field: str, features: list[str], without: Reply, *, required: bool
) -> Check[tuple[ReplayResult, str]]:
    """What the upstream does with reasoning in a field, and the evidence."""
    base: Fields = {"reasoning_content": payloads.REASONING} if required else {}
    results = yield from state.send_features(
        f"{field} in the history",
        {"field": rf"\b{field}\b", "text": r"both content and thinking"},
        lambda names: state.body(
            payloads.history(
                features,
                **base,
                **({field: payloads.REASONING} if "field" in names else {}),
                **({"content": "I look it up."} if "text" in names else {}),
            ),
            tools=payloads.TOOLS,
        ),
        essential="field",
        whole=True,
    )
    if (text := results.rejected.get("text")) is not None and "field" in results.accepted:
        name = "reasoning_not_beside_text_and_calls"
        if not any(finding.fact == name for finding in state.findings):
            state.fact(
                name,
                True,
                evidence=f"reasoning, text and calls in one message were rejected: {quoted(text)}",
            )
    if "field" in results.rejected:
        return "refused", f"was rejected: {quoted(results.rejected['field'])}"
    if "field" not in results.accepted or results.reply is None:
        return "unknown", ""
    before, after = without.usage, results.reply.usage
    if before is None or after is None or not before.input_tokens or not after.input_tokens:
        return "taken", "was accepted"
    more = after.input_tokens - before.input_tokens
    if more >= payloads.MIN_REASONING_TOKENS:
        return "read", f"made the prompt {more} tokens longer"
    return "ignored", "was accepted, but did not make the prompt longer"
