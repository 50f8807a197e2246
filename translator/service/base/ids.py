"""Ids: how they are made, and what makes them in tests."""

from __future__ import annotations

import secrets
from typing import Protocol


class NewId(Protocol):
    """Makes an unguessable id that begins with `prefix`."""

    def __call__(self, prefix: str, /) -> str: ...


def random_id(prefix: str) -> str:
    """An id that cannot be guessed: 128 random bits."""
    return prefix + secrets.token_hex(16)
