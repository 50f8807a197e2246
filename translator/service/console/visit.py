"""A visit: one request for a page, who makes it, and what it may see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from translator.service.accounts.books import Account
from translator.service.accounts.changes import Mistake
from translator.service.accounts.keys import Offer
from translator.service.accounts.people import Session
from translator.service.config.accounts import AccountsSection
from translator.service.config.settings import Model

from . import render
from .requests import HTML, SECURITY, Request, Response, see_other

ROOT = "/account"

MEMBER_PAGES = (
    ("", "Overview"),
    ("/keys", "API keys"),
    ("/channels", "Available channels"),
    ("/usage", "Usage"),
    ("/ledger", "Ledger"),
    ("/connect", "Connect"),
)
"""The pages of an account, below its own path."""

OPERATOR_PAGES = (
    ("/operator", "Accounts"),
    ("/operator/users", "Users"),
    ("/operator/channels", "Channels"),
    ("/operator/prices", "Prices"),
    ("/operator/health", "Health"),
    ("/operator/audit", "Audit log"),
)

DONE = {
    "signed-out": "You are signed out.",
    "password": "The password is changed; sign in with the new one.",
    "renamed": "The key has its new name.",
    "limited": "The key has its new limits, from the next request on.",
    "revoked": "The key is revoked. Requests with it are refused from now on.",
    "account": "The account is there, and has no key yet.",
    "credited": "The account may have this debt from now on.",
    "account-channels": "Members may give keys these channels; keys keep what they have.",
    "ceiling": "Members give their keys no more than this from now on; keys keep what they have.",
    "suspended": "The account is suspended. All its requests are refused from now on.",
    "resumed": "The account is served again.",
    "booked": "The entry is in the ledger.",
    "known": "The ledger had this entry already. Nothing is booked twice.",
    "user": "The user is there, and can sign in.",
    "user-password": "The user has the new password; all sessions have ended.",
    "unlocked": "The user may try to sign in at once.",
    "disabled": "The user is kept out from now on.",
    "enabled": "The user may sign in again.",
    "channel": "The channel is as you say from now on.",
    "price": "The price is in the list.",
}
"""What a page says after a change; the change is named in its path."""


class NotHere(Exception):
    """There is no such page, or none for this visitor."""


class Context(Struct, frozen=True, kw_only=True):
    """What the pages know of the service."""

    section: AccountsSection
    offer: Offer
    models: Mapping[str, Model]
    lease_us: int
    has_tools: bool
    """Whether the service runs tools, to which keys and channels have a right."""


class View(Struct, frozen=True, kw_only=True):
    """A page that is known, and not HTML yet: that takes time, and no database."""

    template: str
    values: dict[str, Any]
    status: int = 200

    def response(self) -> Response:
        """The page as HTML."""
        body = render.page(self.template, **self.values)
        return Response(status=self.status, body=body, headers={**SECURITY, **HTML})


class Visit(Struct, frozen=True, kw_only=True):
    """A request of somebody who has signed in."""

    request: Request
    context: Context
    session: Session
    account: Account | None = None
    """The account of the path, which this visitor may see."""

    ids: Mapping[str, int] = {}
    """The numbers in the path."""

    problem: str = ""
    """Why the change that was asked for cannot be made."""

    hashed: str = ""
    """The hash of the password in the form, where it has a new one."""

    @property
    def of_account(self) -> Account:
        assert self.account is not None
        return self.account

    @property
    def is_member(self) -> bool:
        """Whether the visitor is a member of an account, whom an operator's limits bind."""
        return self.session.role != "operator"

    @property
    def home(self) -> str:
        """The path of the account."""
        return f"{ROOT}/acct_{self.of_account.id}"

    @property
    def base_url(self) -> str:
        """The base URL for clients of the API."""
        return f"{(self.context.section.public_url or self.request.base).rstrip('/')}/v1"

    def field(self, name: str) -> str:
        """A field of the form, without space around it."""
        return self.request.form.get(name, "").strip()

    def name(self, name: str, what: str, most: int = 200) -> str:
        """A field with a name; raises Mistake."""
        text = self.field(name)
        if not text or not text.isprintable() or len(text) > most:
            raise Mistake(f"{what} is printable, not empty, and has at most {most} letters")
        return text

    def tools(self, name: str) -> tuple[str, ...] | None:
        """A field with rights to tools: none, some, or empty for all. Their names are unchecked."""
        names = tuple(filter(None, re.split(r"[\s,]+", self.field(name))))
        return None if not names else () if names == ("none",) else names

    def see(self, path: str, done: str) -> Response:
        """The response to a change that was made."""
        return see_other(f"{path}?{urlencode({'done': done})}")

    def page(self, template: str, title: str, /, **values: Any) -> View:  # noqa: ANN401
        """A page, with its header."""
        is_operator = self.session.role == "operator"
        tabs = [
            (f"{self.home}{path}" if path else f"{self.home}/", label)
            for path, label in (MEMBER_PAGES if self.account is not None else ())
            if path != "/ledger" or self.context.section.billing
        ]
        desk = [(f"{ROOT}{path}", label) for path, label in OPERATOR_PAGES if is_operator]
        shown = {
            "title": title,
            "visit": self,
            "session": self.session,
            "account": self.account,
            "section": self.context.section,
            "currency": self.context.section.currency,
            "billing": self.context.section.billing,
            "csrf": self.session.csrf,
            "has_tools": self.context.has_tools,
            "tabs": tabs,
            "desk": desk,
            "here": self.request.path,
            "home": self.home if self.account is not None else "",
            "form": self.request.form,
            "problem": self.problem,
            "done": DONE.get(self.request.query.get("done", ""), ""),
        }
        return View(template=template, values=shown | values, status=422 if self.problem else 200)
