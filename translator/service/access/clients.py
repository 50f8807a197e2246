"""Client authentication, the models that a client may use, and its rate limits: `[clients]`.

A client is known by its key (`Authorization: Bearer …`), checked once per request, or once per
WebSocket. Then the key is removed from the request, so that nothing behind can log it or send it
upstream.

Requests and tokens per minute are two token buckets. The tokens of a request are known only at its
end, so it is charged in advance and corrected:

    charged     a token per four bytes of the request, and of the conversation that it continues on
                a WebSocket, for each answer that it asks for; at most the whole bucket
    settled     its `cost` instead; more than is left becomes a debt
    refunded    all of it, when nothing went upstream, or nothing came but an error

A further round of a request whose tools are run here is charged its own size, as a debt where less
is left: an answer that has begun is not cut.

So concurrent requests cannot all spend what only one of them may. An answer that is cut costs what
has come of it. Each process counts for itself, unless it is one worker of several
(`shared_limits`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from translator.service.base.errors import InvalidKey, LimitReached
from translator.service.base.keys import StoredKey, salt_of
from translator.service.config.clients import ClientConfig

from .client import FREE_CALL, NO_LABELS, WHOLE, Ask, CallCharge, Ended, Extension, Round
from .cost import Answered, cost, tokens_of
from .rate_limit import Level, RateLimit

_NOBODY = StoredKey("0" * 16, "0" * 64)


class Clients:
    """The clients of the settings, by key."""

    def __init__(
        self,
        sections: Mapping[str, ClientConfig],
        clock: Callable[[], float],
        new_client: NewClient | None = None,
    ) -> None:
        self._by_salt: dict[str, tuple[StoredKey, Client]] = {}
        for name, section in sections.items():
            client = (new_client or Client)(name, section, clock)
            for key in section.keys:
                self._by_salt[key.salt] = key, client

    async def find(self, authorization: str | None, *, fresh: bool) -> Client:
        """The same as `of_key`: the settings are the same for the life of the process."""
        return self.of_key(authorization)

    def of_key(self, authorization: str | None) -> Client:
        """The client that sends this `Authorization`; raises InvalidKey."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidKey("Missing API key: send it as 'Authorization: Bearer KEY'.")
        key = key.strip()
        stored, client = self._by_salt.get(salt_of(key), (_NOBODY, None))
        if not stored.matches(key) or client is None:
            hint = "" if salt_of(key) else " A key of this service begins with 'trk_'."
            raise InvalidKey(f"Incorrect API key provided.{hint}")
        return client


class Client:
    """One client: its models, its rate limits, its open requests."""

    def __init__(
        self,
        name: str,
        section: ClientConfig,
        clock: Callable[[], float],
        *,
        requests: Level | None = None,
        tokens: Level | None = None,
    ) -> None:
        """`requests` and `tokens` are the levels of its buckets, where others use them, too."""
        self.name = name
        self._models = None if section.models is None else frozenset(section.models)
        self._max_open = section.max_concurrent_requests
        self._open = 0
        self._clock = clock
        now = clock()
        self._requests = _rate_limit("requests", section.requests_per_minute, now, requests)
        self._tokens = _rate_limit("tokens", section.tokens_per_minute, now, tokens)

    @property
    def owner(self) -> str:
        """To whom what its requests store belongs."""
        return self.name

    @property
    def may_use_any_model(self) -> bool:
        """Whether every model is allowed."""
        return self._models is None

    def may_use(self, model: str | None) -> bool:
        """Whether a model is allowed; None is the upstream's own choice."""
        return self._models is None or model in self._models

    def may_call(self, tool: str) -> bool:
        """Whether it may have a tool called: the tool's own settings say who may not."""
        return True

    @property
    def withheld(self) -> frozenset[str]:
        """No field: nothing costs money."""
        return frozenset()

    def check_slot(self) -> None:
        """Raise LimitReached when all slots of the client are taken."""
        self._check_open(self._open)

    @contextmanager
    def slot(self) -> Generator[None]:
        """A slot for one of its requests, while the context lasts; raises LimitReached."""
        self.check_slot()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def _check_open(self, count: int) -> None:
        """Raise LimitReached where so many open requests are all that it may have."""
        if self._max_open is not None and count >= self._max_open:
            raise LimitReached(
                f"{self._max_open} requests of this key are being answered already", "requests", 1.0
            )

    def charge(self, size: int, *, choices: int = 1) -> Charge:
        """Charge for a request of `size` bytes; raises LimitReached.

        `choices` is the number of answers that it asks for (`n`): each costs tokens.
        """
        now = self._clock()
        request = tokens_of(size)
        tokens = request * choices
        if self._tokens is not None:
            tokens = min(tokens, self._tokens.limit)
        wanted = ((self._requests, 1), (self._tokens, tokens))
        for limit, amount in wanted:
            if limit is not None and (wait_s := limit.wait_s(amount, now)) > 0:
                raise LimitReached(
                    f"Rate limit reached: {limit.limit} {limit.noun} per minute",
                    limit.noun,
                    wait_s,
                    headers=self.headers(),
                )
        for limit, amount in wanted:
            if limit is not None:
                limit.take(amount, now)
        return Charge(self, request, tokens)

    async def hold(self, ask: Ask, so_far: Callable[[], Answered | None]) -> Charge | None:
        """Charge for a request; None without a token limit. Raises LimitReached."""
        charge = self.charge(ask.size, choices=ask.choices)
        return charge if self.counts_tokens else None

    def correct(self, tokens: int) -> None:
        """Charge more tokens, or refund a negative number."""
        if self._tokens is not None:
            self._tokens.take(tokens, self._clock())

    @property
    def counts_tokens(self) -> bool:
        """Whether the client has a token limit."""
        return self._tokens is not None

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers of its limits; empty without any."""
        now = self._clock()
        headers: dict[str, str] = {}
        for limit in (self._requests, self._tokens):
            if limit is not None:
                headers |= limit.headers(now)
        return headers


class Charge:
    """The tokens that a request was charged, until its cost is known."""

    __slots__ = ("_client", "_request", "_tokens")

    max_output_tokens = None
    wants_usage = False
    labels = NO_LABELS

    def __init__(self, client: Client, request: int, tokens: int) -> None:
        """`request` is what the request was taken for, of which `tokens` were charged."""
        self._client = client
        self._request = request
        self._tokens = tokens

    async def extend(self, further: Round) -> Extension:
        """Charge for a further round; all of it is covered."""
        tokens = tokens_of(len(further.body))
        self._client.correct(tokens)
        self._request += tokens
        self._tokens += tokens
        return WHOLE

    async def call(self, tool: str) -> CallCharge:
        """Charge for a call of a tool: it costs nothing."""
        return FREE_CALL

    def end(self, ended: Ended) -> None:
        """The request has ended."""
        self.settle(ended.costs)

    def settle(self, answered: Answered | None) -> None:
        """The request is over; None: it costs nothing."""
        tokens = 0 if answered is None else cost(self._request, answered)
        self._client.correct(tokens - self._tokens)
        self._tokens = tokens


NewClient = Callable[[str, ClientConfig, Callable[[], float]], Client]
"""Makes a client of its name, its section, and a clock in seconds."""


def _rate_limit(noun: str, limit: int | None, now: float, level: Level | None) -> RateLimit | None:
    return None if limit is None else RateLimit(noun, limit, now, level)
