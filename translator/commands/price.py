"""`translator price`: says what models cost, from a time on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

from .account_database import (
    actor,
    add_action,
    changing,
    looking,
    name,
    note,
    print_table,
    shown_time,
    time,
    warn_of_models,
)
from .common import Commands

if TYPE_CHECKING:
    from translator.service.accounts.price_book import PriceRow


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "price",
        help="say what models cost the accounts",
        description="Looks after prices, in decimals per million tokens. A price holds from a time "
        "on, and never changes afterwards: a new one follows it.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    setting = add_action(actions, "set", _set, "let a price hold from now, or from a time on")
    setting.add_argument(
        "model",
        metavar="MODEL",
        type=name,
        help="id of the model; or tool:search or tool:mcp, a call",
    )
    for option, noun in (
        ("--input", "of input"),
        ("--output", "of output"),
        ("--cached-input", "of input from a cache (default: that of input)"),
        ("--cache-write", "of input that is written to a cache (default: that of input)"),
    ):
        setting.add_argument(option, metavar="PRICE", help=f"a million tokens {noun}")
    setting.add_argument("--per-request", metavar="AMOUNT", help="of each request (default: 0)")
    setting.add_argument("--free", action="store_true", help="the model costs nothing")
    setting.add_argument(
        "--from", dest="from_at", metavar="TIME", type=time, help="in UTC (default: now)"
    )
    _add_list(setting)
    listing = add_action(actions, "list", _list, "list the prices")
    listing.add_argument("--all", action="store_true", help="those of the past, too")
    copying = add_action(actions, "copy", _copy, "copy the prices of a list to another one")
    copying.add_argument("source", metavar="FROM", type=name, help="the list to copy")
    copying.add_argument("target", metavar="TO", type=name, help="the list that gets them")
    copying.add_argument("--times", metavar="FACTOR", default="1", help="as in 0.8 (default: 1)")
    importing = add_action(actions, "import", _import, "set the prices of a TOML file")
    importing.add_argument(
        "file", metavar="FILE", help='TOML with ["MODEL"], input = "0.60", output = "2.50", …'
    )
    _add_list(importing)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--price-list",
        metavar="NAME",
        type=name,
        default="standard",
        help="the list of the price (default: standard)",
    )


FIGURES = ("input", "output", "cached_input", "cache_write", "per_request")


def _price(model: str, given: dict[str, Any], price_list: str) -> PriceRow:
    """A price of decimal texts; raises Mistake and InvalidAmount."""
    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.money import read_amount, read_price
    from translator.service.accounts.price_book import PriceRow, check_given

    figures: dict[str, Any] = {}
    for field in FIGURES:
        text = given.get(field)
        if text is not None:
            if not isinstance(text, str):
                raise Mistake(f'{model}: {field} is a decimal text, as in {field} = "0.60"')
            figures[field] = read_amount(text) if field == "per_request" else read_price(text)
    try:
        check_given(model, figures, free=bool(given.get("free")))
    except Mistake as mistake:
        raise Mistake(f"{model}: {mistake}") from None
    return PriceRow(
        model,
        **figures,
        free=bool(given.get("free")),
        price_list=price_list,
        from_at=given.get("from_at"),
    )


def _set(options: argparse.Namespace) -> int:
    from translator.service.accounts.price_book import set_price

    price = _price(options.model, vars(options), options.price_list)
    with changing(options.config) as connection:
        begins = set_price(connection, price, actor())
        note(connection, "set price", options.model, shown_time(begins))
    warn_of_models(options.config, [options.model])
    print(f"The price of {options.model} holds from {shown_time(begins)} on.")
    return 0


def _list(options: argparse.Namespace) -> int:
    from translator.service.accounts.changes import now
    from translator.service.accounts.price_book import prices, prices_now

    with looking(options.config) as connection:
        at = now(connection)
        every = prices(connection)
        holding = [
            one
            for price_list in dict.fromkeys(one.price_list for one in every)
            for one in prices_now(connection, price_list)
        ]
    found = [one for one in every if options.all or one in holding or (one.from_at or 0) > at]
    if not found:
        print("There are no prices.")
        return 0
    print_table(("price list", "model", "from", *FIGURES), [_row(one) for one in found])
    return 0


def _row(one: PriceRow) -> tuple[str, ...]:
    from translator.service.accounts.money import PRICE, shown
    from translator.service.accounts.tools import is_priced_name

    def price(value: int | None) -> str:
        return "-" if value is None else shown(value, unit=PRICE)

    figures = (one.input, one.output, one.cached_input, one.cache_write)
    of_tokens = ("free",) * 4 if one.free else tuple(map(price, figures))
    if is_priced_name(one.model):
        of_tokens = ("-",) * 4
    return (
        one.price_list,
        one.model,
        shown_time(one.from_at),
        *of_tokens,
        "free" if one.free else shown(one.per_request),
    )


def _copy(options: argparse.Namespace) -> int:
    from fractions import Fraction

    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.price_book import copy_prices

    try:
        times = Fraction(options.times)
    except (ValueError, ZeroDivisionError):
        raise Mistake(f"{options.times!r} is no factor such as 0.8") from None
    if not 0 < times <= 1000:
        raise Mistake("a factor is more than 0, and 1000 at most")
    with changing(options.config) as connection:
        count = copy_prices(connection, options.source, options.target, times, actor())
        note(connection, "copy prices", options.target, f"of {options.source}, times {times}")
    print(f"{count} prices of {options.target} hold from now on.")
    return 0


def _import(options: argparse.Namespace) -> int:
    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.price_book import set_price
    from translator.service.config.loading import read_toml

    from .settings import settings_errors

    with settings_errors():
        table = read_toml(options.file)
    if not table:
        raise Mistake(f"{options.file} has no prices")
    known = {*FIGURES, "free", "from"}
    prices: list[PriceRow] = []
    for model, value in table.items():
        given = cast("dict[str, Any]", value) if isinstance(value, dict) else {"": value}
        if not given.keys() <= known:
            raise Mistake(f"{model}: expected a table with some of {', '.join(sorted(known))}")
        fields = {**given, "from_at": None if "from" not in given else time(str(given["from"]))}
        prices.append(_price(model, fields, options.price_list))
    with changing(options.config) as connection:
        for price in prices:
            set_price(connection, price, actor())
            note(connection, "set price", price.model, price.price_list)
    warn_of_models(options.config, [price.model for price in prices])
    print(f"{len(prices)} prices are set.")
    return 0
