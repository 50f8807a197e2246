"""The client that a key of an account stands for, and what a request of it was charged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import msgspec

from translator.service.access.client import (
    FREE_CALL,
    NO_LABELS,
    WHOLE,
    Ask,
    CallCharge,
    Ended,
    Extension,
    Round,
)
from translator.service.access.cost import Answered, cost, tokens_of
from translator.service.base.errors import (
    AccountDeactivated,
    AccountsUnavailable,
    InvalidKey,
    LimitReached,
    QuotaExceeded,
)
from translator.service.config.accounts import AccountsSection
from translator.wire.errors import NotFound, TranslatorError

from .allowances import Allowance
from .bills import Bill, Counts, bill_of_calls, cost_of
from .extensions import Extended, ExtensionRequest
from .holds import Held, HoldRequest, Refused
from .keys import Key, Offer
from .money import shown_cost, shown_down
from .periods import shown_time
from .rounds import Rounds
from .settlements import Settlement
from .sizes import Size, size_of
from .tools import ToolCalls, kind_of, priced_name

COUNTS_ONLY = "/responses/input_tokens"
"""The path, without `/v1`, of requests that are not answered by a model."""

_MONEY = ("balance", "key_limit")

MAX_HELD_TOKENS = 2**40
"""Most tokens that a hold takes from a minute: a client may ask for any number of answers."""

ATTEMPTS = 3
"""How often a hold is tried while what is known of its key changes."""


class Holder(Protocol):
    """Who makes holds and ends them: `directory.Accounts`."""

    boot: str
    offer: Offer
    section: AccountsSection
    withheld: frozenset[str]

    def new_token(self) -> str: ...
    async def reread(self, key: Key) -> Key: ...
    def released(self, account: int) -> int: ...
    async def hold(self, ask: HoldRequest) -> Held | Refused | None: ...
    async def extend(self, ask: ExtensionRequest) -> Extended | Refused | None: ...
    def opened(self, charge: AccountCharge) -> None: ...
    def opened_call(self, hold_id: int) -> None: ...
    def settle(self, end: Settlement) -> None: ...
    def correct_tokens(self, key: Key, tokens: int) -> None: ...


class AccountClient:
    """A key of an account, as one request or one WebSocket has it."""

    __slots__ = ("_accounts", "_allowances", "_key", "_left")

    def __init__(self, accounts: Holder, key: Key) -> None:
        self._accounts = accounts
        self._key = key
        self._allowances: tuple[Allowance, ...] = ()
        self._left: int | None = None

    @property
    def name(self) -> str:
        return f"{self._key.account_name}/key_{self._key.id}"

    @property
    def owner(self) -> str:
        return f"acct_{self._key.account}"

    @property
    def ids(self) -> tuple[int, int]:
        """The numbers of its account, and of its key."""
        return self._key.account, self._key.id

    @property
    def may_use_any_model(self) -> bool:
        return self._accounts.offer.any_model(self._key)

    def may_use(self, model: str | None) -> bool:
        if model is None:
            return self.may_use_any_model
        return self._accounts.offer.channel(self._key, model) is not None

    def may_call(self, tool: str) -> bool:
        return self._accounts.offer.tool_channel(self._key, tool) is not None

    @property
    def withheld(self) -> frozenset[str]:
        return self._accounts.withheld

    def check_slot(self) -> None:
        """A hold decides on it."""

    def slot(self) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    def counts_tokens(self) -> bool:
        return True

    async def hold(self, ask: Ask, so_far: Callable[[], Answered | None]) -> AccountCharge | None:
        """Hold what a request may cost; None for one that goes nowhere.

        Raises InvalidKey, AccountDeactivated, LimitReached, QuotaExceeded, NotFound for a model
        that is no longer offered, and AccountsUnavailable.
        """
        if not ask.answer:
            return None
        size = size_of(ask)
        tokens = min(tokens_of(ask.size) * ask.choices, MAX_HELD_TOKENS)
        for attempt in range(ATTEMPTS):
            held = await self._accounts.hold(self._request(ask, size, tokens))
            if held is None:  # served without the database
                return None
            self._allowances = held.allowances
            self._left = held.left
            if isinstance(held, Held):
                return AccountCharge(self._accounts, self._key, held, ask, size, so_far)
            if held.why != "stale" or attempt == ATTEMPTS - 1:
                raise self._error(held, ask)
            self._key = await self._accounts.reread(self._key)
            if ask.tool and not self.may_call(ask.tool):
                raise _no_tool()
            if ask.model and not ask.tool and not self.may_use(ask.model):
                raise _no_model(ask.model)
        raise AssertionError("the last attempt returns or raises")

    def _request(self, ask: Ask, size: Size, tokens: int) -> HoldRequest:
        key, section = self._key, self._accounts.section
        calls = ToolCalls(kind_of(ask.tool), ask.calls) if ask.tool else None
        if calls is None:
            channel, model = self._accounts.offer.channel(key, ask.model), _column(ask.model)
        else:
            channel = self._accounts.offer.tool_channel(key, ask.tool)
            model = priced_name(calls.kind)
        path = ask.path.removeprefix("/v1")
        return HoldRequest(
            token=self._accounts.new_token(),
            boot=self._accounts.boot,
            account=key.account,
            key=key.id,
            generation=key.generation,
            model=model,
            channel="" if channel is None else channel.name,
            endpoint=path[:50],
            request_id=ask.request_id,
            tokens=tokens,
            price_list=channel.price_list if section.billing and channel is not None else None,
            counts_only=path == COUNTS_ONLY,
            calls=calls,
            released=self._accounts.released(key.account),
            input_tokens=size.held_tokens,
            choices=ask.choices,
            asked=ask.max_output_tokens,
            model_limit=ask.model_output_tokens,
            default_limit=section.hold_output_tokens,
            least_limit=section.min_output_tokens,
        )

    def _error(self, refused: Refused, ask: Ask) -> TranslatorError:
        """The answer to a request that was refused."""
        limit, headers = refused.limit, self.headers()
        match refused.why:
            case "requests" | "tokens" as noun:
                sentence = f"Rate limit reached: {limit} {noun} per minute"
                return LimitReached(sentence, noun, refused.wait_us / 1e6, headers=headers)
            case "concurrent":
                sentence = f"{limit} requests of this key are being answered already"
                return LimitReached(sentence, "requests", 1.0, headers=headers)
            case why if why in _MONEY:
                return _no_money(refused, headers)
            case "unpriced":
                return _no_model(ask.model)
            case _:
                return refusal(self._key, refused.why)

    def correct(self, tokens: int) -> None:
        if self._key.tokens_per_minute is not None:
            self._accounts.correct_tokens(self._key, tokens)

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers of the last hold, and the balance as Codex reads it."""
        headers: dict[str, str] = {}
        for one in self._allowances:
            headers |= one.headers()
        if self._left is not None:
            headers |= {
                "x-codex-credits-has-credits": "true" if self._left > 0 else "false",
                "x-codex-credits-unlimited": "false",
                "x-codex-credits-balance": shown_down(max(0, self._left)),
            }
        return headers


def refusal(key: Key, why: str = "") -> TranslatorError:
    """The error for a key that may not be used."""
    if why == "suspended" or (not why and key.suspended):
        return AccountDeactivated()
    if why == "expired" and key.expires_at is not None:
        return InvalidKey(f"This API key expired {shown_time(key.expires_at)}; ask the operator.")
    return InvalidKey("Incorrect API key provided.")


def _column(name: str) -> str:
    """A name of a model as every database can hold it: without a model table, it is any text."""
    return name[:200].replace("\0", "?")


def _no_tool() -> NotFound:
    return NotFound(
        "This tool is not allowed for this key.", param=None, code="unsupported_endpoint"
    )


def _no_money(refused: Refused, headers: dict[str, str]) -> QuotaExceeded:
    if refused.why == "balance":
        return QuotaExceeded(
            "Nothing is left of the balance of this account, or too little for this "
            "request. Ask the operator of this service for more.",
            headers=headers,
        )
    after = refused.next_period
    when = "" if after is None else f" The next period begins {shown_time(after)}."
    return QuotaExceeded(f"The limit of this key is used up.{when}", headers=headers)


def _no_model(model: str) -> NotFound:
    message = f"The model '{model[:200]}' does not exist."
    return NotFound(message, param="model", code="model_not_found")


class AccountCharge:
    """A hold of a request that is being answered."""

    __slots__ = (
        *("_accounts", "_ask", "_extended", "_held_tokens", "_key", "_request_tokens", "_rounds"),
        *("_so_far", "held", "labels", "max_output_tokens"),
    )

    wants_usage = True

    def __init__(
        self,
        accounts: Holder,
        key: Key,
        held: Held,
        ask: Ask,
        size: Size,
        so_far: Callable[[], Answered | None],
    ) -> None:
        self._accounts = accounts
        self._key = key
        self._ask = msgspec.structs.replace(ask, body=b"", earlier=())
        self._rounds = Rounds(size)
        self._request_tokens = tokens_of(ask.size)
        self._held_tokens = held.tokens  # those of the minute
        self._extended = False
        self._so_far: Callable[[], Answered | None] | None = so_far
        self.held = held
        self.labels: Mapping[str, str] = NO_LABELS
        self.max_output_tokens = held.max_output_tokens
        accounts.opened(self)

    def seen(self) -> Counts | None:
        """How far its answer is; None where nothing has come."""
        return self._rounds.seen(None if self._so_far is None else self._so_far())

    async def extend(self, further: Round) -> Extension:
        """Hold what a further round may cost.

        Raises QuotaExceeded and AccountsUnavailable. A key that may no longer be used has one more
        round, so that an answer that has begun comes to its end.
        """
        ask, section = self._ask, self._accounts.section
        size = size_of(Ask(size=0, body=further.body))
        tokens = tokens_of(len(further.body))
        came = (None if self._so_far is None else self._so_far()) or Answered()
        found = await self._accounts.extend(
            ExtensionRequest(
                id=self.held.id,
                account=self._key.account,
                key=self._key.id,
                price=self.held.price,
                spent=self._rounds.spent(came),
                tokens=self._held_tokens + tokens,
                input_tokens=size.held_tokens,
                asked=further.max_output_tokens,
                model_limit=ask.model_output_tokens,
                default_limit=section.hold_output_tokens,
                least_limit=section.min_output_tokens,
            )
        )
        if isinstance(found, Refused):
            raise AccountsUnavailable if found.why == "gone" else _no_money(found, {})
        self._rounds.begin(size, came)
        self._extended = True
        self._request_tokens += tokens
        self._held_tokens += tokens
        return WHOLE if found is None else Extension(found.max_output_tokens, last=found.last)

    async def call(self, tool: str) -> CallCharge:
        """Hold what a call of a tool costs, in a hold of its own; see `access.client.Charge`."""
        accounts, key, kind = self._accounts, self._key, kind_of(tool)
        channel = accounts.offer.tool_channel(key, tool)
        held = await accounts.hold(
            HoldRequest(
                token=accounts.new_token(),
                boot=accounts.boot,
                account=key.account,
                key=key.id,
                generation=key.generation,
                model=priced_name(kind),
                channel="" if channel is None else channel.name,
                endpoint=self._ask.path.removeprefix("/v1")[:50],
                request_id=self._ask.request_id,
                tokens=0,
                price_list=(
                    channel.price_list if accounts.section.billing and channel is not None else None
                ),
                calls=ToolCalls(kind, 1, self.held.id),
                released=accounts.released(key.account),
            )
        )
        if held is None:
            return FREE_CALL
        if isinstance(held, Held):
            accounts.opened_call(held.id)
            return AccountCallCharge(accounts, key, held)
        raise _no_money(held, {}) if held.why in _MONEY else refusal(key, held.why)

    def end(self, ended: Ended) -> None:
        self._so_far = None  # which holds the request
        costs = ended.costs
        billed = self._bill(ended)
        labels = {"key": f"key_{self._key.id}", "account": self._key.account_name}
        kind = kind_of(self._ask.tool) if self._ask.tool else "request"
        amount = cost_of(self.held.price, kind, billed)
        if self._accounts.section.billing:
            labels["amount"] = shown_cost(amount)
        self.labels = labels
        self._accounts.settle(
            Settlement(
                id=self.held.id,
                account=self._key.account,
                key=self._key.id,
                bill=billed,
                price=self.held.price,
                outcome=ended.result,
                response_id=ended.answered.response_id,
                tokens=0 if costs is None else cost(self._request_tokens, costs),
                released=self._released(amount),
            )
        )

    def _released(self, amount: int) -> int | None:
        """What the account has more of than while this was held.

        None where other requests may need it, in any process: then it is settled at once.
        """
        held = self.held
        released = held.amount - amount
        scarce = held.left is not None and held.left < 2 * held.amount
        at_once = released < 0 or scarce or self._extended or self._key.is_limited
        return None if at_once else released

    def _bill(self, ended: Ended) -> Bill:
        if self._ask.tool:
            return bill_of_calls(min(ended.calls, self._ask.calls))
        return self._rounds.bill(ended, broken=self._accounts.section.bill_broken)


class AccountCallCharge:
    """A hold of a call of a tool within a request."""

    __slots__ = ("_accounts", "_held", "_key")

    def __init__(self, accounts: Holder, key: Key, held: Held) -> None:
        self._accounts = accounts
        self._key = key
        self._held = held

    def end(self, *, ran: bool) -> None:
        self._accounts.settle(
            Settlement(
                id=self._held.id,
                account=self._key.account,
                key=self._key.id,
                bill=bill_of_calls(int(ran)),
                price=self._held.price,
                outcome="completed" if ran else "failed",
            )
        )
