"""`translator account user` and `account channels`: people who sign in, and what they may choose."""

from __future__ import annotations

import io
import re
import sys
import threading
from contextlib import closing

import pytest
from msgspec.structs import replace

from tests.service.wire import BOUND_S
from translator.commands.account_database import actor
from translator.service.accounts import key_book, passwords, people
from translator.service.accounts.ceilings import NO_CEILING, Ceiling, Limits
from translator.service.accounts.changes import Mistake
from translator.service.accounts.money import read_amount
from translator.service.accounts.periods import read_time
from translator.service.base.keys import new_key, store
from translator.service.database.connection import connect, reading, writing
from translator.service.database.statement import DatabaseTime

from .paying import ON_SQLITE, Books
from .test_command import Run, books, config, run

__all__ = ["books", "config", "run"]

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take no time."""
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: hasher)


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What is typed at the terminal, line by line."""
    left = list(lines)
    monkeypatch.setattr("getpass.getpass", lambda _: left.pop(0))
    monkeypatch.setattr(sys, "stdin", type("Tty", (), {"isatty": lambda _: True})())


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What a script writes to standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def stored(books: Books, name: str) -> str:
    with reading(books.connection):
        found = people.password_of(books.connection, name)
    assert found is not None
    return found[1]


def test_users_from_their_beginning_to_their_end(
    run: Run, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("account add acme")
    typed(monkeypatch, PASSWORD, PASSWORD)
    assert "anna is a member of acme" in run("account user add Anna --account acme")
    piped(monkeypatch, f"{PASSWORD}\nand more\n")
    assert "olga is an operator" in run("account user add olga --operator")
    for name in ("anna", "olga"):
        assert passwords.verify(stored(books, name), PASSWORD)
    listed = run("account user list")
    assert re.search(r"^anna +member +acme +no ", listed, re.MULTILINE)
    assert re.search(r"^olga +operator +- +no ", listed, re.MULTILINE)
    piped(monkeypatch, "another horse battery\r\n")
    assert "all sessions have ended" in run("account user password ANNA")
    assert passwords.verify(stored(books, "anna"), "another horse battery")
    with writing(books.connection):
        for _ in range(people.FREE_FAILURES):
            people.attempt(books.connection, "anna", "192.0.2.1")
    assert "may try to sign in" in run("account user unlock Anna")
    assert books.rows("SELECT subject FROM acct_attempts") == [("address 192.0.2.1",)]
    assert "kept out" in run("account user disable anna")
    assert re.search(r"^anna +member +acme +since \d", run("account user list"), re.MULTILINE)
    assert "may sign in" in run("account user enable anna")
    actions = [row[0] for row in books.rows("SELECT action FROM acct_audit ORDER BY id")]
    assert actions[0] == "add account"
    changes = "add user, add user, set password, unlock user, disable user, enable user"
    assert ", ".join(actions[1:]) == changes
    assert PASSWORD not in str(books.rows("SELECT * FROM acct_audit"))


@ON_SQLITE
def test_nobody_is_there_at_first(run: Run) -> None:
    assert run("account user list") == "There are no users.\n"


@ON_SQLITE
def test_a_password_that_is_not_accepted(
    run: Run, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lines, said in (
        (["short"], "at least 12 characters"),
        ([PASSWORD, f"{PASSWORD}!"], "not the same"),
        (["ä" * 600], "at most 1024 bytes"),
    ):
        typed(monkeypatch, *lines)
        assert said in run("account user add olga --operator", code=2)
    assert not books.rows("SELECT id FROM acct_users")


@ON_SQLITE
def test_a_mistake_is_told_before_a_password_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, f"{PASSWORD}\n")
    run("account user add olga --operator")
    monkeypatch.setattr(sys, "stdin", None)
    assert "'olga' already" in run("account user add Olga --operator", code=2)
    assert "no account 'none'" in run("account user add x --account none", code=2)
    for action in ("password", "unlock", "disable", "enable"):
        assert "there is no user 'nobody'" in run(f"account user {action} nobody", code=2)


def test_channels_for_members(run: Run, books: Books) -> None:
    run("account add acme")
    run("channel set fast --models m")
    said = run("account channels acme --only fast,all")
    assert "may give keys these channels: fast, all" in said
    assert books.rows("SELECT channels FROM acct_accounts") == [('["fast","all"]',)]
    assert "there is no channel 'gold'" in run("account channels acme --only gold", code=2)
    for option, said, column in (
        ("all", "every one", '["*"]'),
        ("none", "none", "[]"),
        ("usual", "all", None),
    ):
        assert f"these channels: {said}." in run(f"account channels acme --{option}")
        assert books.rows("SELECT channels FROM acct_accounts") == [(column,)]


@ON_SQLITE
@pytest.mark.parametrize("name", ["a,b", "*", "none"])
def test_no_channel_has_a_name_that_lists_of_them_take_for_something_else(
    run: Run, name: str
) -> None:
    assert "is no name of a channel" in run(f"channel set {name} --models m", code=2)


def test_what_an_operator_limits_by_a_command_is_a_ceiling(run: Run, books: Books) -> None:
    """Only what the command names; what a member has set by itself is no ceiling."""
    run("account add acme")
    run("key new anna --account acme --requests-per-minute 9")
    [found] = books.all_keys()
    with writing(books.connection):
        own = replace(found.limits, requests_per_minute=5, tokens_per_minute=7)
        key_book.set_limits(books.connection, found, own, by_member=True)
    run("key limit key_1 --limit 2 --limit-period day")
    [found] = books.all_keys()
    assert found.limits.requests_per_minute == 5
    assert found.ceiling.requests_per_minute == 9
    assert found.ceiling.tokens_per_minute is None
    assert (found.ceiling.limit_amount, found.ceiling.limit_period) == (read_amount("2"), "day")
    run("key limit key_1 --unlimited limit,requests-per-minute --tools search")
    [found] = books.all_keys()
    assert found.ceiling == Ceiling(channels=("all",), tools=("search",))
    for tools in (None, ("mcp",)):
        with pytest.raises(Mistake, match="operator allows search"), writing(books.connection):
            key_book.set_tools(books.connection, found, tools, by_member=True)


def test_the_keys_that_members_make_have_a_ceiling(run: Run, books: Books) -> None:
    run("account add acme")
    assert "at most: no limits." in run("account ceiling acme")
    said = run(
        "account ceiling acme --requests-per-minute 9 --limit 2 --limit-period day --models m"
    )
    assert "at most: 9 requests/min, 2.00 per day, models: m." in said
    said = run("account ceiling acme --tools search --expires-at 2090-01-01 --unlimited models")
    assert "9 requests/min, 2.00 per day, tools: search, until 2090-01-01 00:00:00Z." in said
    assert said.startswith(run("account ceiling acme").strip())
    assert "an amount and a period" in run(
        "account ceiling acme --unlimited limit --limit 2", code=2
    )
    assert "is no tool" in run("account ceiling acme --tools web", code=2)
    with writing(books.connection):
        limits = Limits(
            requests_per_minute=9,
            limit_amount=1,
            limit_period="day",
            expires_at=read_time("2089-01-01"),
        )
        stored = store(new_key())
        with pytest.raises(Mistake, match="expires: an operator allows"):
            later = replace(limits, expires_at=None)
            key_book.add_key(books.connection, "acme", "x", stored, later, by_member=True)
        key_book.add_key(books.connection, "acme", "x", stored, limits, by_member=True)
    [found] = books.all_keys()
    assert (found.tools, found.of_member, found.ceiling) == (("search",), True, NO_CEILING)
    run("account ceiling acme --unlimited requests-per-minute,limit,tools,expires-at")
    assert books.of().ceiling == NO_CEILING
    assert books.all_keys()[0].limits == limits, "keys keep what they have"


def test_a_member_does_not_undo_what_an_operator_says_meanwhile(run: Run, books: Books) -> None:
    run("account add acme")
    run("key new anna --account acme --requests-per-minute 9")
    refused: list[Mistake] = []

    def member() -> None:
        with closing(connect(books.location, DatabaseTime())) as connection:
            one = key_book.key_of_id(connection, 1)
            try:
                with writing(connection):
                    key_book.set_limits(connection, one, one.limits, by_member=True)
            except Mistake as mistake:
                refused.append(mistake)

    with writing(books.connection):
        one = key_book.key_of_id(books.connection, 1)
        tight = replace(one.limits, requests_per_minute=3)
        key_book.set_limits(books.connection, one, tight)
        thread = threading.Thread(target=member)
        thread.start()
        thread.join(0.3)  # it waits for the lock by now
    thread.join(BOUND_S)
    assert "requests per minute: an operator allows at most 3" in str(refused[0])
    [found] = books.all_keys()
    assert (found.limits.requests_per_minute, found.ceiling.requests_per_minute) == (3, 3)


def test_each_change_is_in_the_audit_log(run: Run, books: Books) -> None:
    """Who did it, what, and of what; a reference that was booked before is no change."""
    lines = {
        "account add acme --credit 2": "add account",
        "account top-up acme 5 --ref r1": "top up",
        "account adjust acme 1 --why w --ref r2": "adjust",
        "account credit acme 3": "set credit",
        "account ceiling acme --requests-per-minute 5": "set ceiling",
        "account suspend acme": "suspend",
        "account resume acme": "resume",
        "channel set fast --models m": "set channel",
        "price set m --input 1 --output 2": "set price",
        "price copy standard friends --times 0.5": "copy prices",
        "key new anna --account acme": "add key",
        "key limit anna --account acme --requests-per-minute 3": "limit key",
        "key rotate anna --account acme": "rotate key",
        "key revoke anna --account acme": "revoke key",
    }
    for line in lines:
        run(line)
    run("account top-up acme 5 --ref r1")
    found = books.rows("SELECT action, actor, subject FROM acct_audit ORDER BY id")
    assert [action for action, _, _ in found] == list(lines.values())
    assert {who for _, who, _ in found} == {actor()}
    assert {"acme", "fast", "m", "friends", "key_1 of acme"} <= {of for _, _, of in found}
