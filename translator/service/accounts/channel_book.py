"""What an operator says of channels: their models, the tools of their keys, their price list."""

from __future__ import annotations

from collections.abc import Mapping

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .changes import Mistake, changed
from .keys import ALL, Channel, is_list, names_text, read_catalog
from .price_book import price_lists
from .tools import tool_problem

EVERYTHING = "all"
"""The channel that `init` makes: all models, at standard prices."""

_NEW_CHANNEL = Statement(
    "INSERT INTO acct_channels (name, title, models, price_list)"
    " VALUES (:name, :title, :models, :list)"
    " ON CONFLICT (name) DO UPDATE SET title = excluded.title, models = excluded.models,"
    " price_list = excluded.price_list"
)


def channels(connection: Connection) -> Mapping[str, Channel]:
    """All channels by name."""
    return read_catalog(connection, billing=False).channels


def set_channel(connection: Connection, channel: Channel) -> None:
    """Make a channel, or change it; raises Mistake for a price list that is not there."""
    if is_list(channel.name):
        raise Mistake(f"{channel.name!r} is no name of a channel: lists of channels have this")
    if channel.price_list not in price_lists(connection):
        known = ", ".join(price_lists(connection))
        text = f"there is no price list {channel.price_list!r}; known: {known}"
        raise Mistake(text, field="price_list")
    connection.change(
        _NEW_CHANNEL,
        {
            "name": channel.name,
            "title": channel.title,
            "models": names_text(channel.models),
            "list": channel.price_list,
        },
    )
    changed(connection)


_SET_TOOLS = Statement("UPDATE acct_channels SET tools = :tools WHERE name = :name")


def set_tools(connection: Connection, channel: str, tools: tuple[str, ...] | None) -> None:
    """Say which tools the keys of a channel may have called; None: all. Raises Mistake."""
    check_tools(tools)
    connection.change(_SET_TOOLS, {"name": channel, "tools": names_text(tools)})
    changed(connection)


def check_tools(tools: tuple[str, ...] | None) -> None:
    """Raise Mistake for the name of what is no tool."""
    for one in tools or ():
        if problem := tool_problem(one):
            raise Mistake(problem, field="tools")


def unknown_models(connection: Connection, listed: frozenset[str] | None) -> list[tuple[str, str]]:
    """Channels with the models that they name and the settings do not list."""
    return [
        (channel.name, model)
        for channel in channels(connection).values()
        for model in channel.models
        if listed is not None and model != ALL and model not in listed
    ]
