"""Hosted tools: those that the program itself runs, between two rounds of one response.

    HostedCall   a call of the model, to be run by the program
    McpListing   the tools of an MCP server, which the program has asked for them
    Approved     a call that the client has approved of, and the program has run
    Outcome      what became of it: text for the model, and what its item shows
    Ran          a call that was run, as it travels in sealed reasoning

The core decides what is run, and what is told the model; it runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from translator.wire.deltas import Source
from translator.wire.items import SearchResult
from translator.wire.json_values import utf8_size

HostedKind = Literal["web_search", "mcp"]
RoundUsage = Literal["sum", "context"]
"""Usage over all rounds: the sum, as OpenAI tells it; or the input of the last one, with all
output, for clients that take it for the size of the context."""


class McpTool(Struct, frozen=True):
    """A tool of an MCP server; `read_only` is the server's hint, None without one."""

    name: str
    description: str
    input_schema: Raw
    read_only: bool | None = None


class McpListing(Struct, frozen=True):
    """The tools of an MCP server.

    `item_id` is that of the item which shows them, empty where the client has one already. `error`:
    they could not be listed, and the request goes on without them. `left_out` counts those that
    bounds have kept out; `unusable` names those that are no good.
    """

    tools: tuple[McpTool, ...] = ()
    item_id: str = ""
    error: str = ""
    left_out: int = 0
    unusable: str = ""


MAX_RAN = 1000
"""Most calls in one sealed blob: a forged one must cost little."""


class Hosted(Struct, frozen=True, kw_only=True):
    """The hosted tools that run here, and the bounds of their loop.

    A response has at most `max_rounds` upstream turns that call them, and one more to answer.
    """

    kinds: frozenset[HostedKind] = frozenset({"web_search"})
    keeps: bool = False
    """The program keeps the output for the next request: all of it is sealed there."""

    cached_search: bool = True
    """The search runs for a client, too, that wants nothing new fetched."""

    search_by_country: bool = True
    """The search has regard to the country of the user."""

    round_usage: RoundUsage = "sum"
    max_rounds: int = 16
    max_calls: int = 64
    max_argument_bytes: int = 64 * 1024
    max_result_bytes: int = 256 * 1024
    max_results_bytes: int = 2 * 1024 * 1024
    """Of all results of a response."""

    max_sealed_bytes: int = 64 * 1024
    """Of a result that travels in the sealed reasoning of a client: the model reads no more of it
    in the response itself, or the next one would not begin as this one did."""

    max_seal_bytes: int = 3 * 1024 * 1024
    """Of the calls of one round with their results, as JSON, where they are sealed: the reasoning
    that is sealed with them has some room, too."""

    mcp: Mapping[str, McpListing] = {}
    """The servers that the request declares, by their labels."""

    approved: tuple[Approved, ...] = ()
    """The calls that the request approves of."""

    def result_bytes(self, *, seals: bool) -> int:
        """The most bytes of a result; `seals`: it travels with the client."""
        limit = self.max_result_bytes
        return min(limit, self.max_sealed_bytes) if seals else limit

    def with_short_approved(self, *, seals: bool) -> Hosted:
        """The same, with the results of approved calls within the bounds of all results."""
        if not self.approved:
            return self
        limit, left = self.result_bytes(seals=seals), self.max_results_bytes
        approved: list[Approved] = []
        for one in self.approved:
            short = one.within(min(limit, left))
            left -= utf8_size(short.output)
            approved.append(short)
        return replace(self, approved=tuple(approved))

    def stored_within(self, max_item_bytes: int | None) -> Hosted:
        """The same for a store whose items have at most so many bytes, None for any number.

        Sealed, a round is a third larger, and there is the reasoning.
        """
        if max_item_bytes is None:
            return self
        half = max_item_bytes // 2
        return replace(
            self,
            max_result_bytes=min(self.max_result_bytes, half),
            max_seal_bytes=min(self.max_seal_bytes, half),
        )


class HostedFunction(Struct, frozen=True):
    """A function of a hosted tool: its kind, the server that has it, and its name there.

    `server` is empty for a tool that has none. `asks`: the client has to approve of each call.
    """

    kind: HostedKind
    server: str
    name: str
    asks: bool = False


class HostedCall(Struct, frozen=True):
    """A call to run; `arguments` is a JSON object, and `key` unique in the response."""

    key: int
    kind: HostedKind
    server: str
    name: str
    arguments: str


class Outcome(Struct, frozen=True):
    """What became of a call.

    `output` is text for the model; a `Source` in it stands for its mark, as in "[3]". `results` are
    those of a search. `failed`: the text says why. `error` is that of the item, where it has one.
    """

    output: tuple[str | Source, ...]
    failed: bool = False
    results: tuple[SearchResult, ...] = ()
    error: Raw | None = None
    asks: bool = False
    """It was not run: the client is asked whether it approves."""


class Approved(Struct, frozen=True):
    """A call that the client has approved of, with what became of it.

    `id` is that of the request for approval, `item_id` that of the item for the call; it is empty
    where an earlier response has run it.
    """

    id: str
    item_id: str
    server: str
    name: str
    arguments: str
    outcome: Outcome

    @property
    def output(self) -> str:
        """What the model reads."""
        return "".join(one for one in self.outcome.output if isinstance(one, str))

    def within(self, limit: int) -> Approved:
        """The same, with at most so many bytes of output."""
        output = shortened(self.output, limit)
        return replace(self, outcome=replace(self.outcome, output=(output,)))


class Asked(Struct, frozen=True):
    """What was asked of the client: its id, and the tool that a call waits for.

    `target` stands for the URL of the server; it is empty where that is not known.
    """

    id: str
    server: str
    name: str
    target: str = ""


class Ran(Struct, frozen=True, omit_defaults=True):
    """A call that was run, by the function name upstream, with its output for the model.

    `calls_behind` is the number of calls of the client's own tools behind it in its round.
    `asked`: it was not run, and the client was asked. `item` is the id of its item, where the
    client may send that back beside this.
    """

    id: str
    name: str
    arguments: str
    output: str
    calls_behind: int = 0
    asked: Asked | UnsetType = UNSET
    item: str = ""


class RanRound(Struct, frozen=True, omit_defaults=True):
    """The hosted calls of one round, in their order.

    `extras` are values of `extra_content` as in `Thought`. `last_source` is the number of the last
    source that the response has told the model by then; 0 without any. `searches` counts the items
    of searches among the calls. `approved` has the output of calls that the client approved of, by
    the id of the request for it. `own` counts the round's calls of the client's own tools: their
    results may stand before the seal.
    """

    calls: list[Ran]
    extras: dict[str, Any] = {}
    last_source: int = 0
    searches: int = 0
    approved: dict[str, str] = {}
    own: int = 0


_MARK = re.compile(r"\n\[cut: [^\]\n]{1,40}\]\Z")


def shortened(text: str, limit: int) -> str:
    """A text of at most `limit` bytes of UTF-8; one that is cut says what it was at first."""
    size = utf8_size(text)
    if size <= limit:
        return text
    before = _MARK.search(text)  # whoever ran the tool has cut it, too
    mark = before[0] if before else f"\n[cut: {_in_words(size)} in all]"
    kept = text.encode("utf-8", "replace")[: max(0, limit - len(mark))]
    return kept.decode("utf-8", "ignore") + mark if limit >= len(mark) else ""


def _in_words(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size / 1000:.1f} kB"
