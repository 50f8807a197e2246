"""A request that an upstream did not take: whether, where and when it is sent again.

    call = { try, [ delay ] }, answer | error       before the client has anything of an answer

Sent again is what the upstream cannot have worked on: it could not be connected to, it closed an
idle connection just as the request came, or it asked for a later try. With several addresses the
next one is asked at once, also when the first is out of order. All else is told the client, which
knows best whether it wants to pay twice.

The loop and the delays (random, in a window that doubles) are tenacity's. What decides is ours: no
library knows which connection was idle, or that all requests of an upstream share one budget.
"""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import httpx
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from translator.reader.upstream_errors import read_upstream_error
from translator.service.config.settings import Server
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import RetryScheduled

from .body import body
from .replicas import OUT_OF_ORDER, Endpoint, Endpoints
from .transport import FAULTS, cause, fault, was_idle

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.25
"""The window of the first delay; each further one is twice as long."""

MAX_DELAY_S = 4.0

BUDGET_RESERVE = 10.0
"""How many requests may be repeated before any has been answered."""

_LATER = OUT_OF_ORDER | {429}

_backoff = wait_random_exponential(multiplier=FIRST_DELAY_S, max=MAX_DELAY_S)


class Budget:
    """How many requests to one upstream may be repeated: a share of all of them."""

    def __init__(self, percent: float) -> None:
        self._share = percent / 100
        self._left = BUDGET_RESERVE if percent else 0.0

    def request(self) -> None:
        """A client's request has come."""
        self._left = min(BUDGET_RESERVE, self._left + self._share)

    def take(self) -> bool:
        """Whether there is enough left for one repetition, which is then taken."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


Ask = Callable[[str], Awaitable[httpx.Response]]
"""Sends the request to a base URL; raises one of FAULTS."""


class Tries:
    """One request, sent until it is taken or given up."""

    def __init__(
        self,
        endpoints: Endpoints,
        budget: Budget,
        server: Server,
        context: RequestContext | None,
        name: str,
    ) -> None:
        """`name` is the upstream's, for the log."""
        self._endpoints = endpoints
        self._budget = budget
        self._server = server
        self._context = context
        self._name = name
        self._tried: list[Endpoint] = []

    async def answer(self, ask: Ask) -> httpx.Response:
        """The answer of the last try; raises its FAULT."""
        self._budget.request()
        retrying = AsyncRetrying(
            retry=self._is_worth_it, wait=self._delay, before_sleep=self._again
        )
        try:
            return await retrying(self._try, ask)
        finally:
            retrying.iter_state.reset()  # it would hold itself, and all that the request holds

    async def _try(self, ask: Ask) -> httpx.Response:
        endpoint = self._endpoints.choose(self._tried)
        self._tried.append(endpoint)
        call = endpoint.asked()
        try:
            response = await ask(endpoint.url)
        except FAULTS:
            call.failed()
            raise
        except BaseException:
            call.left()
            raise
        call.answered(response.status_code)
        return response

    def _is_worth_it(self, state: RetryCallState) -> bool:
        assert state.outcome is not None
        if state.outcome.failed and _error(state) is None:
            return False  # it was given up
        return (
            len(self._tried) <= self._server.retries
            and (self._is_not_taken(state) or self._is_for_another(state))
            and self._budget.take()
        )

    def _is_not_taken(self, state: RetryCallState) -> bool:
        """Whether the same address may take the request later."""
        error = _error(state)
        if error is not None:
            return is_not_taken(error)
        asked = later(_response(state))
        return asked is not None and asked <= self._server.max_retry_after_s

    def _is_for_another(self, state: RetryCallState) -> bool:
        """Whether another address is there that may take it."""
        if not self._endpoints.others(self._tried):
            return False
        error = _error(state)
        if error is not None:
            return could_not_connect(error) or is_not_taken(error)
        return _response(state).status_code in _LATER

    def _delay(self, state: RetryCallState) -> float:
        if self._endpoints.others(self._tried):
            return 0
        asked = 0.0 if _error(state) else later(_response(state))
        return (asked or 0.0) + _backoff(state)

    async def _again(self, state: RetryCallState) -> None:
        """Say that there will be another try, and let go of what came of this one."""
        failed = _error(state)
        if failed is not None:
            error = fault(failed, "before it answered")
            error.__cause__ = failed
        else:
            response = _response(state)
            error = read_upstream_error(response.status_code, b"")
            await body(response).aclose()
        seconds = state.next_action.sleep if state.next_action else 0.0
        log.warning("upstream %s: %s Asked again in %.2fs.", self._name, error.message, seconds)
        if self._context is not None:
            self._context.record.retries += 1
            self._context.observer.on(RetryScheduled(error, seconds))


def is_not_taken(error: Exception) -> bool:
    """Whether an upstream cannot have worked on the request that failed so."""
    seen = cause(error)
    if isinstance(seen, aiohttp.ClientConnectorError):
        return not isinstance(seen, aiohttp.ClientSSLError)
    lost = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, httpx.ConnectError)
    return isinstance(seen, httpx.ConnectError) or (isinstance(seen, lost) and was_idle(error))


def could_not_connect(error: Exception) -> bool:
    """Whether there was no connection; another address may have one."""
    kinds = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout)
    return isinstance(cause(error), kinds)


def later(response: httpx.Response) -> float | None:
    """After how many seconds an upstream wants to be asked again; None when it does not say."""
    if response.status_code not in _LATER or response.headers.get("x-should-retry") == "false":
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


def _error(state: RetryCallState) -> Exception | None:
    """What a try has failed with; None when it has an answer."""
    assert state.outcome is not None
    error = state.outcome.exception()
    return error if isinstance(error, FAULTS) else None


def _response(state: RetryCallState) -> httpx.Response:
    """The answer of a try that has one."""
    assert state.outcome is not None
    response: httpx.Response = state.outcome.result()
    return response
