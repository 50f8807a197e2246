"""A check that the undocumented attributes of a library exist.

A module that uses some lists them in one table. Where one is missing, the service does without what
needs it and logs one warning, instead of failing each request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from types import FunctionType

log = logging.getLogger(__name__)


def missing_attributes(needs: Mapping[type, str]) -> tuple[str, ...]:
    """Those of `needs` (names by class) that a class neither has nor uses, as "Class.name"."""
    return tuple(
        f"{owner.__name__}.{name}"
        for owner, names in needs.items()
        for name in names.split()
        if not _has(owner, name)
    )


def _has(owner: type, name: str) -> bool:
    """An attribute of instances is known by the methods that set or read it."""
    return hasattr(owner, name) or any(
        name in method.__code__.co_names
        for ancestor in owner.__mro__
        for method in vars(ancestor).values()
        if isinstance(method, FunctionType)
    )


@cache
def warn_once(library: str, missing: tuple[str, ...], consequence: str) -> None:
    """Log what is `missing` of a library, and what follows."""
    log.warning("this version of %s has no %s: %s", library, ", ".join(missing), consequence)
