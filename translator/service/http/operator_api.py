"""The endpoints of operators' programs below `/account/api`, each with an operator's key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from translator.service.accounts.directory import Accounts
from translator.service.provisioning.api import ACTIONS, Action, Actions, Api, Method, Request

from .absent_endpoints import unknown_path
from .exchange import JSON, Exchange
from .router import Methods

ROOT = "/account/api"

NO_STORE = {"cache-control": "no-store"}


class OperatorEndpoints:
    """The endpoints, by their exact paths."""

    def __init__(self, accounts: Accounts) -> None:
        self._api = Api(accounts)
        self.paths: Mapping[str, Methods] = {
            **{f"{ROOT}{path}": self._methods(path, one) for path, one in ACTIONS.items()},
            f"{ROOT}/{{rest:path}}": dict.fromkeys(("GET", "POST", "PUT", "PATCH"), self._unknown),
        }

    def _methods(self, path: str, actions: Actions) -> Methods:
        respond = self._of_one if "{id}" in path else self._of_all
        return {method: partial(respond, method, action) for method, action in actions.items()}

    async def _of_all(self, method: Method, action: Action, exchange: Exchange) -> None:
        await self._respond(method, action, exchange, "")

    async def _of_one(self, method: Method, action: Action, exchange: Exchange) -> None:
        await self._respond(method, action, exchange, exchange.path_param("id"))

    async def _respond(self, method: Method, action: Action, exchange: Exchange, name: str) -> None:
        key = await self._api.find(exchange.pop_header("authorization"))
        exchange.record.client = f"operator/{key.name}"
        answer = await self._api.respond(
            key,
            action,
            Request(
                method=method,
                path=exchange.path,
                name=name,
                query=exchange.query_values(),
                body=b"" if action.body is None else await exchange.body(),
                idempotency_key=exchange.header("idempotency-key"),
            ),
        )
        await exchange.whole(answer.status, answer.body, {**JSON, **NO_STORE, **answer.headers})

    async def _unknown(self, exchange: Exchange) -> None:
        await self._api.find(exchange.pop_header("authorization"))
        raise unknown_path(exchange.method, exchange.path)
