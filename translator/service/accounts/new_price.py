"""What a price must say before it is set: by command, by form or by JSON."""

from __future__ import annotations

from collections.abc import Collection

from .books import Mistake
from .tools import is_priced_name


def check_given(model: str, given: Collection[str], *, free: bool) -> None:
    """Check which figures of a price are given: one that is left out is not 0. Raises Mistake."""
    if free:
        return
    if is_priced_name(model):
        if "per_request" not in given:
            raise Mistake("a call of a tool has a price per request, or is free")
    elif not {"input", "output"} <= set(given):
        raise Mistake("a price has an input and an output, or is free")
