"""What accounts promise, and the tests that have it: each is there by its name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
ROOM = TESTS.parent / "translator" / "service"

ACCOUNTS, CONSOLE = "service/accounts", "service/console"
SCENARIOS = {
    "off by default": (f"{ACCOUNTS}/test_keys", "test_off_by_default"),
    "key shown once": (f"{CONSOLE}/test_pages", "test_key_shown_once"),
    "exact bill": (f"{ACCOUNTS}/test_bills", "test_exact_bill"),
    "no cache prices": (f"{ACCOUNTS}/test_bills", "test_no_cache_prices"),
    "cached above input": (f"{ACCOUNTS}/test_bills", "test_cached_above_input"),
    "old request, old price": (f"{ACCOUNTS}/test_bills", "test_old_request_old_price"),
    "unpriced model": (f"{ACCOUNTS}/test_bills", "test_unpriced_model"),
    "free model": (f"{ACCOUNTS}/test_bills", "test_free_model"),
    "ten of fifty": (f"{ACCOUNTS}/test_bills", "test_ten_of_fifty"),
    "ten of fifty, over nodes": (f"{ACCOUNTS}/test_kills", "test_ten_of_fifty_over_nodes"),
    "lowered limit": (f"{ACCOUNTS}/test_bills", "test_lowered_limit"),
    "too little": (f"{ACCOUNTS}/test_bills", "test_too_little"),
    "Codex with an empty account": (
        "clients/accounts/test_codex",
        "test_real_codex_with_an_empty_account",
    ),
    "the same on a WebSocket": (
        "clients/accounts/test_codex",
        "test_real_codex_with_an_empty_account_on_a_websocket",
    ),
    "OpenAI's package for Python": (
        "clients/accounts/test_openai",
        "test_openai_for_python_asks_once",
    ),
    "OpenAI's package for Node": ("clients/accounts/test_openai", "test_openai_for_node_asks_once"),
    "Codex sees the balance": ("clients/accounts/test_codex", "test_real_codex_sees_the_balance"),
    "client leaves": (f"{ACCOUNTS}/test_ends", "test_client_leaves"),
    "usage missing": (f"{ACCOUNTS}/test_ends", "test_usage_missing"),
    "an estimate is marked": (f"{CONSOLE}/test_pages", "test_an_estimate_is_marked"),
    "upstream breaks after output": (
        f"{ACCOUNTS}/test_ends",
        "test_upstream_breaks_after_output",
    ),
    "usage in an unhappy end": (f"{ACCOUNTS}/test_ends", "test_usage_in_an_unhappy_end"),
    "refused and asked again": (f"{ACCOUNTS}/test_bills", "test_refused_and_asked_again"),
    "include_usage forced": (f"{ACCOUNTS}/test_bills", "test_include_usage_forced"),
    "odd usage": (f"{ACCOUNTS}/test_bills", "test_odd_usage"),
    "turns on a WebSocket": (f"{ACCOUNTS}/test_ends", "test_turns_on_a_websocket"),
    "same client id twice": (f"{ACCOUNTS}/test_bills", "test_same_client_id_twice"),
    "top-up twice, by command": (f"{ACCOUNTS}/test_command", "test_topup_twice"),
    "top-up twice, by form": (f"{CONSOLE}/test_operator", "test_top_up_twice"),
    "top-up twice, by JSON": (f"{ACCOUNTS}/test_provisioning_once", "test_top_up_twice"),
    "ledger is append-only": (f"{ACCOUNTS}/test_command", "test_ledger_is_append_only"),
    "kill at seven points": (f"{ACCOUNTS}/test_kills", "test_kill_at_seven_points"),
    "kill at random": (f"{ACCOUNTS}/test_kills", "test_kill_at_random"),
    "stopped and continued": (f"{ACCOUNTS}/test_kills", "test_stopped_and_continued"),
    "database away": (f"{ACCOUNTS}/test_crashes", "test_database_away"),
    "no way around": (f"{ACCOUNTS}/test_no_way_around", "test_no_way_around"),
    "others' data, on pages": (f"{CONSOLE}/test_who_may", "test_others_data"),
    "others' data, for keys": (f"{ACCOUNTS}/test_meters", "test_nobody_finds_anything_of_others"),
    "key limit per month": (f"{ACCOUNTS}/test_bills", "test_key_limit_per_month"),
    "limits over workers": (f"{ACCOUNTS}/test_keys", "test_limits_over_workers"),
    "sign-in throttled": (f"{CONSOLE}/test_sign_in", "test_sign_in_throttled"),
    "the same over processes": (f"{ACCOUNTS}/test_kills", "test_sign_in_throttled_over_processes"),
    "CSRF": (f"{CONSOLE}/test_who_may", "test_csrf"),
    "sessions end": (f"{CONSOLE}/test_sign_in", "test_the_old_cookie_gets_the_sign_in_page"),
    "escaping": (f"{CONSOLE}/test_pages", "test_escaping"),
    "cells of CSV": (f"{CONSOLE}/test_pages", "test_cells"),
    "real browser": ("browser/test_console", "test_real_browser"),
    "moved from [clients]": (f"{ACCOUNTS}/test_keys", "test_moved_from_clients"),
    "reconcile": (f"{ACCOUNTS}/test_command", "test_reconcile"),
    "two totals": (f"{CONSOLE}/test_pages", "test_two_totals"),
}

INVARIANTS = {
    "1-7, 9-11: every figure follows from rows": (
        f"{ACCOUNTS}/test_model",
        "test_every_figure_follows_from_rows_that_never_change",
    ),
    "the same on PostgreSQL": (
        f"{ACCOUNTS}/test_model",
        "test_every_figure_follows_from_rows_on_postgresql",
    ),
    "8: after any kill": (f"{ACCOUNTS}/test_kills", "test_kill_at_seven_points"),
    "12: refused at once, in any process": (
        f"{ACCOUNTS}/test_keys",
        "test_who_may_not_is_refused_at_once_in_every_process",
    ),
    "13: only rows of the own account": (
        f"{ACCOUNTS}/test_meters",
        "test_nobody_finds_anything_of_others",
    ),
    "14: minute limits over processes": (f"{ACCOUNTS}/test_kills", "test_limits_over_processes"),
    "15: no secret of a key": (f"{ACCOUNTS}/test_keys", "test_the_secret_is_nowhere"),
    "15: nor one of an operator": (f"{ACCOUNTS}/test_provisioning_once", "test_no_secret_is_kept"),
    "15: nor in logs and traces": (
        f"{ACCOUNTS}/test_provisioning_once",
        "test_no_secret_is_in_the_log_or_a_trace",
    ),
    "15: nor on pages, of sessions and passwords": (
        f"{CONSOLE}/test_sign_in",
        "test_no_secret_of_a_person_is_kept_or_told",
    ),
    "16: nothing without the section": (f"{ACCOUNTS}/test_keys", "test_off_by_default"),
}


@pytest.mark.parametrize("name", [*SCENARIOS, *INVARIANTS])
def test_each_has_a_test_of_its_name(name: str) -> None:
    file, test = (SCENARIOS | INVARIANTS)[name]
    assert re.search(
        rf"^(async )?def {test}\(", (TESTS / f"{file}.py").read_text("utf-8"), re.MULTILINE
    )


def test_only_commands_name_their_options() -> None:
    """What is wrong is said to people on pages and to programs, too, who have no options."""
    told: list[str] = []
    for folder in ("accounts", "console", "provisioning"):
        for path in (ROOM / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    told += re.findall(r"(?:^| )--[a-z][a-z-]+", node.value)
    assert told == [" --config"], "of a whole command line, at the start of the service"


def test_no_key_and_no_money_is_ever_deleted() -> None:
    """A key holds no money, and is revoked: so a debt is not forgotten with it."""
    deleted: set[str] = set()
    for folder in ("accounts", "console", "provisioning"):
        for path in (ROOM / folder).rglob("*.py"):
            deleted |= set(re.findall(r"DELETE FROM acct_(\w+)", path.read_text("utf-8")))
    assert deleted
    assert not deleted & {"accounts", "keys", "ledger", "prices", "sums", "users"}
