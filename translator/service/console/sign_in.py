"""Signing in and out, and the own password.

An attempt is counted in the database before the password is checked: of a name and of an address,
so that neither many names nor many processes help to guess. All failures have one sentence. Whoever
has signed in gets a cookie by which the browser is known, so that others' guesses keep nobody out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from translator.service.accounts import people
from translator.service.accounts.browsers import KNOWN_US, remember
from translator.service.accounts.passwords import (
    Passwords,
    needs_rehash,
    problem_of,
)
from translator.service.accounts.people import Attempt, Session
from translator.service.database.connection import Connection

from . import render
from .requests import (
    BROWSER_COOKIE,
    HTML,
    SECURITY,
    Request,
    Response,
    see_other,
    set_cookie,
)
from .visit import DONE, ROOT

if TYPE_CHECKING:
    from translator.service.accounts.directory import Accounts

SIGN_IN = f"{ROOT}/sign-in"
PASSWORD = f"{ROOT}/password"

WRONG = "The name or the password is not right."
NO_COOKIE = (
    "Your browser did not keep the cookie of the session. It keeps it over HTTPS, or on this"
    " machine as http://localhost: ask the operator for the https:// address of this service."
)


class _Checked(Struct, frozen=True):
    """What came of an attempt: a user and the hash of the password, or how long to wait."""

    attempt: Attempt
    user_id: int = 0
    stored: str = ""

    @property
    def wait_us(self) -> int:
        return self.attempt.wait_us


def page(
    problem: str = "", *, status: int = 200, name: str = "", after: str = "", done: str = ""
) -> Response:
    """The page to sign in."""
    body = render.page("sign_in", problem=problem, name=name, after=after, done=done)
    return Response(status=status, body=body, headers={**SECURITY, **HTML})


def ask(request: Request) -> Response:
    """The page to sign in, where a page was asked for without a session."""
    if "welcome" in request.query:  # after a sign-in that went well
        return page(NO_COOKIE)
    if request.path == SIGN_IN:
        return page(
            after=_own_path(request.query.get("after", "")),
            done=DONE.get(request.query.get("done", ""), ""),
        )
    wanted = request.path if request.method == "GET" and request.path != f"{ROOT}/" else ""
    return page(after=wanted)


def _own_path(text: str) -> str:
    """A path of ours to go on to; empty for any other text."""
    return text if text.startswith(f"{ROOT}/") and text.isprintable() and "\\" not in text else ""


class SignIn:
    """Checks passwords, and begins and ends sessions."""

    def __init__(self, accounts: Accounts, passwords: Passwords) -> None:
        self._accounts = accounts
        self._passwords = passwords

    async def begin(self, request: Request) -> Response:
        """Sign in; raises Busy and Unavailable."""
        name = request.form.get("name", "").strip().lower()[: people.MAX_NAME]
        after = _own_path(request.form.get("after", ""))
        checked = await self._check(name, request.form.get("password", ""), request)
        if not checked.user_id:
            return _failed(checked, name=name, after=after)
        token = people.new_token()
        browser = request.browser if checked.attempt.browser else people.new_token()

        def work(connection: Connection) -> bool:
            begun = people.begin_session(connection, checked.user_id, checked.stored, token)
            if begun:
                people.succeeded(connection, checked.attempt)
                at = checked.attempt.at
                remember(connection, checked.user_id, people.hash_of(browser), at)
                people.audit(connection, name, "sign in", name, request.address)
            return begun

        if not await self._accounts.change(work):
            return _failed(checked, name=name, after=after)
        if needs_rehash(checked.stored):
            await self._rehash(checked, request.form.get("password", ""))
        onward = after or f"{ROOT}/"
        mark = "&" if "?" in onward else "?"
        return see_other(
            f"{onward}{mark}welcome=",
            set_cookie(token, people.LONGEST_US // people.SECOND_US),
            set_cookie(browser, KNOWN_US // people.SECOND_US, BROWSER_COOKIE),
        )

    async def _check(self, name: str, password: str, request: Request) -> _Checked:
        """Check a password, and count the attempt."""
        attempt = await self._accounts.change(
            lambda connection: people.attempt(connection, name, request.address, request.browser)
        )
        if attempt.wait_us:
            return _Checked(attempt)
        found = await self._accounts.read(lambda connection: people.password_of(connection, name))
        user_id, stored = found or (0, None)
        if await self._passwords.verify(stored, password) and stored is not None:
            return _Checked(attempt, user_id, stored)
        return _Checked(attempt)

    async def _rehash(self, checked: _Checked, password: str) -> None:
        new = await self._passwords.hash(password)
        await self._accounts.change(
            lambda connection: people.rehash(connection, checked.user_id, checked.stored, new)
        )

    async def end(self, session: Session) -> Response:
        """Sign out."""

        def work(connection: Connection) -> None:
            people.end_session(connection, session.token_hash)
            people.audit(connection, session.name, "sign out", session.name)

        await self._accounts.change(work)
        return see_other(f"{SIGN_IN}?done=signed-out", set_cookie("", 0))

    async def change_password(self, request: Request, session: Session) -> str:
        """Change the own password, which ends all sessions; returns why it was not done."""
        new = request.form.get("new", "")
        if new != request.form.get("again", ""):
            return "The new password and its repetition are not the same."
        if problem := problem_of(new):
            return problem
        old = request.form.get("password", "")
        checked = await self._check(session.name, old, request)
        if not checked.user_id:
            return _words(checked, "The present password is not right.")
        hashed = await self._passwords.hash(new)

        def work(connection: Connection) -> None:
            people.succeeded(connection, checked.attempt)
            people.set_password(connection, session.name, hashed)
            people.audit(connection, session.name, "set password", session.name)

        await self._accounts.change(work)
        return ""


def _failed(checked: _Checked, *, name: str, after: str) -> Response:
    status = 429 if checked.wait_us else 401
    response = page(_words(checked, WRONG), status=status, name=name, after=after)
    if not checked.wait_us:
        return response
    wait = {"retry-after": str(_seconds(checked))}
    return Response(status=status, body=response.body, headers={**response.headers, **wait})


def _words(checked: _Checked, wrong: str) -> str:
    if not checked.wait_us:
        return wrong
    seconds = _seconds(checked)
    unit = "second" if seconds == 1 else "seconds"
    return f"There were too many attempts. Try again in {seconds} {unit}."


def _seconds(checked: _Checked) -> int:
    return -(-checked.wait_us // people.SECOND_US)
