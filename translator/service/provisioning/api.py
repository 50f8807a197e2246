"""The API of operators: its paths, and how a request becomes one transaction.

    authorize, read body, [ hash password ], ( read | change once ) ;

A key of an operator is checked for each request, and again in the transaction of a change: one that
is revoked changes nothing more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from translator.service.accounts import operator_keys
from translator.service.accounts.changes import Mistake
from translator.service.accounts.directory import Accounts
from translator.service.accounts.operator_keys import PREFIX, OperatorKey
from translator.service.accounts.passwords import Busy, problem_of
from translator.service.base.errors import AccountsUnavailable, InvalidKey, Overloaded
from translator.service.base.keys import StoredKey, new_key, salt_of
from translator.service.database.connection import Connection
from translator.service.database.errors import Unavailable
from translator.wire.errors import InvalidRequest, RequestTooLarge, TranslatorError

from . import bodies, idempotency, resources
from .bodies import Body, invalid, read_body
from .objects import Object, Page
from .resources import Order, without_secret

Method = Literal["GET", "POST", "PUT", "PATCH"]

_NOBODY = StoredKey("0" * 16, "0" * 64)
_PAGE = ("limit", "after")


class Action(Struct, frozen=True, kw_only=True):
    """What a method of a path does."""

    work: Callable[[Order, Connection], Object | Page]
    body: type[Body] | None = None
    """What its body says; None: it only reads."""

    query: tuple[str, ...] = ()
    """The parameters of its query."""

    makes_key: bool = False
    status: int = 200


Actions: TypeAlias = Mapping[Method, Action]

ACTIONS: Mapping[str, Actions] = {
    "/accounts": {
        "GET": Action(work=resources.list_accounts, query=(*_PAGE, "name")),
        "POST": Action(work=resources.add_account, body=bodies.NewAccount, status=201),
    },
    "/accounts/{id}": {
        "GET": Action(work=resources.get_account),
        "PATCH": Action(work=resources.change_account, body=bodies.ChangedAccount),
    },
    "/users": {
        "GET": Action(work=resources.list_users, query=_PAGE),
        "POST": Action(work=resources.add_user, body=bodies.NewUser, status=201),
    },
    "/users/{id}": {
        "GET": Action(work=resources.get_user),
        "PATCH": Action(work=resources.change_user, body=bodies.ChangedUser),
    },
    "/users/{id}/unlock": {"POST": Action(work=resources.unlock_user, body=bodies.Nothing)},
    "/keys": {
        "GET": Action(work=resources.list_keys, query=(*_PAGE, "account")),
        "POST": Action(work=resources.add_key, body=bodies.NewKey, makes_key=True, status=201),
    },
    "/keys/{id}": {
        "GET": Action(work=resources.get_key),
        "PATCH": Action(work=resources.change_key, body=bodies.ChangedKey),
    },
    "/keys/{id}/rotate": {
        "POST": Action(work=resources.rotate_key, body=bodies.Rotation, makes_key=True, status=201)
    },
    "/keys/{id}/revoke": {"POST": Action(work=resources.revoke_key, body=bodies.Nothing)},
    "/channels": {"GET": Action(work=resources.list_channels, query=_PAGE)},
    "/channels/{id}": {
        "GET": Action(work=resources.get_channel),
        "PUT": Action(work=resources.put_channel, body=bodies.ChannelBody),
    },
    "/prices": {
        "GET": Action(work=resources.list_prices, query=(*_PAGE, "price_list", "model")),
        "POST": Action(work=resources.add_price, body=bodies.NewPrice, status=201),
    },
    "/topups": {"POST": Action(work=resources.add_topup, body=bodies.NewTopup, status=201)},
    "/adjustments": {
        "POST": Action(work=resources.add_adjustment, body=bodies.NewAdjustment, status=201)
    },
    "/ledger": {
        "GET": Action(work=resources.list_entries, query=(*_PAGE, "account", "start", "end"))
    },
}
"""The paths below `/account/api`."""


class Request(Struct, frozen=True, kw_only=True):
    """A request, apart from the server that carries it."""

    method: Method
    path: str
    name: str = ""
    """The id in its path."""

    query: Mapping[str, list[str]] = {}
    body: bytes = b""
    idempotency_key: str | None = None


class Answer(Struct, frozen=True):
    """What a request is answered with."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class _Refusal(Mistake):
    """An error within a transaction, which has changed nothing then."""

    def __init__(self, error: TranslatorError) -> None:
        super().__init__(error.message)
        self.error = error


class Api:
    """The API of one service."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def find(self, authorization: str | None) -> OperatorKey:
        """The operator's key of an `Authorization`; raises InvalidKey and AccountsUnavailable."""
        scheme, _, text = (authorization or "").strip().partition(" ")
        text = text.strip()
        salt = salt_of(text, PREFIX)
        if scheme.lower() != "bearer" or not salt:
            raise InvalidKey(
                f"Send an operator's key, which begins with '{PREFIX}_', as"
                " 'Authorization: Bearer KEY'."
            )
        try:
            found = await self._accounts.read(
                lambda connection: operator_keys.operator_key_of_salt(connection, salt)
            )
        except Unavailable:
            raise AccountsUnavailable from None
        stored = _NOBODY if found is None else found.stored
        if not stored.matches(text) or found is None or found.revoked_at is not None:
            raise InvalidKey("Incorrect operator's key provided.")
        return found

    async def respond(self, key: OperatorKey, action: Action, request: Request) -> Answer:
        """The answer to a request; raises TranslatorError."""
        order = Order(
            actor=f"operator key {key.name}",
            name=request.name,
            query=_read_query(request.query, action.query),
        )
        if action.body is None:
            with self._accounts.reads.of(f"operator {key.id}"):
                found = await self._look(action, order)
            return Answer(action.status, msgspec.json.encode(found))
        if len(request.body) > bodies.MAX_BODY_BYTES:
            raise RequestTooLarge(f"The request body is over {bodies.MAX_BODY_BYTES} bytes.")
        name = idempotency.read_name(request.idempotency_key)
        body = read_body(request.body, action.body)
        order = msgspec.structs.replace(
            order,
            body=body,
            secret=new_key() if action.makes_key else "",
            hashed=await self._hashed(body),
        )
        return await self._change(_Change(key.id, name, action, request, order))

    async def _look(self, action: Action, order: Order) -> Object | Page:
        def work(connection: Connection) -> Object | Page | TranslatorError:
            try:
                return action.work(order, connection)
            except TranslatorError as error:
                return error

        try:
            found = await self._accounts.reads.read(work)
        except Unavailable:
            raise AccountsUnavailable from None
        if isinstance(found, TranslatorError):
            raise found
        return found

    async def _change(self, change: _Change) -> Answer:
        try:
            return await self._accounts.change(change)
        except _Refusal as refusal:
            raise refusal.error from None
        except Mistake as mistake:
            text = str(mistake)
            raise InvalidRequest(
                f"{text[:1].upper()}{text[1:]}.", param=mistake.field, code="invalid_value"
            ) from None
        except Unavailable:
            raise AccountsUnavailable from None

    async def _hashed(self, body: Body) -> str:
        """The hash of the password in a body; raises InvalidRequest and Overloaded."""
        password = getattr(body, "password", None)
        if not isinstance(password, str):
            return ""
        if problem := problem_of(password):
            raise invalid("password", problem.rstrip(".").replace("A password", "a password"))
        try:
            return await self._accounts.passwords.hash(password)
        except Busy:
            raise Overloaded("Too many passwords are being hashed") from None
        except ModuleNotFoundError as error:
            raise invalid("password", f"nobody can sign in here: {error.name} is missing") from None


class _Change:
    """A change as the work of a transaction, which may be tried again."""

    def __init__(
        self, key: int, name: str | None, action: Action, request: Request, order: Order
    ) -> None:
        self._key = key
        self._name = f"client {name}" if name is not None else f"own {secrets.token_hex(16)}"
        self._request = idempotency.fingerprint(request.method, request.path, order.body)
        self._action = action
        self._order = order
        self._made: Answer | None = None

    def __call__(self, connection: Connection) -> Answer:
        try:
            return self._once(connection)
        except TranslatorError as error:
            raise _Refusal(error) from None

    def _once(self, connection: Connection) -> Answer:
        if not operator_keys.use(connection, self._key):
            raise InvalidKey("Incorrect operator's key provided.")
        kept = idempotency.begin(connection, self._key, self._name, self._request)
        if kept is not None:
            if kept.request != self._request:
                raise idempotency.KeyReused
            if self._made is not None:  # its own first try was committed after all
                return self._made
            replayed = {"idempotency-replayed": "true"}
            return Answer(kept.status, kept.body.encode(), replayed)
        found = self._action.work(self._order, connection)
        status = self._action.status
        self._made = Answer(status, msgspec.json.encode(found))
        kept_body = msgspec.json.encode(without_secret(found))
        idempotency.keep(connection, self._key, self._name, status, kept_body)
        return self._made


def _read_query(query: Mapping[str, list[str]], known: tuple[str, ...]) -> dict[str, str]:
    """The parameters of a query; raises InvalidRequest for one that is not known."""
    for name in query:
        if name not in known:
            names = ", ".join(known) or "none"
            raise InvalidRequest(
                f"Unknown parameter: '{name[:200]}'. Known: {names}.",
                param=name[:200],
                code="unknown_parameter",
            )
    return {name: values[-1] for name, values in query.items()}
