"""The items of an input once they are read: four kinds, of which the conversation is written."""

from __future__ import annotations

from typing import Literal, final

from msgspec import Raw, Struct

from translator.common.sealed import Thought
from translator.wire import items

HOSTED_OUTPUT, MCP_OUTPUT = "hosted tool call output", "MCP call output"
"""The nouns of results of hosted tools: those in seals, and those in items of MCP calls."""


@final
class Message(Struct, frozen=True):
    """A message; `path` is its path in the request."""

    role: Literal["user", "assistant", "system", "developer"]
    content: items.Content
    path: str


@final
class Call(Struct, frozen=True):
    """A function call; `arguments` is meant to be JSON text, but clients may have damaged it."""

    call_id: str
    name: str
    arguments: str
    path: str


class Result(Struct, frozen=True):
    """The output of a call; raw text is a JSON string. `noun` names the item in errors."""

    call_id: str
    content: items.Content | Raw
    noun: str
    path: str

    @property
    def is_hosted(self) -> bool:
        """Whether it is that of a hosted tool."""
        return self.noun in (HOSTED_OUTPUT, MCP_OUTPUT)


class Awaited(Result, frozen=True):
    """The output of a call that waited for an approval, until it is known what became of it."""

    approval: str


InputItem = Message | Thought | Call | Result
