"""The accounts of an application: their database is made ready, and they are opened with it.

What is below `/account` has its own door: the keys of clients open nothing there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from translator.common.toml import toml_key
from translator.service.accounts.books import check_currency
from translator.service.accounts.channel_book import unknown_models
from translator.service.accounts.directory import Accounts
from translator.service.accounts.keys import Offer
from translator.service.accounts.meter import AccountMeter
from translator.service.accounts.room import ROOM
from translator.service.accounts.tools import is_priced_name
from translator.service.config.accounts import Accounts as AccountSettings
from translator.service.config.settings import Settings, SettingsError
from translator.service.database.connection import connect, reading
from translator.service.database.errors import Damaged, SchemaMismatch, Unavailable
from translator.service.database.schema import check
from translator.service.database.statement import DatabaseTime

from .account_endpoints import AccountEndpoints
from .exchange import Exchange
from .operator_api import OperatorEndpoints
from .router import Methods

if TYPE_CHECKING:
    from .console import ConsoleEndpoint

ROOT = "/account"

log = logging.getLogger(__name__)


class AccountLayer:
    """The accounts, and the endpoints that they add to the service."""

    def __init__(self, accounts: Accounts, settings: Settings) -> None:
        endpoints = AccountEndpoints(accounts)
        self.accounts = accounts
        self.api: Mapping[str, Methods] = endpoints.api
        self.paths: Mapping[str, Methods] = {
            **endpoints.paths,
            **OperatorEndpoints(accounts).paths,
        }
        if accounts.section.dashboard:
            load = console_loader(accounts, settings)

            async def respond(exchange: Exchange) -> None:
                await load().respond(exchange)

            console = {"GET": respond, "POST": respond}
            self.paths = {**self.paths, ROOT: console, f"{ROOT}/{{rest:path}}": console}

    @property
    def failing(self) -> bool:
        """Whether the database does not take what has to be written."""
        return self.accounts.failing

    def own_door(self, path: str) -> bool:
        """Whether the endpoint of a path sees itself to whom it lets in."""
        return path == ROOT or path.startswith(f"{ROOT}/")


def open_layer(
    accounts: AccountSettings,
    settings: Settings,
    time: DatabaseTime | None,
    meter: AccountMeter | None,
) -> AccountLayer:
    """The layer of the settings; raises what `open_accounts` raises."""
    return AccountLayer(open_accounts(accounts, settings, time, meter), settings)


def open_accounts(
    accounts: AccountSettings,
    settings: Settings,
    time: DatabaseTime | None,
    meter: AccountMeter | None,
) -> Accounts:
    """The accounts of the settings; raises SettingsError where they can never be used as they are.

    `meter` counts what they do. A PostgreSQL server that is away is no reason not to serve:
    requests are refused until it is there.
    """
    location = accounts.location
    has_models = bool(settings.models) or settings.catch_all is not None
    listed = frozenset(settings.models) if has_models else None
    offer = Offer(listed, settings.catch_all is not None, accounts.section.billing)
    for model in filter(is_priced_name, settings.models):
        raise SettingsError(
            [f"models.{toml_key(model)}: with [accounts], such names are those of tools in prices"]
        )
    if location.kind == "sqlite" and not Path(location.target).exists():
        raise SettingsError(
            [
                f"accounts: {location.target} is not there yet; "
                "run: translator account init --config FILE"
            ]
        )
    try:
        check(location, ROOM)
        _look(accounts, listed)
    except ModuleNotFoundError as error:
        from translator.program.invocation import install_hint

        raise SettingsError(
            [f"accounts: {error.name} is missing; {install_hint('service,accounts')} installs it"]
        ) from None
    except (SchemaMismatch, Damaged) as error:
        raise SettingsError([f"accounts: {error}"]) from None
    except Unavailable as error:
        if location.kind == "sqlite":
            raise SettingsError([f"accounts: {error}"]) from None
        log.warning("accounts: %s cannot be reached: %s", location.shown, error)
    what = f"billed in {accounts.section.currency}" if accounts.section.billing else "not billed"
    log.info("requests need a key of an account in %s, and are %s", location.shown, what)
    if settings.server.trace_folder is not None:
        log.warning(
            "the exchanges of all accounts are recorded in %s", settings.server.trace_folder
        )
    return Accounts(accounts, offer, time, meter)


def console_loader(accounts: Accounts, settings: Settings) -> Callable[[], ConsoleEndpoint]:
    """What makes the pages of the accounts when one is first asked for.

    Raises SettingsError where a package that they need is missing.
    """
    for name in ("argon2", "jinja2"):
        if find_spec(name) is None:
            from translator.program.invocation import install_hint

            hint = install_hint("service,accounts")
            raise SettingsError(
                [f"accounts.dashboard: {name} is missing; {hint} installs it, or set it to false"]
            )

    @cache
    def load() -> ConsoleEndpoint:
        from .console import ConsoleEndpoint

        return ConsoleEndpoint(accounts, settings)

    return load


def _look(accounts: AccountSettings, listed: frozenset[str] | None) -> None:
    """Check what the database says of itself; warns of models that the settings do not have."""
    with closing(connect(accounts.location, DatabaseTime())) as connection, reading(connection):
        problem = check_currency(connection, accounts.section.currency)
        unknown = unknown_models(connection, listed)
    if problem:
        raise SettingsError([f"accounts.currency: {problem}"])
    for channel, model in unknown:
        log.warning("accounts: the channel %a names %a, which [models] has not", channel, model)
