"""Lazily compiled regular expressions, for grammars that most processes never need.

    lazy_pattern(source)  ──► first use, or compile_lazy_patterns() ──►  re.compile(source)

The words in which upstreams refuse requests, and report errors, take more time to compile than the
rest of the core takes to import. A process that meets no error never needs them.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, AnyStr, cast

_pending: list[_LazyPattern] = []


def lazy_pattern(source: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """A pattern that is compiled when an attribute of it is first used; only for module level.

    It is no instance of `re.Pattern`, but has all that one has. An invalid `source` raises
    re.error there, not here: `compile_lazy_patterns` finds it.
    """
    lazy = _LazyPattern(source, flags)
    _pending.append(lazy)
    return cast("re.Pattern[AnyStr]", lazy)


def compile_lazy_patterns() -> None:
    """Compile all lazy patterns that are not compiled yet; another thread may use them meanwhile.

    They come one by one: a thread that does this lets others run in between.
    """
    while _pending:
        assert _pending.pop().compiled


class _LazyPattern:
    """Stands for a compiled pattern; an attribute that has been used once is found at once."""

    def __init__(self, source: str | bytes, flags: int) -> None:
        self._arguments = source, flags

    @cached_property
    def compiled(self) -> re.Pattern[Any]:
        source, flags = self._arguments
        return re.compile(source, flags)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a pattern has
        """An attribute of the pattern; called only while this object does not have it itself."""
        if name.startswith("_"):  # asked for by copies, before there are arguments
            raise AttributeError(name)
        found = getattr(self.compiled, name)
        setattr(self, name, found)
        return found
