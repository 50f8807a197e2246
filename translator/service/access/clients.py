"""Who may ask, which models, and how much: the clients of `[clients]`.

A client is known by its key (`Authorization: Bearer …`), looked at once per request, or once per
WebSocket. From then on the key is gone: it is taken out of the request, so nothing behind can log
it or send it upstream.

Two allowances fill up evenly and never hold more than a minute's worth: requests, and tokens. What
a request will cost in tokens is only known when it is over, so it is charged before and corrected
after:

    charged     a token per four bytes of the request, at most the whole allowance
    settled     the usage of the answer, in the place of that; more than was left becomes a debt,
                which must be filled up first
    given back  all of it, where nothing was answered

An answer that is cut, or does not tell its usage, costs what was charged; a chat stream that passes
through costs a token per event besides. So requests that run at the same time cannot all live on
what only one of them may use. Each process counts for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from translator.service.base.errors import InvalidKey, LimitReached
from translator.service.base.keys import StoredKey, salt_of
from translator.service.config.settings import ClientSection
from translator.wire.responses import Usage

from .token_meter import TokenMeter

BYTES_PER_TOKEN = 4

_NOBODY = StoredKey("0" * 16, "0" * 64)


class Clients:
    """Everyone who may ask, by key."""

    def __init__(self, sections: Mapping[str, ClientSection], clock: Callable[[], float]) -> None:
        self._by_salt: dict[str, tuple[StoredKey, Client]] = {}
        for name, section in sections.items():
            client = Client(name, section, clock)
            for key in section.keys:
                self._by_salt[key.salt] = key, client

    def of_key(self, authorization: str | None) -> Client:
        """The client that sends this `Authorization`; raises InvalidKey."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidKey("Missing API key: send it as 'Authorization: Bearer KEY'.")
        key = key.strip()
        stored, client = self._by_salt.get(salt_of(key), (_NOBODY, None))
        if not stored.matches(key) or client is None:
            raise InvalidKey("Incorrect API key provided.")
        return client


class Client:
    """One client, and what is left of its allowances."""

    def __init__(self, name: str, section: ClientSection, clock: Callable[[], float]) -> None:
        self.name = name
        self._models = None if section.models is None else frozenset(section.models)
        self._max_open = section.max_concurrent_requests
        self._open = 0
        self._clock = clock
        now = clock()
        self._requests = _allowance("requests", section.requests_per_minute, now)
        self._tokens = _allowance("tokens", section.tokens_per_minute, now)

    @property
    def chooses_freely(self) -> bool:
        """Whether every model is allowed."""
        return self._models is None

    def may_use(self, model: str | None) -> bool:
        """Whether the model is allowed; None stands for the upstream's own choice."""
        return self._models is None or model in self._models

    @contextmanager
    def place(self) -> Generator[None]:
        """A place among the requests of this client at once; raises LimitReached without one."""
        if self._max_open is not None and self._open >= self._max_open:
            raise LimitReached(
                f"{self._max_open} requests of this key are being answered already", "requests", 1.0
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def charge(self, size: int) -> Charge:
        """Charge for a request whose body has so many bytes; raises LimitReached."""
        now = self._clock()
        tokens = size // BYTES_PER_TOKEN
        if self._tokens is not None:
            tokens = min(tokens, self._tokens.limit)
        wanted = ((self._requests, 1), (self._tokens, tokens))
        for allowance, amount in wanted:
            if allowance is not None and (wait_s := allowance.wait_s(amount, now)) > 0:
                raise LimitReached(
                    f"Rate limit reached: {allowance.limit} {allowance.noun} per minute",
                    allowance.noun,
                    wait_s,
                    headers=self.headers(),
                )
        for allowance, amount in wanted:
            if allowance is not None:
                allowance.take(amount, now)
        return Charge(self, tokens)

    def correct(self, tokens: int) -> None:
        """Charge so many tokens more, or less."""
        if self._tokens is not None:
            self._tokens.take(tokens, self._clock())

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters to this client how many tokens a request costs."""
        return self._tokens is not None

    def headers(self) -> dict[str, str]:
        """What is left, as OpenAI's own headers tell it; empty without a limit."""
        now = self._clock()
        headers: dict[str, str] = {}
        for allowance in (self._requests, self._tokens):
            if allowance is not None:
                headers |= allowance.headers(now)
        return headers


class Charge:
    """The tokens that one request was charged, until its real cost is known."""

    def __init__(self, client: Client, tokens: int) -> None:
        self._client = client
        self._tokens = tokens

    @contextmanager
    def metered(self) -> Generator[TokenMeter | None]:
        """Settle by what an answer tells while it passes; None where tokens do not matter."""
        if not self._client.counts_tokens:
            yield None
            return
        meter = TokenMeter()
        try:
            yield meter
        finally:
            told = meter.total
            self.settle(self._tokens + meter.events if told is None else told)

    def close(self, usage: Usage | None, *, answered: bool) -> None:
        """The request is over. Without an answer it costs nothing, without usage the charge."""
        if usage is not None:
            self.settle(usage.total_tokens)
        elif not answered:
            self.settle(0)

    def settle(self, tokens: int) -> None:
        """The request is over and has cost so many tokens."""
        self._client.correct(tokens - self._tokens)
        self._tokens = tokens


_ROUNDING = 1e-6
"""What may seem to be missing to whoever comes back just when it was told."""


class Allowance:
    """A quantity that fills up evenly, by `limit` per minute and up to `limit`."""

    def __init__(self, noun: str, limit: int, now: float) -> None:
        self.noun = noun
        self.limit = limit
        self._left = float(limit)
        self._since = now

    def wait_s(self, amount: int, now: float) -> float:
        """In how many seconds so much will be there; 0 when it is, or will never be nearer."""
        self._fill(now)
        missing = amount - self._left
        return missing * 60 / self.limit if missing > _ROUNDING else 0.0

    def take(self, amount: int, now: float) -> None:
        """Take so much, or give it back when it is negative; what is not there becomes a debt."""
        self._fill(now)
        self._left = min(float(self.limit), self._left - amount)

    def headers(self, now: float) -> dict[str, str]:
        self._fill(now)
        missing_s = (self.limit - self._left) * 60 / self.limit
        return {
            f"x-ratelimit-limit-{self.noun}": str(self.limit),
            f"x-ratelimit-remaining-{self.noun}": str(max(0, int(self._left))),
            f"x-ratelimit-reset-{self.noun}": shown_s(missing_s),
        }

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._since)  # clocks are set back, too
        self._since = now
        self._left = min(float(self.limit), self._left + passed * self.limit / 60)


def _allowance(noun: str, limit: int | None, now: float) -> Allowance | None:
    return None if limit is None else Allowance(noun, limit, now)


def shown_s(seconds: float) -> str:
    """A time as OpenAI's headers write it: "120ms", "7.66s", "2m59.5s"."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 2), 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest:.2f}".rstrip("0").rstrip(".") + "s"
