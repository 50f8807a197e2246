"""The probe plan: the order in which the checks run.

plan = first answer, usage, unstreamed, limit, thinking, roles, parameters, structured output,
       [ tools, parallel calls, [ format beside tools ], choices, history ], image ;
"""

from __future__ import annotations

from . import checks, tool_checks
from .state import Check, ProbeState


def plan(state: ProbeState) -> Check[None]:
    """Run all checks; raises ProbeFailed when the first request gets no answer."""
    first = yield from checks.first_answer(state)
    yield from checks.usage(state, first)
    yield from checks.unstreamed(state)
    yield from checks.completion_limit(state)
    yield from checks.thinking(state, first)
    yield from checks.developer_role(state)
    yield from checks.system_messages(state)
    yield from checks.parameters(state)
    follows_schemas = yield from checks.formats(state)
    if (calls := (yield from tool_checks.tools(state))) is not None:
        yield from tool_checks.parallel_calls(state, calls)
        if follows_schemas:
            yield from tool_checks.format_beside_tools(state, calls)
        yield from tool_checks.choices(state, calls)
        yield from tool_checks.history(state)
    yield from checks.image(state)
