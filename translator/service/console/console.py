"""The console: which page a path has, who may ask for it, and what a change needs to be believed.

    static files                  anyone
    sign-in                       anyone; a form of ours alone may be sent
    /account/acct_N/…             its members, and operators; anybody else finds no such page
    /account/operator/…           operators

A change is a POST of a form that has the session's own token, sent by a page of ours as the browser
says. It is made in the transaction that finds the session: one that has ended changes nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from translator.service.accounts import people
from translator.service.accounts.books import account_of_id
from translator.service.accounts.changes import Mistake
from translator.service.accounts.money import InvalidAmount
from translator.service.accounts.passwords import Busy, problem_of
from translator.service.accounts.people import Session
from translator.service.config.settings import Settings
from translator.service.database.connection import Connection
from translator.service.database.errors import Unavailable

from . import connect, health, keys, offers, operator, overview, prices, render, sign_in, usage
from .requests import HTML, SECURITY, Request, Response, see_other
from .sign_in import PASSWORD, SIGN_IN, SignIn
from .visit import ROOT, Context, NotHere, View, Visit

if TYPE_CHECKING:
    from translator.service.accounts.directory import Accounts

Page = Callable[[Visit, Connection], Response | View]


class Route(Struct, frozen=True):
    """The pages of one path, whose numbers are named groups."""

    pattern: str
    get: Page | None = None
    post: Page | None = None
    again: Page | None = None
    """The page that shows why a change cannot be made; that of the path, where it has one."""

    sets_password: bool = False
    """Whether the form has a new password."""


_KEY = r"/keys/key_(?P<key>\d{1,15})"
MEMBER = (
    Route("", overview.overview),
    Route("/keys", keys.listed, keys.new),
    Route(_KEY, keys.one),
    Route(f"{_KEY}/rename", post=keys.rename, again=keys.one),
    Route(f"{_KEY}/limits", post=keys.limit, again=keys.one),
    Route(f"{_KEY}/rotate", keys.ask_rotate, keys.rotate),
    Route(f"{_KEY}/revoke", keys.ask_revoke, keys.revoke),
    Route("/channels", offers.offers),
    Route("/usage", usage.usage),
    Route(r"/usage\.csv", usage.usage_csv),
    Route("/ledger", usage.ledger),
    Route(r"/ledger\.csv", usage.ledger_csv),
    Route("/connect", connect.connect),
)
_USER = r"/users/user_(?P<user>\d{1,15})"
_ACCOUNT = r"/acct_(?P<account>\d{1,15})"
OPERATOR = (
    Route("", operator.accounts, operator.add_account),
    Route(_ACCOUNT, operator.account),
    Route(f"{_ACCOUNT}/top-up", post=operator.top_up, again=operator.account),
    Route(f"{_ACCOUNT}/adjust", post=operator.adjust, again=operator.account),
    Route(f"{_ACCOUNT}/credit", post=operator.credit, again=operator.account),
    Route(f"{_ACCOUNT}/channels", post=operator.set_channels, again=operator.account),
    Route(f"{_ACCOUNT}/ceiling", post=operator.set_ceiling, again=operator.account),
    Route(f"{_ACCOUNT}/suspend", operator.ask_suspend, operator.suspend),
    Route(f"{_ACCOUNT}/resume", post=operator.resume, again=operator.account),
    Route("/users", operator.users, operator.add_user, sets_password=True),
    Route(_USER, operator.user),
    Route(f"{_USER}/password", None, operator.password, operator.user, sets_password=True),
    Route(f"{_USER}/unlock", post=operator.unlock, again=operator.user),
    Route(f"{_USER}/disable", post=operator.disable, again=operator.user),
    Route(f"{_USER}/enable", post=operator.enable, again=operator.user),
    Route("/channels", prices.channels, prices.set_channel),
    Route("/prices", prices.prices, prices.set_price),
    Route("/health", health.health),
    Route("/audit", operator.audit_log),
)


class _Found(Struct, frozen=True):
    """A route that fits a path, and the numbers in it."""

    route: Route
    ids: Mapping[str, int]


class Console:
    """The pages, over the accounts of a process."""

    def __init__(self, accounts: Accounts, settings: Settings) -> None:
        self._accounts = accounts
        self._passwords = accounts.passwords
        self._sign_in = SignIn(accounts, self._passwords)
        section = accounts.section
        self._context = Context(
            section=section,
            offer=accounts.offer,
            models=settings.models,
            lease_us=round(section.lease_s * 1e6),
            has_tools=settings.tools is not None,
        )

    async def respond(self, request: Request) -> Response:
        """The response to any request below `/account`."""
        try:
            return await self._respond(request)
        except NotHere:
            return error(404, "There is no such page", "It may be that of another account.")
        except Busy:
            return error(503, "Too many sign in at this moment", "Try again in a few seconds.")
        except Unavailable:
            again = "Try again in a minute."
            if "reconcile" in request.query:
                again = "There may be too much to compare here: use translator account reconcile."
            return error(503, "The database does not answer", again)

    async def _respond(self, request: Request) -> Response:
        if request.path.startswith(f"{ROOT}/static/"):
            return _static(request)
        if request.method == "POST" and not request.is_own:
            return error(
                403,
                "This form was not sent by a page of this service",
                "Nothing was changed. Open the page anew, and send it again. A proxy before the"
                " service has to leave the Host header as it is.",
            )
        if request.path == SIGN_IN and request.method == "POST":
            return await self._sign_in.begin(request)
        session = await self._session(request)
        if session is None:
            return sign_in.ask(request)
        if request.method == "POST" and not _has_token(request, session):
            return error(
                403,
                "This form is not of your session",
                "Nothing was changed. Open the page anew, and send it again.",
            )
        if request.path in (ROOT, f"{ROOT}/", SIGN_IN):
            return see_other(_home(session))
        if request.path == f"{ROOT}/sign-out" and request.method == "POST":
            return await self._sign_in.end(session)
        if request.path == PASSWORD:
            return await self._password(request, session)
        return await self._page(request, session)

    async def _session(self, request: Request) -> Session | None:
        if not request.token:
            return None
        found = await self._accounts.read(
            lambda connection: people.session(connection, request.token)
        )
        if found is not None and found.stale:
            await self._accounts.change(
                lambda connection: people.touch(connection, found.token_hash), durable=False
            )
        return found

    async def _password(self, request: Request, session: Session) -> Response:
        """The page of the own password."""
        problem = ""
        if request.method == "POST":
            problem = await self._sign_in.change_password(request, session)
            if not problem:
                return see_other(f"{SIGN_IN}?done=password")
        visit = self._visit(request, session, {}, problem=problem)
        return await self._look(partial(_own_password, visit))

    async def _page(self, request: Request, session: Session) -> Response:
        found = _route(request.path, session)
        route = found.route
        if request.method != "POST":
            if route.get is None:
                raise NotHere
            visit = self._visit(request, session, found.ids)
            return await self._look(partial(_shown, route.get, visit))
        if route.post is None:
            raise NotHere
        visit = self._visit(request, session, found.ids)
        try:
            if route.sets_password:
                hashed = await self._hashed(request)
                visit = msgspec.structs.replace(visit, hashed=hashed)
            return await _made(await self._accounts.change(partial(_changed, route.post, visit)))
        except Mistake as mistake:
            problem = str(mistake)
        again = route.again or route.get
        assert again is not None
        visit = msgspec.structs.replace(visit, problem=problem[:1].upper() + problem[1:])
        return await self._look(partial(_shown, again, visit))

    async def _look(self, work: Callable[[Connection], Response | View | Exception]) -> Response:
        return await _made(await self._accounts.reads.read(work))

    async def _hashed(self, request: Request) -> str:
        """The hash of the password in a form; raises Mistake and Busy."""
        password = request.form.get("password", "")
        if problem := problem_of(password):
            raise Mistake(problem)
        return await self._passwords.hash(password)

    def _visit(
        self, request: Request, session: Session, ids: Mapping[str, int], *, problem: str = ""
    ) -> Visit:
        return Visit(
            request=request, context=self._context, session=session, ids=ids, problem=problem
        )


def error(status: int, title: str, sentence: str) -> Response:
    """A page that says why there is none."""
    body = render.page("error", title=title, sentence=sentence, status=status)
    return Response(status=status, body=body, headers={**SECURITY, **HTML})


def _home(session: Session) -> str:
    if session.role == "operator":
        return f"{ROOT}/operator"
    return f"{ROOT}/acct_{session.account_id}/"


def _has_token(request: Request, session: Session) -> bool:
    given = request.form.get("csrf", "").encode("utf-8", "surrogatepass")
    return hmac.compare_digest(given, session.csrf.encode())


def _static(request: Request) -> Response:
    name = request.path.rpartition("/")[2]
    if name not in render.CONTENT_TYPES or request.method not in ("GET", "HEAD"):
        raise NotHere
    data, path = render.asset(name)
    kept = render.FOREVER if request.path == path else "no-cache"
    headers = {**SECURITY, "content-type": render.CONTENT_TYPES[name], "cache-control": kept}
    return Response(body=data, headers=headers)


def _route(path: str, session: Session) -> _Found:
    """The route of a path for a session; raises NotHere."""
    operators = session.role == "operator"
    if operators and (found := re.fullmatch(rf"{ROOT}/operator(/.*)?", path)):
        return _match(OPERATOR, found[1] or "", {})
    if found := re.fullmatch(rf"{ROOT}/acct_(\d{{1,15}})(/.*)?", path):
        number = int(found[1])
        if operators or session.account_id == number:
            return _match(MEMBER, found[2] or "", {"account": number})
    raise NotHere


def _match(routes: tuple[Route, ...], path: str, ids: Mapping[str, int]) -> _Found:
    for route in routes:
        if found := re.fullmatch(f"{route.pattern}/?", path):
            return _Found(route, {**ids, **{k: int(v) for k, v in found.groupdict().items()}})
    raise NotHere


# --- in a transaction ----------------------------------------------------------------------------


def _own_password(visit: Visit, connection: Connection) -> View:
    return _with_account(visit, connection, visit.session.account_id).page(
        "password", "Your password"
    )


def _shown(page: Page, visit: Visit, connection: Connection) -> Response | View | Exception:
    """A page, in one state of the database; or an error that is none of the database's."""
    try:
        return page(_allowed(visit, connection), connection)
    except Exception as error:
        if isinstance(error, sqlite3.Error | Unavailable) or hasattr(error, "sqlstate"):
            raise
        return error


def _changed(page: Page, visit: Visit, connection: Connection) -> Response | View | Exception:
    """A change, in the transaction that finds the session. Raises Mistake."""
    if people.session(connection, visit.request.token) is None:
        return sign_in.ask(visit.request)
    try:
        return page(_allowed(visit, connection), connection)
    except InvalidAmount as problem:
        raise Mistake(str(problem)) from None
    except NotHere as error:  # before anything is changed
        return error


async def _made(found: Response | View | Exception) -> Response:
    """The response; raises the error. HTML is made in a thread, beside streams."""
    if isinstance(found, Exception):
        raise found
    if isinstance(found, Response):
        return found
    return await asyncio.to_thread(found.response)


def _allowed(visit: Visit, connection: Connection) -> Visit:
    """The visit with its account; raises NotHere where there is none."""
    if "account" not in visit.ids:
        return visit
    found = _with_account(visit, connection, visit.ids["account"])
    if found.account is None:
        raise NotHere
    return found


def _with_account(visit: Visit, connection: Connection, account_id: int | None) -> Visit:
    if account_id is None:
        return visit
    return msgspec.structs.replace(visit, account=account_of_id(connection, account_id))
