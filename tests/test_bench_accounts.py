"""The benchmark of the accounts does the same by the accounts and by what they are compared with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import account_pairs, accounts
from bench.account_pairs import ACCOUNTS, make_database, pair_works, rate
from bench.load import request
from bench.stored_turns import BARE, BARE_IN_A_THREAD
from bench.targets import Running
from translator.service.config.store import Location


def books_of(file: Path) -> list[Any]:
    """What the database says of requests and money."""
    with closing(sqlite3.connect(file)) as driver:
        return [
            driver.execute(query).fetchall()
            for query in (
                "SELECT hold_id, input, output, amount FROM acct_usages ORDER BY hold_id",
                "SELECT kind, ref, amount, balance_after FROM acct_ledger ORDER BY id",
                "SELECT balance, held FROM acct_accounts",
                "SELECT count(*) FROM acct_holds",
            )
        ]


def test_the_same_is_written_by_the_accounts_and_by_sqlite3(tmp_path: Path) -> None:
    with pair_works(tmp_path, 3, 1) as works:
        for _ in range(2):
            works.do[ACCOUNTS]()
        works.do[BARE]()
        works.do[BARE_IN_A_THREAD]()
    found = books_of(tmp_path / f"{ACCOUNTS}.db")
    usages, ledger, [(balance, held)], [(open_,)] = found
    assert len(usages) == 6
    assert {row[1:3] for row in usages} == {(300, 100)}
    assert len(ledger) == 1 + 6
    assert (held, open_) == (0, 0)
    assert balance == ledger[0][2] - sum(row[3] for row in usages)
    assert books_of(tmp_path / "bare.db") == books_of(tmp_path / "recorded.db") == found


def test_pairs_a_second_are_those_that_are_settled(tmp_path: Path) -> None:
    location = Location("sqlite", str(tmp_path / "accounts.db"))
    keys = make_database(location, 2)
    found = rate(location, keys, at_once=4, seconds=0.2)
    usages, *_ = books_of(tmp_path / "accounts.db")
    assert usages
    assert 0 < found.pairs_per_s <= len(usages) / 0.2
    assert 0 < found.hold_p50_ms <= found.hold_p99_ms


def test_the_program_under_valgrind_is_of_the_benchmark() -> None:
    for line in accounts._PAIRS.splitlines():
        if line.startswith("from bench.account_pairs"):
            assert hasattr(account_pairs, line.partition("import ")[2])


def test_a_service_with_accounts_has_its_section_and_a_key(tmp_path: Path) -> None:
    """The other one has the same settings but for that."""
    written: list[str] = []
    for given in (False, True):
        target = accounts.service("a", tmp_path, accounts=given)
        folder = tmp_path / str(given)
        folder.mkdir()
        assert "--config" in target.command(folder, 1, 2)
        written.append((folder / "settings.toml").read_text())
        sent = request(Running(target, 1, 1, 0.0), 1).decode()
        assert f"authorization: Bearer {'trk_' if given else 'sk-bench'}" in sent
    assert written[1].startswith(written[0])
    assert "[accounts]" in written[1].removeprefix(written[0])
