"""What a client is: the protocols that the clients of `[clients]` and of `[accounts]` implement.

    request = find, [ hold, … answer …, { extend, … answer … }, end ] ;

`find` authenticates. `hold` checks the limits and charges in advance, before anything goes
upstream; `extend` does that for each further round of a request whose tools are run here; `end`
replaces it all by what the request has cost. Whatever asks who sends a request, whose its data are
or what it may do, asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Literal, Protocol

from msgspec import Raw, Struct

from .cost import Answered

ANY_OUTPUT = 2**31 - 1
"""A limit of output tokens that any other one lowers."""

Result = Literal["completed", "incomplete", "refused", "failed", "client_left"]
"""How a request ended, in one word."""


class Ask(Struct, frozen=True, kw_only=True):
    """What a request asks for, as far as that costs anything."""

    size: int
    """Bytes of the request, and of what it goes on from on its way upstream."""

    choices: int = 1
    """The number of answers (`n`): each costs tokens."""

    answer: bool = True
    """Whether it is valid and wants an answer: else nothing goes upstream."""

    model: str = ""
    """The model that the client named."""

    path: str = ""
    request_id: str = ""
    max_output_tokens: int | None = None
    """The limit of an answer that the client asks for, in tokens."""

    model_output_tokens: int | None = None
    """That of the model."""

    body: bytes = b""
    earlier: Sequence[Raw] = ()
    """What it goes on from."""

    tool: str = ""
    """The tool that it wants called in place of a model, as for `Client.may_call`."""

    calls: int = 0
    """How often."""


class Round(Struct, frozen=True, kw_only=True):
    """A further round of a request: the model is asked again, with the results of tools."""

    body: bytes
    """The chat request of the round."""

    max_output_tokens: int | None = None
    """The limit of its answer that the client asks for, in tokens."""


class Extension(Struct, frozen=True):
    """What a charge covers of a further round."""

    max_output_tokens: int | None = None
    """The limit of its answer that is paid for, where that is less than asked."""

    last: bool = False
    """Whether it must be the last one, and goes without tools."""


WHOLE = Extension()
"""All of a round."""


class Ended(Struct, frozen=True, kw_only=True):
    """How a request has ended, for what it costs."""

    result: Result
    answered: Answered
    went_upstream: bool = False
    failed: bool = False
    """Whether an error is all that the client has, or how its answer ended."""

    by_us: bool = False
    """Whether a fault in this service ended it."""

    calls: int = 0
    """How many of the calls it was held for have a result."""

    @property
    def costs(self) -> Answered | None:
        """What has come; None where the request costs no tokens."""
        answered = self.answered
        came = answered.written or answered.events or answered.usage
        return answered if self.went_upstream and (came or not self.failed) else None


class CallCharge(Protocol):
    """What a call of a tool within a request was charged in advance."""

    def end(self, *, ran: bool) -> None:
        """The call has ended; `ran`: it has a result. Called once."""
        ...


class FreeCall:
    """A call that costs nothing."""

    def end(self, *, ran: bool) -> None:
        """The call has ended."""


FREE_CALL = FreeCall()


NO_LABELS: Mapping[str, str] = MappingProxyType({})
"""Of a charge of which the log has nothing to say."""


class Charge(Protocol):
    """What a request was charged in advance, until it has ended."""

    @property
    def max_output_tokens(self) -> int | None:
        """The limit of its answer that the charge pays for, where that is less than asked."""
        ...

    @property
    def wants_usage(self) -> bool:
        """Whether the upstream must state its usage."""
        ...

    async def extend(self, further: Round) -> Extension:
        """Charge for a further round, before it goes upstream.

        Until then `so_far` of the hold, as later `Ended.answered`, has what came of all rounds
        before, their usage added up. Raises QuotaExceeded where nothing of the round is paid for,
        and AccountsUnavailable: then the response fails, and what has come of it is billed.
        """
        ...

    async def call(self, tool: str) -> CallCharge:
        """Charge for a call of a tool that the request's model makes, before it is run.

        Raises QuotaExceeded where it is not paid for, InvalidKey or AccountDeactivated where the
        key may no longer be used, and AccountsUnavailable: then it is not run, and the model is
        told.
        """
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """What the log says of it once it has ended, in place of the client's name."""
        ...

    def end(self, ended: Ended) -> None:
        """The request has ended; called once. What has come is that of all rounds."""
        ...


class Client(Protocol):
    """Who sends a request: one object for each request, or for all of a client."""

    @property
    def name(self) -> str:
        """For logs and pages."""
        ...

    @property
    def owner(self) -> str:
        """To whom what its requests store belongs."""
        ...

    @property
    def may_use_any_model(self) -> bool:
        """Whether every model is allowed."""
        ...

    def may_use(self, model: str | None) -> bool:
        """Whether a model is allowed; None is the upstream's own choice."""
        ...

    def may_call(self, tool: str) -> bool:
        """Whether it may have a tool called: "search", or "mcp:NAME" of a server in the settings.

        Those of `[clients]` may: there, the tool's own `clients` say who else may not.
        """
        ...

    @property
    def withheld(self) -> frozenset[str]:
        """Fields of requests that could change what the upstream charges, and are refused."""
        ...

    def check_slot(self) -> None:
        """Raise LimitReached when all slots of the client are taken."""
        ...

    def slot(self) -> AbstractContextManager[None]:
        """A slot for one of its requests, while the context lasts; entering raises LimitReached."""
        ...

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens its requests have."""
        ...

    async def hold(self, ask: Ask, so_far: Callable[[], Answered | None]) -> Charge | None:
        """Charge for a request; None where its end does not matter.

        `so_far` is what has come of the answer. Raises LimitReached, and with accounts what their
        `AccountClient.hold` raises.
        """
        ...

    def correct(self, tokens: int) -> None:
        """Charge more tokens, or refund a negative number."""
        ...

    def headers(self) -> dict[str, str]:
        """The headers of a response that tell its limits."""
        ...


class Clients(Protocol):
    """All clients of the service."""

    async def find(self, authorization: str | None, *, fresh: bool) -> Client:
        """The client that sends this `Authorization`; raises InvalidKey.

        `fresh`: what is known of it must be of this moment; else its `hold` checks that.
        """
        ...
