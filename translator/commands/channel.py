"""`translator channel`: says which models keys may use, at the prices of which list."""

from __future__ import annotations

import argparse

from .account_database import (
    add_action,
    changing,
    looking,
    name,
    names,
    note,
    print_table,
    shown_tools,
    tools,
    warn_of_models,
)
from .common import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "channel",
        help="say which models the keys of accounts may use",
        description="Looks after channels: lists of models with their prices, which keys of "
        "accounts have.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    setting = add_action(actions, "set", _set, "make a channel, or change what is given of it")
    setting.add_argument("name", metavar="NAME", type=name, help="name of the channel")
    setting.add_argument(
        "--models", metavar="ID,…", type=names, help="ids of the settings, or * for all of them"
    )
    setting.add_argument("--title", metavar="TEXT", type=name, help="for people")
    setting.add_argument(
        "--price-list", metavar="NAME", type=name, help="its prices (default: standard)"
    )
    setting.add_argument(
        "--tools",
        metavar="NAME,…",
        type=tools,
        help="tools that may be called: search, mcp, mcp:NAME, * for all (default), or none",
    )
    add_action(actions, "list", _list, "list the channels")


def _set(options: argparse.Namespace) -> int:
    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.channel_book import channels, set_channel, set_tools
    from translator.service.accounts.keys import Channel
    from translator.service.accounts.price_book import STANDARD

    with changing(options.config) as connection:
        before = channels(connection).get(options.name)
        if before is None and options.models is None:
            raise Mistake("a new channel needs --models")
        if before is None:
            before = Channel(options.name, options.name, (), STANDARD)
        made = Channel(
            options.name,
            options.title or before.title,
            options.models or before.models,
            options.price_list or before.price_list,
        )
        set_channel(connection, made)
        if options.tools is not None:
            set_tools(connection, options.name, None if "*" in options.tools else options.tools)
        note(
            connection,
            "set channel",
            options.name,
            f"{', '.join(made.models)}; {made.price_list}",
        )
    warn_of_models(options.config, options.models or ())
    print(f"The channel {options.name} is as you say from now on.")
    return 0


def _list(options: argparse.Namespace) -> int:
    from translator.service.accounts.channel_book import channels

    with looking(options.config) as connection:
        found = channels(connection).values()
    rows = [
        (one.name, one.title, ", ".join(one.models), shown_tools(one.tools), one.price_list)
        for one in found
    ]
    print_table(("name", "title", "models", "tools", "price list"), rows)
    return 0
