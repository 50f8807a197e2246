"""The history of hosted tools: calls that ran in an earlier round, put where the model made them.

    reasoning, { call of the client's tool }, sealed reasoning with what ran
        ──►  reasoning, { call }, { result of a hosted tool }, reasoning

Sealed reasoning stands behind the calls of its round, and knows how many calls of the client's own
tools stood behind each. Items of hosted calls are not needed, which many clients drop.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import replace

from translator.common.hosted import RanRound
from translator.common.sealed import Thought
from translator.common.tools import Toolset
from translator.common.web_search import SEARCH
from translator.wire import items
from translator.wire.json_values import NOT_JSON, as_object, as_string, objects_in, present

from .items_read import HOSTED_OUTPUT, Awaited, Call, InputItem, Message, Result


def place(read: MutableSequence[InputItem], thought: Thought, ran: RanRound, path: str) -> None:
    """Append a thought to the items before it, with the calls of the round before in their places.

    Their results follow those of the round's other calls.
    """
    end = len(read)
    while ran.own and end and _is_of_client(read[end - 1]):
        end -= 1
    rest: Thought | None = replace(thought, ran=msgspec.UNSET)
    extras = dict(ran.extras)
    if not (thought.text or thought.details):
        extras |= thought.extras
        rest = None
    if extras:
        read.insert(end, Thought("", thought.field, extras=extras))
    places = _places(read, end, max((one.calls_behind for one in ran.calls), default=0))
    for one in reversed(ran.calls):
        at = places[min(one.calls_behind, len(places) - 1)]
        read.insert(at, Call(one.id, one.name, one.arguments, path))
    for one in ran.calls:
        if isinstance(one.asked, UnsetType):
            read.append(Result(one.id, one.output, HOSTED_OUTPUT, path))
        else:
            read.append(Awaited(one.id, "", HOSTED_OUTPUT, path, one.asked.id))
    if rest is not None:
        read.append(rest)


def _is_of_client(item: InputItem) -> bool:
    """Whether an item is the output of a call of the client's own."""
    return isinstance(item, Result) and not item.is_hosted


def _places(read: Sequence[InputItem], end: int, most: int) -> list[int]:
    """The places before the last calls of a turn that ends at `end`: of none, one and so on."""
    places = [end]
    at = end
    while at and len(places) <= most:
        at -= 1
        item = read[at]
        if (isinstance(item, Message) and item.role != "assistant") or isinstance(item, Result):
            break  # it belongs to an earlier round
        if isinstance(item, Call):
            places.append(at)
    return places


def search_with_results(
    search: items.InputWebSearchCall, tools: Toolset, path: str
) -> tuple[Call, Result] | None:
    """A search whose item holds its results, as a call and its result; None without any."""
    results = _objects(search.results)
    if not results:
        return None
    action = as_object(_decoded(search.action)) or {}
    query = as_string(action.get("query")) or ""
    names = tools.hosted_names("web_search")
    call_id = search.id or path
    arguments = msgspec.json.encode({"query": query}).decode()
    lines = [
        "\n".join(filter(None, (as_string(one.get(name)) for name in ("title", "url", "snippet"))))
        for one in results
    ]
    call = Call(call_id, names[0] if names else SEARCH, arguments, path)
    return call, Result(call_id, "\n\n".join(lines), HOSTED_OUTPUT, path)


def _decoded(raw: Raw | UnsetType) -> object:
    if not present(raw):
        return None
    try:
        return msgspec.json.decode(raw)
    except NOT_JSON:
        return None


def _objects(raw: Raw | UnsetType) -> list[dict[str, object]]:
    return objects_in(_decoded(raw))
