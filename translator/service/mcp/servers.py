"""The servers in use, each for one client: their sessions, and their lists of tools.

    server = client, URL, headers ;
    entry  = [ session ], [ list of tools, until ] ;      the least recently used one is forgotten

Nothing is shared between clients, not even of a server that the operator names: a session may hold
state, and a list may depend on the session.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from translator.service.config.mcp import McpSection

from .failures import ConnectionBroke, McpFailed, SessionLost, refused, too_late
from .listed import ToolList, in_words, within_bounds
from .session import McpSession
from .text import result_text
from .transport import Connections

T = TypeVar("T")

MAX_PAGES = 64
"""Most pages of a list that are read."""

SHORTEST_SWEEP_S = 0.05


class Target(Struct, frozen=True):
    """A server as one client uses it. Its URL and headers are secrets, left out of its `repr`."""

    owner: str
    url: str
    headers: Mapping[str, str]
    checked: bool
    """Whether its address must be public: a client has named it, and not the operator."""

    def __repr__(self) -> str:
        return "Target(…)"

    @property
    def key(self) -> bytes:
        """What stands for it where it is remembered."""
        text = msgspec.json.encode(
            [self.owner, self.url, sorted(self.headers.items()), self.checked]
        )
        return hashlib.blake2b(text, digest_size=16).digest()


class CallResult(Struct, frozen=True):
    """What became of a call: `text` is what the model reads."""

    text: str
    error: dict[str, Any] | None = None
    """The `error` of its item; with one, the call has failed."""

    structured: object = None
    """The structured content of the result, as it came."""


class _Entry:
    """One server in use."""

    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.listing = asyncio.Lock()
        self.session: McpSession | None = None
        self.listed: ToolList | None = None
        self.listed_until = 0.0
        self.used_at = 0.0
        self.users = 0


class McpServers:
    """Lists and calls the tools of servers."""

    def __init__(
        self,
        limits: McpSection,
        connections: Connections,
        now: Callable[[], float] = time.monotonic,
        *,
        max_result_bytes: int = 256 * 1024,
    ) -> None:
        """`now` is in seconds of a clock that no one sets."""
        self._max_result_bytes = max_result_bytes
        self._limits = limits
        self._connections = connections
        self._now = now
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._sessions: set[McpSession] = set()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    def open(self) -> None:
        """To be called in the event loop, before the first request."""
        self._connections.open()

    async def aclose(self) -> None:
        """Close all sessions and connections; calls that are under way fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        self._entries.clear()
        await asyncio.gather(*(one.aclose() for one in tuple(self._sessions)))
        await self._connections.aclose()

    async def tools(self, target: Target) -> ToolList:
        """The tools of a server. Raises McpFailed."""
        with self._in_use(target) as entry:
            try:
                async with asyncio.timeout(self._limits.list_timeout_s), entry.listing:
                    if entry.listed is None or entry.listed_until <= self._now():
                        entry.listed = await self._run(entry, target, self._list, may_repeat=True)
                        entry.listed_until = self._now() + self._limits.cache_s
                    return entry.listed
            except TimeoutError:
                raise too_late(self._limits.list_timeout_s) from None

    async def call(
        self, target: Target, name: str, arguments: dict[str, Any], *, may_repeat: bool = False
    ) -> CallResult:
        """What became of a call; `may_repeat` where running it twice does no harm."""
        limits = self._limits

        async def call(session: McpSession) -> CallResult:
            found = await session.call(name, arguments, limits.call_timeout_s)
            text = result_text(found, self._max_result_bytes)
            error = None
            if found.is_error:
                content = [{"type": "text", "text": text}]
                error = {"type": "mcp_tool_execution_error", "content": content}
            return CallResult(text, error, found.structured_content)

        try:
            with self._in_use(target) as entry:
                return await self._run(entry, target, call, may_repeat=may_repeat)
        except McpFailed as failure:
            return CallResult(f"The tool failed: {failure.message}", failure.as_error())

    @contextmanager
    def _in_use(self, target: Target) -> Generator[_Entry]:
        """The entry of a server, which is not forgotten meanwhile. Raises McpFailed."""
        key = target.key
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
        entry.users += 1
        self._entries.move_to_end(key)
        try:
            self._make_room()
            if self._sweeper is None or self._sweeper.done():
                self._sweeper = asyncio.create_task(self._sweep())
            yield entry
        finally:
            entry.users -= 1
            entry.used_at = self._now()

    def _make_room(self) -> None:
        """Forget what was not used for longest. Raises McpFailed where all are in use."""
        while len(self._entries) > self._limits.max_sessions:
            unused = next((key for key, one in self._entries.items() if not one.users), None)
            if unused is None:
                self._entries.popitem()
                raise refused("Too many servers are in use at once; try again later.")
            _end_session(self._entries.pop(unused))

    async def _run(
        self,
        entry: _Entry,
        target: Target,
        work: Callable[[McpSession], Awaitable[T]],
        *,
        may_repeat: bool,
    ) -> T:
        """What is done on the server's session; once more on a new one where it was lost."""
        known = entry.session
        session = await self._session(entry, target)
        try:
            return await work(session)
        except SessionLost:
            pass  # it says that nothing was run
        except ConnectionBroke:
            if not may_repeat or session is not known:
                raise
        return await work(await self._session(entry, target))

    async def _session(self, entry: _Entry, target: Target) -> McpSession:
        async with entry.opening:
            if entry.session is not None and not entry.session.retired:
                return entry.session
            session = McpSession(
                target.url,
                target.headers,
                self._connections.transport(checked=target.checked),
                self._limits.max_answer_bytes,
            )
            self._sessions.add(session)
            session.when_closed(self._sessions.discard)
            await session.open(self._limits.list_timeout_s)
            entry.session = session
            return session

    async def _list(self, session: McpSession) -> ToolList:
        """The tools of all pages, up to the bounds."""
        limits = self._limits
        listed: list[Any] = []
        cursor = None
        for _ in range(MAX_PAGES):
            tools, cursor = await session.tools(cursor, limits.list_timeout_s)
            listed += tools
            if not cursor or len(listed) > limits.max_tools:
                break
        found = within_bounds(listed, limits)
        if found.unusable and not found.tools and not found.left_out:
            raise refused(f"None of the server's tools can be used: {in_words(found.unusable)}.")
        return replace(found, left_out=found.left_out + bool(cursor))

    async def _sweep(self) -> None:
        """Close idle sessions and forget old lists, for as long as there are any."""
        while self._entries:
            await asyncio.sleep(max(SHORTEST_SWEEP_S, self._limits.idle_s / 4))
            now = self._now()
            for key, entry in list(self._entries.items()):
                if entry.users:
                    continue
                if entry.used_at + self._limits.idle_s <= now:
                    _end_session(entry)
                if entry.session is None and entry.listed_until <= now:
                    del self._entries[key]


def _end_session(entry: _Entry) -> None:
    if entry.session is not None:
        entry.session.retire()
        entry.session = None
