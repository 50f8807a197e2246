"""Random ids, and the protocol by which tests replace them."""

from __future__ import annotations

import os
from typing import Protocol


class NewId(Protocol):
    """Returns an unguessable id that begins with `prefix`."""

    def __call__(self, prefix: str, /) -> str: ...


def random_id(prefix: str) -> str:
    """An id of 128 random bits."""
    return prefix + os.urandom(16).hex()
