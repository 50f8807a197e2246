"""A person at the pages: an HTTP client with a cookie, whose forms are those of the pages."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.service.accounts.paying import Books
from tests.service.wire import BOUND_S
from translator.service.accounts import people
from translator.service.accounts.passwords import hash_password
from translator.service.console.requests import BROWSER_COOKIE, COOKIE

PASSWORD = "correct horse battery"
_hashed: list[str] = []

MEMBER_PATHS = (
    *("/", "/keys", "/keys/key_1", "/keys/key_1/rotate", "/keys/key_1/revoke", "/channels"),
    *("/usage", "/usage.csv", "/ledger", "/ledger.csv", "/connect"),
)
OPERATOR_PATHS = (
    *("", "/acct_1", "/acct_1/suspend", "/users", "/users/user_1", "/channels", "/prices"),
    *("/health", "/audit"),
)
"""The pages of an account, and those of operators, below their roots."""

_TAG = re.compile(r"<[^>]+>")


def hashed() -> str:
    """The hash of PASSWORD, made once: it takes half a second."""
    if not _hashed:
        _hashed.append(hash_password(PASSWORD))
    return _hashed[0]


def add_user(books: Books, name: str, account: str | None) -> None:
    """A user with PASSWORD: a member of an account, or an operator."""
    from translator.service.database.connection import writing

    with writing(books.connection):
        people.add_user(books.connection, name, account, hashed())


class Person:
    """Somebody with a browser."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.token = ""
        self.browser = ""
        self.csrf = ""
        """The token of the forms on the last page that had any."""

    def headers(self, **more: str) -> dict[str, str]:
        cookies = {COOKIE: self.token, BROWSER_COOKIE: self.browser}
        sent = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        return ({"cookie": sent} if sent else {}) | {
            name.replace("_", "-"): value for name, value in more.items()
        }

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """A page."""
        return self._keep(await self.client.get(path, headers=self.headers(**headers)))

    async def post(
        self, path: str, fields: dict[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        """A form as a browser sends it, with the token of the page before."""
        headers = {"sec_fetch_site": "same-origin"} | headers
        fields = {"csrf": self.csrf} | (fields or {})
        return self._keep(
            await self.client.post(path, data=fields, headers=self.headers(**headers))
        )

    def _keep(self, response: httpx.Response) -> httpx.Response:
        """Keep the cookie that a response sets, as a browser would over TLS, and its token."""
        if found := re.search(r'name="csrf" value="([^"]+)"', response.text):
            self.csrf = found[1]
        for cookie in response.headers.get_list("set-cookie"):
            name, _, rest = cookie.partition("=")
            if name in (COOKIE, BROWSER_COOKIE):
                setattr(self, "token" if name == COOKIE else "browser", rest.partition(";")[0])
        return response

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        """Sign in, and go where that leads."""
        response = await self.post("/account/sign-in", {"name": name, "password": password})
        if response.status_code == 303:
            response = await self.get(response.headers["location"])
            if response.status_code == 303:
                response = await self.get(response.headers["location"])
        return response


@asynccontextmanager
async def pages(books: Books, **more: Any) -> AsyncGenerator[Person]:
    """A person at the pages of a service."""
    async with books.service(**more) as client:
        client.timeout = httpx.Timeout(BOUND_S)
        yield Person(client)


@asynccontextmanager
async def signed_in(books: Books, name: str = "anna", **more: Any) -> AsyncGenerator[Person]:
    """A person who has signed in, and looks at the first page."""
    async with pages(books, **more) as person:
        response = await person.sign_in(name)
        assert response.status_code == 200, response.text
        yield person


def text_of(response: httpx.Response) -> str:
    """What a page says, without its tags."""
    body = re.sub(r"<(title|style).*?</\1>", " ", response.text, flags=re.DOTALL)
    return " ".join(html.unescape(_TAG.sub(" ", body)).split())
