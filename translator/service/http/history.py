"""What one connection remembers, so that its client need only send what is new.

    a ── b ── c          a response is a link to the one before it, and its own items:
         └─── d          what it was asked, then what it answered

A conversation of many turns is one chain, and its beginning is held once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw

from translator.wire.responses import Response

MAX_RESPONSES = 64
"""Responses that can be gone on from, of one connection. Most clients only go on from the last."""


class Link:
    """One response: what came before it, and its own items."""

    def __init__(self, before: Link | None, items: Sequence[Raw], lane: str | None) -> None:
        self.before = before
        self.items = items
        self.lane = lane
        self.size = sum(map(len, items))  # bytes

    def chain(self) -> Iterator[Link]:
        """The link itself, then all before it."""
        link: Link | None = self
        while link is not None:
            yield link
            link = link.before

    def all_items(self) -> list[Raw]:
        """Everything from the beginning of the conversation on."""
        links = reversed(list(self.chain()))
        return [item for link in links for item in link.items]


class History:
    """The recent responses of one connection, by id; the oldest are forgotten first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._links: OrderedDict[str, Link] = OrderedDict()

    def recall(self, response_id: str) -> Link | None:
        """A response that is remembered."""
        link = self._links.get(response_id)
        if link is not None:
            self._links.move_to_end(response_id)
        return link

    def keep(self, response_id: str, link: Link) -> None:
        """Remember a response."""
        self._links[response_id] = link
        while len(self._links) > MAX_RESPONSES or self.size > self._max_bytes:
            self._links.popitem(last=False)

    def forget(self, response_id: str) -> None:
        self._links.pop(response_id, None)

    @property
    def size(self) -> int:
        """How much is held, in bytes of JSON; what several chains share counts once."""
        seen: set[int] = set()
        size = 0
        for end in self._links.values():
            for link in end.chain():
                if id(link) in seen:
                    break
                seen.add(id(link))
                size += link.size
        return size


def items_of(asked: str | Sequence[Raw] | None, response: Response) -> list[Raw]:
    """What a response adds to its conversation: the input that it answers, and its output."""
    if isinstance(asked, str):
        message = {"type": "message", "role": "user", "content": asked}
        asked = [Raw(msgspec.json.encode(message))]
    # a copy: a slice would hold the whole request, tools and all
    items = [raw.copy() for raw in asked or ()]
    return items + [Raw(msgspec.json.encode(item)) for item in response.output]
