"""Sessions of a search: what the refs of a conversation stand for, and which URLs it has seen.

    ref = "turn", number of the request, ( "search" | "fetch" | "view" ), number

A session belongs to one owner: no other client's request finds it. Its requests are numbered from a
random number on, so that a ref of another process, or of one before, stands for nothing here, and
not for another page.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable

from .addresses import NotAllowed, parsed

SESSION_S = 6 * 3600.0
"""How long one is remembered after its last request."""

MAX_REFS = 500
"""Refs of a session; the oldest are forgotten first."""

MAX_SEEN = 2000
"""URLs that a session has seen; the same."""


class SearchSession:
    """The refs and URLs of one conversation."""

    __slots__ = ("_links", "_refs", "_results", "turn", "used_at")

    def __init__(self, first_turn: int, now: float) -> None:
        self.turn = first_turn
        self.used_at = now
        self._refs: OrderedDict[str, str] = OrderedDict()
        self._results: OrderedDict[int, None] = OrderedDict()
        self._links: OrderedDict[int, None] = OrderedDict()

    def begin(self) -> int:
        """The number of the next request."""
        self.turn += 1
        return self.turn - 1

    def refer(self, ref: str, url: str) -> None:
        """Let a ref stand for a URL."""
        self._refs[ref] = url
        if len(self._refs) > MAX_REFS:
            self._refs.popitem(last=False)

    def url_of(self, ref: str) -> str | None:
        return self._refs.get(ref)

    def saw_result(self, url: str) -> None:
        _add(self._results, url)

    def saw_link(self, url: str) -> None:
        _add(self._links, url)

    def is_result(self, url: str) -> bool:
        """Whether a URL stood in the results of a search."""
        return _key(url) in self._results

    def is_link(self, url: str) -> bool:
        """Whether a URL stood on a page that was opened."""
        return _key(url) in self._links


class SearchSessions:
    """The sessions of all clients."""

    def __init__(
        self,
        now: Callable[[], float],
        max_sessions: int,
        first_turn: Callable[[], int] = lambda: secrets.randbelow(10_000),
    ) -> None:
        """`now` is in seconds of a clock that no one sets."""
        self._now = now
        self._max_sessions = max_sessions
        self._first_turn = first_turn
        self._known: OrderedDict[tuple[str, str], SearchSession] = OrderedDict()

    def session(self, owner: str, session_id: str) -> SearchSession:
        """The session of an owner with this id; a new one where there is none."""
        now = self._now()
        while self._known:
            oldest = next(iter(self._known.values()))
            if oldest.used_at + SESSION_S >= now and len(self._known) <= self._max_sessions:
                break
            self._known.popitem(last=False)
        key = owner, session_id
        found = self._known.get(key) if session_id else None
        if found is None:
            found = SearchSession(self._first_turn(), now)
            if session_id:
                self._known[key] = found
        if session_id:
            self._known.move_to_end(key)
        found.used_at = now
        return found


def _add(seen: OrderedDict[int, None], url: str) -> None:
    seen[_key(url)] = None
    if len(seen) > MAX_SEEN:
        seen.popitem(last=False)


def _key(url: str) -> int:
    """A URL as it is compared: a slash at its end makes no difference."""
    try:
        return hash(parsed(url).geturl().removesuffix("/"))
    except NotAllowed:
        return 0
