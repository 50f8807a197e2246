"""Sessions of a search: what the refs of a conversation stand for, and which URLs it has seen.

    ref = "turn", number of the request, ( "search" | "fetch" ), number

A session belongs to one owner: no other client's request finds it. Its requests are numbered from a
random number on, so that a ref of an earlier process stands for nothing here, and not for another
page. Several workers share them by files in a folder of their own: each request of a conversation
may come to another worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from .addresses import NotAllowed, parsed

SESSION_S = 6 * 3600.0
"""How long a session is remembered after its last request."""

MAX_REFS = 500
"""Refs of a session; the oldest are forgotten first."""

MAX_SEEN = 2000
"""Results and links that a session has seen; the same for each."""

MAX_FILE_BYTES = 4 * 1024 * 1024
_PREFIX = "search-"


class SearchSession(Struct):
    """The refs of one conversation, and digests of the URLs that it has seen; in order of age."""

    turn: int
    used_at: float = 0.0
    refs: dict[str, str] = {}
    results: dict[str, None] = {}
    links: dict[str, None] = {}

    def begin(self) -> int:
        """The number of the next request."""
        self.turn += 1
        return self.turn - 1

    def refer(self, ref: str, url: str) -> None:
        """Let a ref stand for a URL."""
        self.refs[ref] = url
        _shorten(self.refs, MAX_REFS)

    def url_of(self, ref: str) -> str | None:
        return self.refs.get(ref)

    def saw_result(self, url: str) -> None:
        self.results[_digest(url)] = None
        _shorten(self.results, MAX_SEEN)

    def saw_link(self, url: str) -> None:
        self.links[_digest(url)] = None
        _shorten(self.links, MAX_SEEN)

    def is_result(self, url: str) -> bool:
        """Whether a URL stood in the results of a search."""
        return _digest(url) in self.results

    def is_link(self, url: str) -> bool:
        """Whether a URL stood on a page that was opened."""
        return _digest(url) in self.links

    def merge(self, other: SearchSession) -> None:
        """Add what another worker knows of the same session, as older."""
        self.turn = max(self.turn, other.turn)
        self.refs = {**other.refs, **self.refs}
        self.results = {**other.results, **self.results}
        self.links = {**other.links, **self.links}
        _shorten(self.refs, MAX_REFS)
        _shorten(self.results, MAX_SEEN)
        _shorten(self.links, MAX_SEEN)


class SearchSessions:
    """The sessions of all clients."""

    def __init__(
        self, now: Callable[[], float], max_sessions: int, folder: Path | None = None
    ) -> None:
        """`now` is in seconds of a clock that no one sets; `folder` is that of all workers."""
        self._now = now
        self._max_sessions = max_sessions
        self._folder = folder
        self._known: OrderedDict[tuple[str, str], SearchSession] = OrderedDict()

    async def session(self, owner: str, session_id: str) -> SearchSession:
        """The session of an owner with this id; a new one where there is none."""
        now = self._now()
        while self._known:
            oldest = next(iter(self._known.values()))
            if oldest.used_at + SESSION_S >= now and len(self._known) <= self._max_sessions:
                break
            self._known.popitem(last=False)
        key = owner, session_id
        found = self._known.get(key)
        if found is None:
            found = SearchSession(secrets.randbelow(10_000))
            if session_id:
                self._known[key] = found
        elif session_id:
            self._known.move_to_end(key)
        found.used_at = now
        if self._folder is not None and session_id:
            path = self._path(self._folder, key)
            if (other := await asyncio.to_thread(_read, path)) is not None:
                found.merge(other)
        return found

    async def share(self, owner: str, session_id: str, session: SearchSession) -> None:
        """Let other workers know of a session that a request has changed."""
        if self._folder is None or not session_id:
            return
        data = msgspec.json.encode(session)
        path = self._path(self._folder, (owner, session_id))
        await asyncio.to_thread(_write, path, data, self._max_sessions)

    @staticmethod
    def _path(folder: Path, key: tuple[str, str]) -> Path:
        name = hashlib.blake2b("\0".join(key).encode("utf-8", "replace"), digest_size=16)
        return folder / f"{_PREFIX}{name.hexdigest()}.json"


def _read(path: Path) -> SearchSession | None:
    """The session in a file; None where there is none, or none that can be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        return msgspec.json.decode(path.read_bytes(), type=SearchSession)
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, data: bytes, max_files: int) -> None:
    """Replace a file, and remove the oldest ones; where that fails, workers share nothing."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=f".{_PREFIX}", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        files = [(one.stat().st_mtime, one) for one in path.parent.glob(f"{_PREFIX}*.json")]
        oldest = time.time() - SESSION_S
        for at, (changed_at, one) in enumerate(sorted(files, reverse=True)):
            if at >= max_files or changed_at < oldest:
                one.unlink(missing_ok=True)


def _shorten(entries: dict[str, str] | dict[str, None], limit: int) -> None:
    while len(entries) > limit:
        del entries[next(iter(entries))]


def _digest(url: str) -> str:
    """A URL as it is compared: a slash at its end makes no difference."""
    try:
        plain = parsed(url).geturl().removesuffix("/")
    except NotAllowed:
        return ""
    return hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).hexdigest()
