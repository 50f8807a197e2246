"""The endpoint of the console: an exchange as a request for a page, whose response it sends."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from translator.service.console.console import Console, error
from translator.service.console.requests import (
    BROWSER_COOKIE,
    Request,
    address_of,
    fields_of,
    is_trusted,
    token_of,
)
from translator.wire.errors import RequestTooLarge

from .exchange import Exchange

if TYPE_CHECKING:
    from translator.service.accounts.directory import Accounts
    from translator.service.config.accounts import Network
    from translator.service.config.settings import Settings

MAX_FORM_BYTES = 64 * 1024
"""Largest form."""

MAX_TOKEN = 100
"""Longest token of a browser that is looked for, in characters."""

FORM = "application/x-www-form-urlencoded"


class ConsoleEndpoint:
    """The pages below `/account`."""

    def __init__(self, accounts: Accounts, settings: Settings) -> None:
        assert settings.accounts is not None
        self._console = Console(accounts, settings)
        self._proxies: tuple[Network, ...] = settings.accounts.proxies

    async def respond(self, exchange: Exchange) -> None:
        """Respond to any request below `/account`. Raises RequestTooLarge."""
        try:
            request = await self._request(exchange)
        except ValueError:
            response = error(400, "This form cannot be read", "Nothing was changed.")
        else:
            response = await self._console.respond(request)
        if response.status >= HTTPStatus.BAD_REQUEST:
            exchange.record.outcome = f"page {response.status}"
        exchange.cookies = response.cookies
        await exchange.whole(response.status, response.body, response.headers)

    async def _request(self, exchange: Exchange) -> Request:
        form: dict[str, str] = {}
        if exchange.method == "POST":
            kind = (exchange.header("content-type") or "").partition(";")[0].strip().lower()
            announced = exchange.header("content-length") or "0"
            if announced.isascii() and announced.isdigit() and int(announced) > MAX_FORM_BYTES:
                raise RequestTooLarge(f"A form is over {MAX_FORM_BYTES} bytes.")
            body = await exchange.body()
            if len(body) > MAX_FORM_BYTES:
                raise RequestTooLarge(f"A form is over {MAX_FORM_BYTES} bytes.")
            if kind != FORM:
                raise ValueError(kind)
            form = fields_of(body.decode("utf-8"))
        cookies = exchange.header("cookie") or ""
        proxied = is_trusted(exchange.peer, self._proxies)
        forwarded = exchange.all_of("x-forwarded-for") if proxied else ""
        scheme = (exchange.header("x-forwarded-proto") or "") if proxied else ""
        return Request(
            method=exchange.method,
            path=exchange.path,
            query={name: values[0] for name, values in exchange.query_values().items()},
            form=form,
            token=token_of(cookies),
            browser=token_of(cookies, BROWSER_COOKIE)[:MAX_TOKEN],
            host=exchange.header("host") or "",
            origin=exchange.header("origin"),
            site=exchange.header("sec-fetch-site"),
            address=address_of(exchange.peer, forwarded, self._proxies),
            secure=scheme.strip().lower() == "https",
        )
