"""`translator account export`: usage and ledger as a table on standard output."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from typing import Any

from .account_database import accounts_of, add_action, looking, name, time

WHAT = ("days", "requests", "ledger")


def add(actions: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the action to those of `translator account`."""
    export = add_action(actions, "export", _export, "write days, requests or the ledger as a table")
    export.add_argument(
        "what",
        choices=WHAT,
        help="days: sums by day, key and model; requests: one by one, until they are pruned; or "
        "the changes of balances",
    )
    export.add_argument("--account", metavar="NAME", type=name, help="of one account only")
    export.add_argument("--since", metavar="DAY", type=time, default=0, help="from a UTC day on")
    export.add_argument("--until", metavar="DAY", type=time, help="up to a UTC day, without it")
    export.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="csv by default")


def _export(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import account, accounts
    from translator.service.accounts.export import HEADS, rows_of, safe_cell
    from translator.service.accounts.usage import Span

    span = Span(start=options.since, end=Span().end if options.until is None else options.until)
    currency = accounts_of(options.config).section.currency
    head = HEADS[options.what]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if options.format == "csv":
        writer.writerow(head)
    with looking(options.config) as connection:
        if options.account is None:
            found = accounts(connection)
        else:
            found = [account(connection, options.account)]
        for one in found:
            for row in rows_of(connection, options.what, one, span, currency):
                if options.format == "csv":
                    writer.writerow([safe_cell(cell) for cell in row])
                else:
                    named = {
                        str(key).replace(" ", "_"): cell
                        for key, cell in zip(head, row, strict=True)
                    }
                    print(json.dumps(named, ensure_ascii=False))
    return 0
