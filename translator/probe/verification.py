"""Verification: an agent turn, written and read by exactly the settings that would be printed.

    verification = { candidate, turn, [ turn ] }, until one passes ;
    candidate    = a ranked dialect, corrected | the base | the base with cautious facts ;

What a rejection says, or an answer that is misread shows, is a further finding: the ranking is
repeated with it. Settings that were seen to fail are not tried again, and never printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from translator.common.schemas import SchemaRules
from translator.dialects import DIALECTS, Dialect
from translator.dialects.table import all_facts

from .agent_turn import Read, Status, agent_turn, judged
from .findings import FactValue, Finding
from .state import Check, ProbeState
from .verdict import Fit, fitted, printed_dialect

MAX_CANDIDATES = 16
"""Most settings that are tried, each with one or two requests."""

MAX_DIALECTS = 5
"""Most dialects among them: with the findings corrected, the next ones hardly differ."""


class Trial(Struct, frozen=True):
    """Settings that were tried, and what became of the agent turn that they wrote."""

    dialect: str
    variant: str
    """What is left out of it for caution; empty for the dialect as the findings correct it."""
    status: Status
    reason: str
    """What arrived, or why it failed, in a few words."""

    @property
    def name(self) -> str:
        return f"{self.dialect} {self.variant}".rstrip()

    @property
    def outcome(self) -> str:
        """The status and its reason, as a sentence has them."""
        match self.status:
            case "passed":
                return f"passed ({self.reason})"
            case "unclear":
                return f"accepted ({self.reason})"
            case "wrong":
                return f"misread: {self.reason}"
            case "rejected":
                return self.reason
            case "lost" | "unknown":
                return f"not checked: {self.reason}"


class Verification(Struct, frozen=True):
    """The settings that were chosen first, then the ranked dialects; and all that was tried."""

    fits: list[Fit]
    trials: list[Trial]

    @property
    def status(self) -> Status:
        """That of the last settings: those that were chosen, unless all have failed."""
        return self.trials[-1].status


class _Failed(Struct):
    """What is known to fail."""

    bodies: dict[bytes, str] = {}
    """The reasons, by the chat body."""
    settings: set[bytes] = set()
    """All facts of the dialects, as JSON."""


_CAUTION: Mapping[str, Mapping[str, Any]] = {
    "without optional fields": {
        "extra": {},
        "forwarded": frozenset[str](),
        "parallel_tool_calls": False,
        "stream_usage": False,
        "strict_functions": False,
        "tool_choices": frozenset[str](),
        "tool_choices_thinking": None,
    },
    "without reasoning effort": {"efforts": {}},
    "without earlier reasoning": {
        "reasoning_replay": "drop",
        "reasoning_details": False,
        "reasoning_required": False,
        "extra_content": False,
        "extra_content_required": None,
    },
    "with plain messages": {
        "developer_role": False,
        "system_messages": "demote_later",
        "content_beside_calls": "empty",
        "call_ids": "nine_alphanumerics",
        "answer_between_tool_and_user": True,
        "alternating_roles": True,
        "one_call_per_message": True,
        "user_message_required": True,
        "schema_rules": SchemaRules(type_lists="any_of", dropped=frozenset({"$schema", "$id"})),
    },
}
"""Facts of the most cautious request, by what they leave out. Each is tried alone, then all."""


def verification(
    state: ProbeState, rank: Callable[[list[Finding]], list[Fit]], model: str
) -> Check[Verification]:
    """Try settings until some work; findings are added to the state.

    An agent turn that is lost may be one that the upstream cannot bear, so others are tried; when a
    second one is lost, the upstream is gone.
    """
    trials: list[Trial] = []
    lost: list[tuple[Fit, Trial]] = []
    failed = _Failed({}, set())
    fits = rank(state.findings)
    while len(trials) < MAX_CANDIDATES:
        fits = rank(state.findings)
        candidate = _next(fits, state, failed, model)
        if candidate is None:
            break
        variant, fit, caution = candidate
        dialect = printed_dialect(fit, model)
        trial, findings = yield from _tried(state, dialect, variant, failed)
        trials.append(trial)
        if trial.status == "lost":
            lost.append((fit, trial))
        if trial.status in ("wrong", "rejected") or (trial.status == "lost" and len(lost) == 1):
            failed.settings.add(_key(dialect))
            state.findings += findings
            continue
        state.findings += caution
        return Verification([fit, *(one for one in fits if one is not fit)], trials)
    if lost:  # the only settings that were not seen to fail
        [(fit, trial)] = lost
        trials = [*(one for one in trials if one is not trial), trial]
        fits = [fit, *(one for one in fits if one is not fit)]
    return Verification(fits, trials)


def _next(
    fits: Sequence[Fit], state: ProbeState, failed: _Failed, model: str
) -> tuple[str, Fit, list[Finding]] | None:
    """The next settings that are not known to fail: variant, fit, and the findings of caution."""
    for variant, fit, caution in _candidates(fits, state, model):
        dialect = printed_dialect(fit, model)
        body = agent_turn(state, dialect).chat_body
        if _key(dialect) not in failed.settings and body not in failed.bodies:
            return variant, fit, caution
    return None


def _candidates(
    fits: Sequence[Fit], state: ProbeState, model: str
) -> Iterator[tuple[str, Fit, list[Finding]]]:
    for fit in fits[:MAX_DIALECTS]:
        yield "", fit, []
    last = fits[0].dialect if len(fits) == 1 else DIALECTS["base"].for_model(model)
    yield "", fitted(last, state.findings), []
    everything = {fact: value for facts in _CAUTION.values() for fact, value in facts.items()}
    for variant, facts in (*_CAUTION.items(), ("without all that is optional", everything)):
        caution: list[Finding] = [
            FactValue(
                name=fact,
                values=(value,),
                evidence=f"the agent turn was accepted only {variant}",
                weak=True,
            )
            for fact, value in facts.items()
            if fact in Dialect.__struct_fields__
        ]
        fit = fitted(last, state.findings)
        careful = fitted(fit.corrected, caution)
        yield variant, _joined(fit, careful), caution


def _joined(fit: Fit, careful: Fit) -> Fit:
    """A fit with its corrections and those of caution."""
    return Fit(fit.dialect, careful.corrected, fit.contradicted + careful.contradicted)


def _key(dialect: Dialect) -> bytes:
    return msgspec.json.encode(all_facts(dialect))


# --- one trial ----------------------------------------------------------------------------------


def _tried(
    state: ProbeState, dialect: Dialect, variant: str, failed: _Failed
) -> Check[tuple[Trial, list[Finding]]]:
    """Send the turns of one candidate, until one of them fails."""
    arrived: list[str] = []
    status: Status = "passed"
    for what in ("agent turn", "call") if state.calls else ("agent turn",):
        topic = f"{what} in dialect {dialect.name} {variant}".rstrip()
        wants_call = what == "call"
        read = yield from _sent(state, topic, dialect, failed, wants_call=wants_call)
        if read.status == "unclear" and wants_call:  # models are moody
            read = yield from _sent(state, topic, dialect, failed, wants_call=wants_call)
        if read.status not in ("passed", "unclear"):
            return Trial(dialect.name, variant, read.status, read.reason), read.findings
        if read.status == "unclear":
            status = "unclear"
        arrived.append(f"{what}: {read.reason}")
    return Trial(dialect.name, variant, status, "; ".join(arrived)), []


def _sent(
    state: ProbeState, topic: str, dialect: Dialect, failed: _Failed, *, wants_call: bool
) -> Check[Read]:
    """Send one turn, and read its answer as the service would."""
    translation = agent_turn(state, dialect, wants_call=wants_call)
    chat_body = translation.chat_body
    body: dict[str, Any] = msgspec.json.decode(chat_body)
    outcome = yield from state.send(topic, body)
    read = judged(outcome, translation, body, dialect, wants_call=wants_call)
    if read.status == "rejected":
        failed.bodies[chat_body] = read.reason
    return read
