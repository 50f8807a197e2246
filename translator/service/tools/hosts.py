"""Manners towards other hosts: one page at a time, their `robots.txt`, and when to come again."""

from __future__ import annotations

import asyncio
import email.utils
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from .robots import MAX_BYTES, Rule, is_open, read_robots
from .web import Fetched, FetchFailed

MAX_HOSTS = 1000
"""Hosts that are remembered; the one that was asked longest ago is forgotten first."""

MAX_WAIT_S = 3600.0
"""Longest `Retry-After` that is remembered."""

ROBOTS_S = 3600.0
"""How long the rules of a `robots.txt` hold."""

ROBOTS_TIMEOUT_S = 5.0
MAX_REDIRECTS = 5
_ASKED_TO_WAIT = (429, 503)

Get = Callable[[str, int], Awaitable[Fetched]]
"""Fetches a URL, up to a number of bytes."""


class _Host:
    __slots__ = ("closed_until", "lock", "rules", "rules_until")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.closed_until = -math.inf
        self.rules: tuple[Rule, ...] | None = ()
        """None: the host would not say, so all is closed."""

        self.rules_until = -math.inf


class Hosts:
    """The hosts that pages were fetched from lately."""

    def __init__(self, get: Get, now: Callable[[], float], *, respect_robots: bool) -> None:
        """`now` is in seconds of a clock that no one sets."""
        self._get = get
        self._now = now
        self._respect_robots = respect_robots
        self._known: OrderedDict[str, _Host] = OrderedDict()

    @asynccontextmanager
    async def turn(self, url: str) -> AsyncGenerator[None]:
        """A page of its host may be fetched while the context lasts.

        Raises FetchFailed, and NotAllowed.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        host = self._host(origin)
        async with host.lock:
            wait_s = host.closed_until - self._now()
            if wait_s > 0:
                raise FetchFailed(f"its server asks to come again in {math.ceil(wait_s)} s")
            if self._respect_robots:
                await self._check_robots(host, origin, url[len(origin) :])
            yield

    def answered(self, url: str, answer: Fetched) -> None:
        """Remember what an answer says of further requests."""
        if answer.status not in _ASKED_TO_WAIT or not answer.retry_after:
            return
        parts = urlsplit(url)
        host = self._host(f"{parts.scheme}://{parts.netloc}")
        host.closed_until = self._now() + _seconds(answer.retry_after)

    def _host(self, origin: str) -> _Host:
        host = self._known.get(origin)
        if host is None:
            host = self._known[origin] = _Host()
            if len(self._known) > MAX_HOSTS:
                idle = (name for name, one in self._known.items() if not one.lock.locked())
                del self._known[next(idle)]
        self._known.move_to_end(origin)
        return host

    async def _check_robots(self, host: _Host, origin: str, path: str) -> None:
        if self._now() >= host.rules_until:
            host.rules = await self._rules(origin)
            host.rules_until = self._now() + ROBOTS_S
        if host.rules is None or not is_open(host.rules, path):
            raise FetchFailed("its robots.txt closes it to programs")

    async def _rules(self, origin: str) -> tuple[Rule, ...] | None:
        """The rules of a host. It is all open without a file, all closed without an answer."""
        url = f"{origin}/robots.txt"
        for _ in range(MAX_REDIRECTS + 1):
            try:
                async with asyncio.timeout(ROBOTS_TIMEOUT_S):
                    answer = await self._get(url, MAX_BYTES)
            except TimeoutError:
                raise FetchFailed("its server did not answer in time") from None
            if answer.location:
                url = urljoin(url, answer.location)
                if url.startswith(f"{origin}/"):
                    continue
                return ()  # where another host has it, that host is asked when it has the page
            if answer.status >= 500:
                return None
            return read_robots(str(answer.body, "utf-8", "replace")) if answer.status == 200 else ()
        return ()


def _seconds(retry_after: str) -> float:
    """The seconds that a `Retry-After` asks to wait, as a number or as a date."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_WAIT_S)
    try:
        then = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    wait_s = (then - datetime.now(then.tzinfo)).total_seconds()
    return min(max(wait_s, 0.0), MAX_WAIT_S)
