"""Open items of hosted tools, one class for each kind of tool.

opened()    the item is announced
running()   the tool begins to run
closed()    its outcome, then the item
"""

from __future__ import annotations

from msgspec import UNSET, Struct

from translator.common.hosted import HostedFunction, Outcome
from translator.common.tools import Declared
from translator.common.web_search import action_of, arguments_of
from translator.wire import events, items
from translator.wire.events import Event

from .mcp_items import OpenMcpApproval, OpenMcpCall
from .open_calls import OpenHostedCall
from .open_items import Closing, Events, Place


class Shown(Struct, frozen=True):
    """What the items of a search show, beside its action."""

    sources: bool = False
    results: bool = False


class OpenWebSearch(OpenHostedCall):
    """A call of the search: its action shows when it is done, as it does at OpenAI."""

    __slots__ = ("_name", "_shown")

    def __init__(
        self, place: Place, call_id: str, tool: Declared, function: HostedFunction, shown: Shown
    ) -> None:
        super().__init__(place, call_id, tool)
        self._name = function.name
        self._shown = shown

    def opened(self) -> Events:
        place = self._place
        yield place.added(items.WebSearchCall(place.item_id, "in_progress"))
        yield events.WebSearchCallInProgress(place.number(), place.output_index, place.item_id)

    def arguments(self, text: str) -> list[Event]:
        self.texts.append(text)
        return []

    def _running(self) -> Events:
        place = self._place
        if self._name == "web_search":
            yield events.WebSearchCallSearching(place.number(), place.output_index, place.item_id)

    def _closed(self, outcome: Outcome | None) -> Closing:
        place, shown = self._place, self._shown
        action = action_of(self._name, arguments_of(self.texts.text()) or {})
        status: items.HostedStatus = "incomplete"
        results: list[items.SearchResult] | None = None
        if outcome is not None:
            status = "failed" if outcome.failed else "completed"
            if isinstance(action, items.SearchAction) and not outcome.failed:
                results = list(outcome.results)
        if isinstance(action, items.SearchAction) and results is not None and shown.sources:
            sources = [items.UrlSource(one.url) for one in results]
            action = items.SearchAction(action.query, action.queries, sources)
        if status == "completed":
            yield events.WebSearchCallCompleted(place.number(), place.output_index, place.item_id)
        item = items.WebSearchCall(
            place.item_id,
            status,
            action,
            results if results is not None and shown.results else UNSET,
        )
        yield place.done(item)
        return item


def prefix_of(function: HostedFunction) -> str:
    """The prefix of the id of a call's item."""
    if function.kind == "web_search":
        return "ws_"
    return "mcpr_" if function.asks else "mcp_"


def open_hosted_call(
    place: Place, call_id: str, tool: Declared, function: HostedFunction, shown: Shown
) -> OpenHostedCall:
    """The open item for a call of a hosted tool."""
    if function.kind == "mcp":
        kind = OpenMcpApproval if function.asks else OpenMcpCall
        return kind(place, call_id, tool, function)
    return OpenWebSearch(place, call_id, tool, function, shown)
