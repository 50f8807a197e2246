"""The history of a WebSocket: recent responses, so that `previous_response_id` works.

    a ── b ── c          a response links to the one before it, and has its own items:
         └─── d          its input, then its output

A conversation of many turns is one chain, and its beginning is stored once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from translator.wire.items import OutputItem

if TYPE_CHECKING:
    from translator.service.turns.keeping import Keeping

MAX_RESPONSES = 64
"""Responses that one connection can continue. Most clients only continue the last one."""


class Link:
    """One response: its own items, and the link to the one before it."""

    def __init__(
        self,
        before: Link | None,
        items: Sequence[Raw],
        lane: str | None,
        *,
        stored: bool = False,
    ) -> None:
        """`stored`: it has no items, since a store has them."""
        self.stored = stored
        self.before = before
        self.items = items
        self.lane = lane
        self.size = sum(map(len, items))  # bytes

    def chain(self) -> Iterator[Link]:
        """The link itself, then all links before it."""
        link: Link | None = self
        while link is not None:
            yield link
            link = link.before

    def all_items(self) -> list[Raw]:
        """The items of the whole conversation."""
        links = reversed(list(self.chain()))
        return [item for link in links for item in link.items]


class Histories:
    """The histories of all connections of a process, at most `max_bytes` of JSON together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._open: set[History] = set()
        self.size = 0

    def begin(self, max_bytes: int) -> History:
        """The history of a new connection, of `max_bytes` itself; to be closed with it."""
        history = History(self, max_bytes)
        self._open.add(history)
        return history

    def end(self, history: History) -> None:
        self._open.discard(history)

    def make_room(self) -> None:
        """Drop the oldest responses of the largest histories."""
        while self.size > self._max_bytes:
            max(self._open, key=lambda one: one.size).drop_oldest()


class History:
    """The recent responses of one connection, by id; an LRU cache."""

    def __init__(self, all_of_them: Histories, max_bytes: int) -> None:
        self._all = all_of_them
        self._max_bytes = max_bytes
        self._links: OrderedDict[str, Link] = OrderedDict()
        self.size = 0
        """Bytes of JSON that are stored; links that chains share count once."""

    def recall(self, response_id: str) -> Link | None:
        """A response by its id; None when it is not there."""
        link = self._links.get(response_id)
        if link is not None:
            self._links.move_to_end(response_id)
        return link

    def keep(self, response_id: str, link: Link) -> None:
        """Add a response."""
        self._links[response_id] = link
        self._measure()
        while len(self._links) > MAX_RESPONSES or self.size > self._max_bytes:
            self.drop_oldest()
        self._all.make_room()

    def forget(self, response_id: str) -> None:
        self._links.pop(response_id, None)
        self._measure()

    def drop_oldest(self) -> None:
        self._links.popitem(last=False)
        self._measure()

    def close(self) -> None:
        """Release all of it: the connection is over."""
        self._links.clear()
        self._measure()
        self._all.end(self)

    def _measure(self) -> None:
        seen: set[int] = set()
        size = 0
        for end in self._links.values():
            for link in end.chain():
                if id(link) in seen:
                    break
                seen.add(id(link))
                size += link.size
        self._all.size += size - self.size
        self.size = size


def items_of(source: str | Sequence[Raw] | None, output: Sequence[OutputItem]) -> list[Raw]:
    """The items that a response adds to its conversation: its input, and its output."""
    if isinstance(source, str):
        message = {"type": "message", "role": "user", "content": source}
        source = [Raw(msgspec.json.encode(message))]
    # a copy: a slice would hold the whole request, tools and all
    items = [raw.copy() for raw in source or ()]
    return items + [Raw(msgspec.json.encode(item)) for item in output]


def recalled(keeping: Keeping, lane: str | None) -> Link | None:
    """What a store recalled for a turn, as the link before it, unless the store keeps that, too."""
    earlier = keeping.earlier
    keeping.forget_earlier()
    return None if earlier is None or keeping.context.keeps else Link(None, earlier, lane)
