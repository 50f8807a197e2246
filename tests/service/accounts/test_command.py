"""`translator account`, `key`, `channel` and `price`: what they do, print and return."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.service.store import postgres
from tests.service.wire import ScriptedUpstream, client_of
from translator.__main__ import main
from translator.service.accounts import price_book
from translator.service.config.loading import read_file
from translator.service.config.settings import SettingsError
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.http.app import create_app

from .paying import ON_SQLITE, USAGE, Books, answering, ask, settled

KEY = re.compile(r"^trk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$", re.MULTILINE)

Run = Callable[..., str]


def written(folder: Path, location: Location, base_url: str = "http://127.0.0.1:9/v1") -> str:
    url = f"sqlite:///{location.target}" if location.kind == "sqlite" else location.target
    file = folder / "settings.toml"
    file.write_text(
        f'[upstreams.up]\nbase_url = "{base_url}"\n[models.m]\nupstream = "up"\n'
        f'[models.other]\nupstream = "up"\n[accounts]\nurl = "{url}"\n',
        "utf-8",
    )
    return str(file)


USAGE_COLUMNS = (
    "hold_id, account_id, key_id, key_name, request_id, response_id, endpoint, model, channel,"
    " price_id, began_at, ended_at, outcome, input, cached, written, output, reasoning, estimated,"
    " amount"
)


@pytest.fixture
def config(location: Location, tmp_path: Path) -> str:
    """A settings file whose accounts are initialized."""
    return written(tmp_path, location)


@pytest.fixture
def books(location: Location) -> Iterator[Books]:
    """The books without a service."""
    with Books.opened(ScriptedUpstream(), location) as made:
        yield made


@pytest.fixture
def run(config: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line, in its words, and returns what it prints."""

    def command(line: str, *, code: int = 0) -> str:
        found = main([*line.split(), "--config", config])
        out, err = capsys.readouterr()
        assert found == code, err
        return out if code != 2 else err

    return command


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """The location of a database without tables."""
    if request.param == "sqlite":
        return Location("sqlite", str(tmp_path / "new" / "accounts.db"))
    server: postgres.Server = request.getfixturevalue("postgres_server")
    server.execute("empty", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return Location("postgresql", server.url("empty"))


def test_init_makes_what_the_service_needs(
    empty: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, empty)
    assert main(["account", "list", "--config", config]) == 2
    assert "translator account init --config" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="account init"):
        create_app(read_file(config, {}))
    for said in ("ready; amounts are in USD", "nothing to do"):
        assert main(["account", "init", "--config", config]) == 0
        assert said in capsys.readouterr().out
    create_app(read_file(config, {}))
    Path(config).write_text(
        Path(config).read_text().replace("[accounts]", '[accounts]\ncurrency = "EUR"')
    )
    with pytest.raises(SettingsError, match="all amounts are in USD"):
        create_app(read_file(config, {}))
    assert main(["account", "init", "--config", config]) == 2
    assert main(["account", "list", "--config", config]) == 2


@pytest.mark.anyio
async def test_key_shown_once(
    run: Run, tmp_path: Path, books: Books, upstream: ScriptedUpstream
) -> None:
    """From nothing to a bill; later only the beginning of the key is shown."""
    config = written(tmp_path, books.location, upstream.url)
    upstream.script = answering(USAGE)
    assert run("account add acme") == "acct_1: acme is there, and has no key yet.\n"
    assert run("account top-up acme 1 --ref first") == "entry 1\n"
    run("price set m --input 0.60 --cached-input 0.10 --cache-write 0.75 --output 2.50")
    out = run("key new anna --account acme --requests-per-minute 60 --channels all")
    [key] = KEY.findall(out)
    assert "key_1, anna of acme, shown only once" in out
    async with client_of(read_file(config, {})) as client:
        assert (await ask(client, key)).status_code == 200
        await settled(books, 1)
        listed = run("key list")
        assert key[:10] in listed
        assert key[:20] not in listed
        assert "60 requests/min" in listed
        assert "in use" in listed
        out = run("key rotate anna --account acme --grace-hours 1")
        [second] = KEY.findall(out)
        assert "key_2 replaces key_1, which works until" in out
        assert "replaced by key_2, until" in run("key list --account acme")
        for one in (key, second):
            assert (await ask(client, one)).status_code == 200
        run("key revoke key_1")
        assert (await ask(client, key)).status_code == 401
        assert "revoked" in run("key list")
        run("account suspend acme")
        assert (await ask(client, second)).status_code == 401
        run("account resume acme")
        await settled(books, 3)
    assert "0.98" in run("account list")
    assert "usage" in run("account ledger acme")
    assert run("account reconcile") == "All figures agree.\n"
    tables = repr(books.rows("SELECT * FROM acct_keys")) + repr(
        books.rows("SELECT * FROM acct_audit")
    )
    assert key[21:] not in tables


def test_limits_of_a_key(run: Run, books: Books) -> None:
    run("account add acme")
    run("channel set few --models m,other --title Few")
    run(
        "key new bob --account acme --channels few,all --models m --requests-per-minute 5"
        " --tokens-per-minute 6 --max-concurrent 7 --limit 1.5 --limit-period month"
        " --expires-at 2030-01-01"
    )
    [one] = books.all_keys()
    assert one.limits.channels == ("few", "all")
    assert (one.limits.requests_per_minute, one.limits.tokens_per_minute) == (5, 6)
    assert (one.limits.max_concurrent_requests, one.limits.limit_amount) == (7, 15 * 10**11)
    run(
        "key limit key_1 --requests-per-minute 9 --unlimited models,limit,expires-at,max-concurrent"
    )
    [one] = books.all_keys()
    limits = one.limits
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.models) == (9, 6, None)
    assert limits.limit_amount is limits.limit_period is limits.expires_at is None
    assert "few" in run("channel list")


@ON_SQLITE
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("account add acme", "already"),
        ("account add bolt --credit -1", "0 or more"),
        ("account top-up nobody 1 --ref r", "there is no account 'nobody'; known: acme"),
        ("account top-up acme 0 --ref r", "more than 0"),
        ("account top-up acme 1e5 --ref r", "no decimal number"),
        ("account top-up acme 1000001 --ref r", "beyond 1000000.00"),
        ("account adjust acme 0 --why w --ref r", "changes nothing"),
        ("account import-clients /nowhere.toml --account acme", "cannot be read"),
        ("key new anna --account acme", "has a key 'anna' already"),
        ("key new b --account acme --channels none", "there is no channel 'none'; known: all"),
        ("key new b --account acme --limit 5", "an amount and a period"),
        ("key new b --account acme --limit -5 --limit-period day", "0 or more"),
        ("key new b --account acme --expires-at soon", "no time such as"),
        ("key new b --account acme --expires-at 9999-12-31T23:59-23:00", "no time such as"),
        ("key new b", "needs --account NAME and --config FILE"),
        ("key revoke anna", "a name needs --account"),
        ("key revoke key_x", "is no id of a key"),
        ("key revoke key_9", "there is no key key_9"),
        ("key revoke bob --account acme", "has no key 'bob'"),
        ("key limit key_1", "no limit is given"),
        ("key limit key_1 --unlimited x", "there is no limit 'x'"),
        ("channel set new", "needs --models"),
        ("channel set new --models m --price-list x", "there is no price list 'x'"),
        ("price set m --input 1", "has an input and an output, or is free"),
        ("price set m --input 0 --output 0", "costs nothing is to be free"),
        ("price set m --free --per-request 1", "a free model has no price"),
        ("price set m --input 10001 --output 1", "beyond 10000.00"),
        ("price set m --input -1 --output 1", "below 0"),
        ("price copy nothing other", "has no prices"),
        ("price copy standard other --times x", "no factor"),
        ("price copy standard other --times 0", "more than 0"),
        ("price import /nowhere.toml", "cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, line: str, said: str) -> None:
    run("account add acme")
    run("key new anna --account acme")
    err = run(line, code=2)
    assert said in err
    assert len(err.splitlines()) == 1


@ON_SQLITE
@pytest.mark.parametrize(
    "line",
    [
        "channel set fast --models m,gone",
        "price set gone --input 1 --output 2",
        "price import prices.toml",
        "key new bob --account acme --models gone",
        "key limit key_1 --models gone,m",
        "account ceiling acme --models gone",
    ],
)
def test_a_model_that_the_settings_do_not_have_is_said_so(
    run: Run, line: str, config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "prices.toml").write_text('[gone]\nfree = true\n["tool:mcp"]\nfree = true\n')
    run("account add acme")
    run("key new anna --account acme")
    line = line.replace("prices.toml", str(tmp_path / "prices.toml"))
    assert main([*line.split(), "--config", config]) == 0
    said = capsys.readouterr().err
    assert said == f"warning: {config} has no [models.gone], which nobody can use yet\n"


@ON_SQLITE
def test_an_end_that_is_past_is_refused(run: Run, books: Books) -> None:
    """A key that has ended keeps its end: its other limits can be changed, and not its secret."""
    run("account add acme")
    past = "key new anna --account acme --expires-at 2020-01-01"
    assert "is past; revoke a key that is to end now" in run(past, code=2)
    run("key new anna --account acme --expires-at 2090-01-01")
    assert "is past" in run("key limit key_1 --expires-at 2020-01-01", code=2)
    books.change("UPDATE acct_keys SET expires_at = 1")
    run("key limit key_1 --requests-per-minute 3")
    assert "key_1 is expired" in run("key rotate key_1", code=2)


def test_topup_twice(run: Run, books: Books) -> None:
    """One reference is one entry, whoever asks for it again."""
    run("account add acme")
    run("account add bolt --credit 5")
    assert run("account top-up acme 12.5 --ref pay-1") == "entry 1\n"
    assert run("account top-up acme 12.5 --ref pay-1") == "entry 1, which was there already\n"
    assert "that of another topup" in run("account top-up acme 13 --ref pay-1", code=2)
    assert "that of another topup" in run("account top-up bolt 12.5 --ref pay-1", code=2)
    run("account adjust acme --why gift --ref pay-1 2")
    run("account adjust acme -0.000000000001 --why fault --ref adj-2")
    assert books.balance() == 145 * 10**11 - 1
    assert "gift" in run("account ledger acme")
    assert run("account credit bolt 7")
    assert books.of("bolt").credit == 7 * 10**12
    assert "14.49" in run("account list")


def test_ledger_is_append_only(run: Run, books: Books) -> None:
    run("account add acme")
    run("account top-up acme 1 --ref r")
    run("price set m --input 1 --output 1")
    for text in (
        "UPDATE acct_ledger SET amount = 2",
        "DELETE FROM acct_ledger",
        "UPDATE acct_prices SET input = 2",
        "DELETE FROM acct_prices",
    ):
        with pytest.raises((sqlite3.Error, psycopg.Error), match="never change"):
            books.change(text)
    assert books.balance() == 10**12


def test_prices(run: Run, books: Books, tmp_path: Path) -> None:
    run("price set m --input 0.60 --cached-input 0.10 --output 2.50 --from 2026-01-01")
    assert "the time is past" in run("price set m --input 1 --output 1 --from 2026-02-01", code=2)
    run("price set m --input 1 --output 2 --from 2090-01-01")
    assert "already" in run("price set m --input 1 --output 2 --from 2090-01-01", code=2)
    run("price set other --free")
    run("price copy standard friends --times 0.8")
    listed = run("price list").splitlines()
    assert len(listed) == 1 + 3 + 2
    [friend] = [line for line in listed if "friends" in line and " m " in line]
    assert friend.split()[-5:] == ["0.48", "2.00", "0.08", "-", "0.00"]
    assert "more than six decimals" in run("price copy standard odd --times 0.3333333", code=2)
    file = tmp_path / "prices.toml"
    file.write_text(
        '["x/y"]\ninput = "0.1"\noutput = "0.2"\nper_request = "0.001"\n[z]\nfree = true\n'
    )
    run(f"price import {file} --price-list imported")
    found = {one.model: one for one in _prices(books) if one.price_list == "imported"}
    assert found["x/y"].per_request == 10**9
    assert found["z"].free
    for text, said in (
        ('[x]\ninput = 0.1\noutput = "1"\n', "a decimal text"),
        ("[x]\nfoo = 1\n", "expected a table"),
        ("x = 1\n", "expected a table"),
        ("", "has no prices"),
    ):
        file.write_text(text)
        assert said in run(f"price import {file} --price-list again", code=2)


def _prices(books: Books) -> list[price_book.PriceRow]:
    with writing(books.connection):
        return price_book.prices(books.connection)


def test_rights_and_prices_of_tools(run: Run, books: Books) -> None:
    run("account add acme")
    run("key new anna --account acme --tools search,mcp:docs")
    run("key new bert --account acme --tools none")
    listed = run("key list")
    assert "tools: search, mcp:docs" in listed
    assert "tools: none" in listed
    run("key rotate anna --account acme")
    assert books.all_keys()[2].tools == ("search", "mcp:docs")
    run("key limit key_3 --tools mcp")
    run("key limit key_2 --unlimited tools")
    assert [one.tools for one in books.all_keys()] == [("search", "mcp:docs"), None, ("mcp",)]
    run("channel set all --tools search")
    assert run("channel list").split("\n")[1].split() == "all All models * search standard".split()
    run("channel set all --title Everything")  # changes no right
    run("channel set new --models m --tools none")
    run("channel set old --models m --tools *")
    rights = books.rows("SELECT name, tools FROM acct_channels ORDER BY name")
    assert rights == [("all", '["search"]'), ("new", "[]"), ("old", None)]
    run("price set tool:search --per-request 0.005")
    run("price set tool:mcp --free")
    assert [line.split()[-5:] for line in run("price list").split("\n")[1:3]] == [
        ["-", "-", "-", "-", "free"],
        ["-", "-", "-", "-", "0.005"],
    ]
    for line, said in (
        ("key new cora --account acme --tools web", "'web' is no tool; known: search, mcp, mcp:"),
        ("channel set all --tools web", "'web' is no tool"),
        ("price set tool:search --input 1 --output 1", "has a price per request, or is free"),
        ("price set tool:search --per-request 1 --input 1", "and none per token"),
        ("price set tool:web --per-request 1", "'tool:web' is no tool; known: tool:search"),
    ):
        assert said in run(line, code=2), line


def test_moved_from_clients(run: Run, books: Books, tmp_path: Path, config: str) -> None:
    run("account add acme")
    old = tmp_path / "old.toml"
    key = "trk_0123456789abcdef_" + "a" * 43
    from translator.service.base.keys import store

    old.write_text(
        f'[upstreams.x]\nbase_url = "http://x/v1"\napi_key_env = "NOT_HERE"\n'
        f'[clients.anna]\nkeys = ["{store(key)}"]\nmax_concurrent_requests = 3\n'
    )
    assert run(f"account import-clients {old} --account acme") == (
        "1 keys are taken over, 0 were there already.\n"
    )
    assert "0 keys are taken over, 1 were" in run(f"account import-clients {old} --account acme")
    assert books.found(key).limits.max_concurrent_requests == 3
    with Path(config).open("a") as file:
        file.write(old.read_text()[old.read_text().index("[clients") :])
    done = subprocess.run(
        [sys.executable, "-m", "translator", "serve", "--config", config],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "accounts: cannot be used with [clients]; move these with" in done.stderr
    run(f"account import-clients {config} --account acme")  # from the very file


def test_reconcile(run: Run, books: Books) -> None:
    """Each figure that was falsified by hand is named, and nothing is changed."""
    run("account add acme")
    run("account top-up acme 1 --ref r")
    run("key new anna --account acme")
    for text, said in (
        ("UPDATE acct_accounts SET balance = balance + 5", "balance is 1.000000000005"),
        ("UPDATE acct_accounts SET held = 7", "are held, its holds add up to 0.00"),
        ("UPDATE acct_keys SET open = 1", "held by 1 requests"),
        (
            "INSERT INTO acct_sums VALUES (1, 1, 0, 'm', 1, 1, 1, 1, 1)",
            "sums of acct_1, key_1, 1970-01-01, m",
        ),
        (
            f"INSERT INTO acct_usages ({USAGE_COLUMNS}) VALUES (9, 1, 1, 'k', 'r', '', '/responses', 'm', 'all', 1,"
            " 1, 1, 'completed', 1, 0, 0, 1, 0, 'no', 3)",
            "usage 9: has cost 0.000000000003, and has no entry",
        ),
    ):
        before = books.rows("SELECT * FROM acct_accounts")
        books.change(text)
        after = books.rows("SELECT * FROM acct_accounts")
        assert said in run("account reconcile", code=1)
        assert books.rows("SELECT * FROM acct_accounts") == after
        del before
    with closing(connect(books.location, DatabaseTime())) as connection, writing(connection):
        connection.change(
            Statement(
                "INSERT INTO acct_ledger (account_id, at, kind, ref, amount, balance_after, actor,"
                " note) VALUES (1, 1, 'topup', 'x', 1, 1, '', '')"
            )
        )
        for hold, amount in ((9, 3), (10, 5)):  # a cost that no counts explain; and no usage
            connection.change(
                Statement(
                    "INSERT INTO acct_ledger (account_id, at, kind, ref, amount, balance_after,"
                    " actor, note) VALUES (1, 1, 'usage', :hold, :amount, 1, '', '')"
                ),
                {"hold": str(hold), "amount": -amount},
            )
    said = run("account reconcile", code=1)
    assert "entry 2 has a balance of" in said
    assert "usage 9: has cost 0.000000000003, and 0.00 follow from its counts" in said
    assert "entry 4 of -0.000000000005: is for usage 10, which is not there" in said


def test_usages_are_pruned(run: Run, books: Books) -> None:
    """The rows of old requests go, their sums and the ledger stay, and all figures agree."""
    run("account add acme")
    run("key new anna --account acme")
    day = 86_400_000_000
    for hold, at in ((1, 5), (2, day + 5), (3, 2 * day)):
        books.change(
            f"INSERT INTO acct_usages ({USAGE_COLUMNS}) VALUES (:hold, 1, 1, 'k', 'r', '', '/responses', 'm', 'all',"
            " NULL, :at, :at, 'completed', 1, 0, 0, 1, 0, 'no', 0)",
            hold=hold,
            at=at,
        )
        books.change(
            "INSERT INTO acct_sums VALUES (1, 1, :day, 'm', 1, 1, 0, 1, 0)", day=at - at % day
        )
    assert run("account reconcile") == "All figures agree.\n"
    assert run("account prune --before 1970-01-03") == "2 usages deleted.\n"
    assert books.usages("hold_id") == [(3,)]
    assert len(books.rows("SELECT day FROM acct_sums")) == 3
    assert run("account reconcile") == "All figures agree.\n"
    assert "days that are over" in run("account prune --before 2990-01-01", code=2)
    assert run("account prune --before 1970-01-01") == "0 usages deleted.\n"
    assert run("account reconcile") == "All figures agree.\n"


def test_commands_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[upstreams.up]\nbase_url = "http://127.0.0.1:9/v1"\n')
    for words in (["account", "list"], ["key", "list"], ["price", "list"], ["channel", "list"]):
        assert main([*words, "--config", str(file)]) == 2
        assert "has no section [accounts]" in capsys.readouterr().err
    file.write_text("[accounts]\nbilling = 3\n")
    assert main(["account", "list", "--config", str(file)]) == 2
    assert "accounts.billing" in capsys.readouterr().err
