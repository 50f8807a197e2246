"""A retry loop: whether, where and when a request that an upstream did not accept is sent again.

    call = { attempt, [ delay ] }, answer | error    before the client has anything of a response

A request is retried if the upstream cannot have worked on it: it could not be connected to, or it
asked for a later attempt. (One that met an idle connection just as the upstream closed it was sent
again by the transport.) With several replicas the next one is tried at once, also when the first is
out of order. Every other error goes to the client, which knows best whether it wants to pay twice.

Delays are random, in a window that doubles. All requests of an upstream share one retry budget.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from translator.reader.upstream_errors import read_upstream_error
from translator.service.base.descriptors import report_exhaustion
from translator.service.base.errors import OutOfDescriptors, drop_tracebacks
from translator.service.config.settings import Server
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import RetryScheduled
from translator.wire.errors import UpstreamError

from .replicas import OUT_OF_ORDER, Replica, Replicas
from .response import UpstreamResponse
from .transport_errors import (
    TRANSPORT_ERRORS,
    could_not_connect,
    is_ours,
    upstream_error,
    was_not_processed,
)

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.25
"""The window of the first delay; each further one is twice as long."""

MAX_DELAY_S = 4.0

BUDGET_RESERVE = 10.0
"""How many requests may be retried before any has been answered."""

_RETRY_LATER = OUT_OF_ORDER | {429}


class Budget:
    """How many requests to one upstream may be retried: a share of all of them."""

    def __init__(self, percent: float) -> None:
        self._share = percent / 100
        self._left = BUDGET_RESERVE if percent else 0.0

    def request(self) -> None:
        """Add the share of a client's request."""
        self._left = min(BUDGET_RESERVE, self._left + self._share)

    def take(self) -> bool:
        """Take one retry from the budget; False when too little is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


Send = Callable[[str], Awaitable[UpstreamResponse]]
"""Sends the request to a base URL; raises one of TRANSPORT_ERRORS."""


class RetryLoop:
    """Sends one request until an attempt is final."""

    __slots__ = ("_budget", "_context", "_name", "_replicas", "_server", "_tried", "retries")

    def __init__(
        self,
        replicas: Replicas,
        budget: Budget,
        server: Server,
        context: RequestContext | None,
        name: str,
    ) -> None:
        """`name` is the upstream's, for the log."""
        self._replicas = replicas
        self._budget = budget
        self._server = server
        self._context = context
        self._name = name
        self.retries = server.retries
        """How often it may be sent again."""
        self._tried: list[Replica] = []

    async def run(self, send: Send) -> UpstreamResponse:
        """The answer to the last attempt; raises its error, and OutOfDescriptors."""
        self._budget.request()
        while True:
            try:
                response = await self._attempt(send)
            except TRANSPORT_ERRORS as error:
                same_replica = was_not_processed(error)
                if not self._may_retry(
                    same_replica, other_replica=same_replica or could_not_connect(error)
                ):
                    raise
                delay_s = self._announce(_caused_by(error))
                drop_tracebacks(error)  # aiohttp's frames hold it, and ours the request
            else:
                after_s = retry_after(response)
                same_replica = after_s is not None and after_s <= self._server.max_retry_after_s
                if not self._may_retry(same_replica, other_replica=response.status in _RETRY_LATER):
                    return response
                await response.body.aclose()
                delay_s = self._announce(read_upstream_error(response.status, b""), after_s)
                del response
            await asyncio.sleep(delay_s)

    async def _attempt(self, send: Send) -> UpstreamResponse:
        replica = self._replicas.choose(self._tried)
        self._tried.append(replica)
        attempt = replica.begin()
        try:
            response = await send(replica.url)
        except TRANSPORT_ERRORS as error:
            if is_ours(error):
                attempt.not_made()
                report_exhaustion("requests cannot be sent upstream, and get a 503")
                raise OutOfDescriptors from None
            attempt.failed()
            raise
        except BaseException:
            attempt.abandoned()
            raise
        attempt.answered(response.status)
        return response

    def _may_retry(self, same_replica: bool, *, other_replica: bool) -> bool:
        """Take a retry from the budget, if the same replica or another one may accept the request.

        `same_replica`: the same one may, later. `other_replica`: another one may, if there is one.
        """
        return (
            len(self._tried) <= self.retries
            and (same_replica or (other_replica and self._replicas.has_untried(self._tried)))
            and self._budget.take()
        )

    def _announce(self, error: UpstreamError, after_s: float | None = None) -> float:
        """Report a retry to the log and the observer; its delay in seconds.

        `after_s` is what the upstream asked for.
        """
        if self._replicas.has_untried(self._tried):
            delay_s = 0.0
        else:
            delay_s = (after_s or 0.0) + _backoff(len(self._tried))
        log.warning("upstream %s: %s Retry in %.2fs.", self._name, error.message, delay_s)
        if self._context is not None:
            self._context.record.retries += 1
            self._context.observer.on(RetryScheduled(error, delay_s))
        return delay_s


def _caused_by(error: Exception) -> UpstreamError:
    ours = upstream_error(error, "before it answered")
    ours.__cause__ = error
    return ours


def _backoff(attempts: int) -> float:
    """A random delay in seconds after so many attempts, at least one."""
    return random.uniform(0, min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (attempts - 1)))


def retry_after(response: UpstreamResponse) -> float | None:
    """The seconds after which an upstream asks for a retry; None when it does not."""
    if response.status not in _RETRY_LATER or response.headers.get("x-should-retry") == "false":
        return None
    return retry_after_s(response.headers, time.time())


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """`Retry-After` in seconds, whether it is a number or a date; None for anything else."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            number = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 <= number < 1e9:
            return number * unit
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, date.timestamp() - now)
