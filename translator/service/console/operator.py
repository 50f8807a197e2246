"""The operator's pages of accounts and users, and the log of what people changed."""

from __future__ import annotations

import re

from msgspec.structs import replace

from translator.service.accounts import books, channel_book, people
from translator.service.accounts.books import Account
from translator.service.accounts.changes import Mistake
from translator.service.accounts.key_book import keys_of
from translator.service.accounts.member_channels import member_channels, set_member_channels
from translator.service.accounts.money import read_amount, shown
from translator.service.accounts.people import User
from translator.service.accounts.usage import ledger
from translator.service.database.connection import Connection

from .limit_form import PERIODS, read_limits, shown_values, words
from .requests import Response
from .visit import ROOT, NotHere, View, Visit

PAGE_ROWS = 100

ACCOUNTS = f"{ROOT}/operator"
USERS = f"{ROOT}/operator/users"


# --- accounts ------------------------------------------------------------------------------------


def accounts(visit: Visit, connection: Connection) -> View:
    found = books.accounts(connection)
    total = sum(one.balance for one in found)
    return visit.page("accounts", "Accounts", accounts=found, total=total)


def add_account(visit: Visit, connection: Connection) -> Response:
    name = visit.name("name", "the name of an account", 100)
    credit = _not_negative(visit, "credit")
    made = books.add_account(connection, name, credit)
    _note(visit, connection, "add account", f"acct_{made}", f"{name}, credit {shown(credit)}")
    return visit.see(f"{ACCOUNTS}/acct_{made}", "account")


def account(visit: Visit, connection: Connection) -> View:
    found = visit.of_account
    members = [one for one in people.users(connection) if one.account_id == found.id]
    return visit.page(
        "account",
        found.name,
        members=members,
        key_count=len(keys_of(connection, found.id)),
        member_channels=", ".join(member_channels(connection, found.id)) or "none",
        channels=list(channel_book.channels(connection)),
        entries=ledger(connection, found.id, limit=10),
        values=shown_values(visit, found.ceiling, found.ceiling.tools),
        periods=PERIODS,
        models=sorted(visit.context.offer.listed or ()),
    )


def top_up(visit: Visit, connection: Connection) -> Response:
    ref = visit.name("ref", "a reference")
    entry = books.top_up(connection, visit.of_account.name, _amount(visit), ref, visit.session.name)
    return _booked(visit, connection, "top up", entry, ref)


def adjust(visit: Visit, connection: Connection) -> Response:
    why = visit.name("why", "a reason")
    ref = visit.name("ref", "a reference")
    entry = books.adjust(
        connection, visit.of_account.name, _amount(visit), why, ref, visit.session.name
    )
    return _booked(visit, connection, "adjust", entry, f"{ref}: {why}")


def _booked(
    visit: Visit, connection: Connection, action: str, entry: books.Entry, words: str
) -> Response:
    if entry.new:
        detail = f"{shown(entry.amount)}, entry {entry.id}, {words}"
        _note(visit, connection, action, _subject(visit.of_account), detail)
    return visit.see(_path(visit.of_account), "booked" if entry.new else "known")


def credit(visit: Visit, connection: Connection) -> Response:
    amount = _not_negative(visit, "credit")
    books.set_credit(connection, visit.of_account.name, amount)
    _note(visit, connection, "set credit", _subject(visit.of_account), shown(amount))
    return visit.see(_path(visit.of_account), "credited")


def set_channels(visit: Visit, connection: Connection) -> Response:
    """Say which channels the members may give to keys."""
    given = tuple(filter(None, re.split(r"[\s,]+", visit.field("channels")))) or None
    names = () if given == ("none",) else given
    set_member_channels(connection, visit.of_account.id, names)
    words = ", ".join(member_channels(connection, visit.of_account.id)) or "none"
    _note(visit, connection, "set channels", _subject(visit.of_account), words)
    return visit.see(_path(visit.of_account), "account-channels")


def set_ceiling(visit: Visit, connection: Connection) -> Response:
    """Say what members may give at most to the keys that they make."""
    ceiling = read_limits(visit, visit.of_account.ceiling)
    if visit.context.has_tools:
        ceiling = replace(ceiling, tools=visit.tools("tools"))
    books.set_ceiling(connection, visit.of_account.name, ceiling)
    said = "; ".join(words(ceiling)) or "no limits"
    _note(visit, connection, "set ceiling", _subject(visit.of_account), said)
    return visit.see(_path(visit.of_account), "ceiling")


def ask_suspend(visit: Visit, connection: Connection) -> View:
    return visit.page(
        "suspend", "Suspend an account", key_count=len(keys_of(connection, visit.of_account.id))
    )


def suspend(visit: Visit, connection: Connection) -> Response:
    return _set_suspended(visit, connection, suspended=True)


def resume(visit: Visit, connection: Connection) -> Response:
    return _set_suspended(visit, connection, suspended=False)


def _set_suspended(visit: Visit, connection: Connection, *, suspended: bool) -> Response:
    books.suspend(connection, visit.of_account.name, suspended=suspended)
    action = "suspend" if suspended else "resume"
    _note(visit, connection, action, _subject(visit.of_account), visit.of_account.name)
    return visit.see(_path(visit.of_account), "suspended" if suspended else "resumed")


def _path(account: Account) -> str:
    return f"{ACCOUNTS}/acct_{account.id}"


def _subject(account: Account) -> str:
    return f"acct_{account.id}"


def _amount(visit: Visit) -> int:
    text = visit.field("amount")
    if not text:
        raise Mistake("an amount is a decimal number such as 12.50")
    return read_amount(text)


def _not_negative(visit: Visit, name: str) -> int:
    amount = read_amount(visit.field(name) or "0")
    if amount < 0:
        raise Mistake("a credit is 0 or more")
    return amount


# --- users ---------------------------------------------------------------------------------------


def users(visit: Visit, connection: Connection) -> View:
    return visit.page(
        "users", "Users", users=people.users(connection), accounts=books.accounts(connection)
    )


def add_user(visit: Visit, connection: Connection) -> Response:
    name = people.user_name(visit.field("name"))
    of = visit.field("account")
    member_of = None if of == "operator" else _account_named(connection, of).name
    people.add_user(connection, name, member_of, visit.hashed)
    _note(visit, connection, "add user", name, member_of or "operator")
    return visit.see(USERS, "user")


def _account_named(connection: Connection, text: str) -> Account:
    """The account that the form chooses by its id."""
    number = text.removeprefix("acct_")
    found = None
    if number.isascii() and number.isdigit() and len(number) <= 15:
        found = books.account_of_id(connection, int(number))
    if found is None:
        raise Mistake("a user is a member of an account, or an operator")
    return found


def user(visit: Visit, connection: Connection) -> View:
    found = _user(visit, connection)
    return visit.page("user", found.name, user=found, is_self=found.id == visit.session.user_id)


def password(visit: Visit, connection: Connection) -> Response:
    found = _user(visit, connection)
    people.set_password(connection, found.name, visit.hashed)
    _note(visit, connection, "set password", found.name)
    return visit.see(f"{USERS}/user_{found.id}", "user-password")


def unlock(visit: Visit, connection: Connection) -> Response:
    found = _user(visit, connection)
    people.unlock(connection, found.name)
    _note(visit, connection, "unlock user", found.name)
    return visit.see(f"{USERS}/user_{found.id}", "unlocked")


def disable(visit: Visit, connection: Connection) -> Response:
    found = _user(visit, connection)
    if found.id == visit.session.user_id:
        raise Mistake("you would lock yourself out")
    return _set_disabled(visit, connection, found, disabled=True)


def enable(visit: Visit, connection: Connection) -> Response:
    return _set_disabled(visit, connection, _user(visit, connection), disabled=False)


def _set_disabled(visit: Visit, connection: Connection, found: User, *, disabled: bool) -> Response:
    people.set_disabled(connection, found.name, disabled=disabled)
    _note(visit, connection, "disable user" if disabled else "enable user", found.name)
    return visit.see(f"{USERS}/user_{found.id}", "disabled" if disabled else "enabled")


def _user(visit: Visit, connection: Connection) -> User:
    for one in people.users(connection):
        if one.id == visit.ids["user"]:
            return one
    raise NotHere


# --- what was changed ----------------------------------------------------------------------------


def audit_log(visit: Visit, connection: Connection) -> View:
    text = visit.request.query.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 2**62
    rows = people.trail(connection, before, PAGE_ROWS + 1)
    more = rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None
    return visit.page("audit", "Audit log", rows=rows[:PAGE_ROWS], more=more)


def _note(
    visit: Visit, connection: Connection, action: str, subject: str, detail: str = ""
) -> None:
    people.audit(connection, visit.session.name, action, subject, detail)
