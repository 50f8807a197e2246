"""The plan of a conversation: which results belong to which calls, before messages are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from translator.common.pauses import Pause, paced
from translator.common.sealed import Thought
from translator.wire.errors import InvalidRequest

from .items_read import Call, InputItem, Message, Result

ABORTED = Raw(b'"aborted"')
"""The result that Codex adds to each call of a killed turn, once the thread is resumed."""


class Plan:
    """Facts about the whole input that are needed before the first message is written."""

    def __init__(self) -> None:
        self.results: dict[int, list[tuple[int, Result]]] = {}
        """The results of each call; both by their position in the input."""

        self.inside_turns: set[int] = set()
        """The positions of results between the calls of one turn.

        Codex resumes a killed turn as call, "aborted", call, "aborted". Only a user message can
        follow such a turn, so output of the model directly after such a result belongs to the same
        turn. As a turn of their own the later calls would lack the reasoning at the turn's
        beginning, and strict upstreams refuse that.
        """

        self.extras: dict[str, Any] = {}
        """`extra_content` by the id of its call."""

        self.call_ids: set[str] = set()
        self.called: set[str] = set()
        """The names of the called functions."""

        self.repeated: list[Result] = []
        """Results that stand before as they are, of the same call; some clients send them again."""

        self.orphans: list[Result] = []
        """The stored results whose calls have been deleted."""


def plan_calls(input_items: Sequence[InputItem], pause: Pause) -> Plan:
    """Match calls and results in one pass.

    Raises InvalidRequest for a result without a call in the request's input.

    Ids may repeat over turns: a result belongs to the last unanswered call of its id before it,
    else to the next one after it.
    """
    plan = Plan()
    matched = plan.results
    unanswered: dict[str, list[int]] = {}
    answered: dict[str, int] = {}
    early: dict[str, list[tuple[int, Result]]] = {}
    aborted = -2  # position of the last aborted result; the next item decides if it is inside
    for position, item in enumerate(paced(input_items, pause)):
        if type(item) is Message:
            continue
        if aborted == position - 1 and not isinstance(item, Result):
            plan.inside_turns.add(aborted)
        if type(item) is Call:
            call_id = item.call_id
            plan.call_ids.add(call_id)
            plan.called.add(item.name)
            if early.get(call_id):
                matched[position] = [early[call_id].pop(0)]
                answered[call_id] = position
            else:
                unanswered.setdefault(call_id, []).append(position)
        elif type(item) is Thought:
            if item.extras:
                plan.extras.update(item.extras)
        else:
            result: Result = item  # no other kind is left
            if result.content == ABORTED:
                aborted = position
            waiting = unanswered.get(result.call_id)
            if waiting:
                call = waiting.pop()
                answered[result.call_id] = call
                matched[call] = [(position, result)]
            elif result.call_id in answered:
                before = matched[answered[result.call_id]]
                if any(result.content == one.content for _, one in before):
                    plan.repeated.append(result)
                else:
                    before.append((position, result))
            else:
                early.setdefault(result.call_id, []).append((position, result))
    for orphans in early.values():
        for _, orphan in orphans:
            if not orphan.path.startswith("input"):
                plan.orphans.append(orphan)
                continue
            raise InvalidRequest(
                f"No tool call found for {orphan.noun} with call_id {orphan.call_id}.",
                param=f"{orphan.path}.call_id",
            )
    return plan
