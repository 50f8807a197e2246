"""The service with options of its process: other allocators, huge pages, and Python's own.

    python -m bench options [--quick]

Options that need no change of the service. docs/operations.md has those that help.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from .pythons import beside_first
from .section import Section
from .targets import Target, Unavailable, translator, unpacked

USUAL = "as it is"


class Option(msgspec.Struct, frozen=True):
    """One way of starting the process."""

    name: str
    environ: Mapping[str, str] = {}
    words: Sequence[str] = ()
    """Options of Python."""

    package: str = ""
    """A package of Debian with a library that is loaded first."""


_MALLOC = {"PYTHONMALLOC": "malloc"}

OPTIONS = (
    Option("two arenas of malloc", {"MALLOC_ARENA_MAX": "2"}),
    Option("malloc for all objects", _MALLOC),
    Option("jemalloc", {}, package="libjemalloc2"),
    Option("jemalloc for all objects", _MALLOC, package="libjemalloc2"),
    Option("mimalloc for all objects", _MALLOC, package="libmimalloc2.0"),
    Option("huge pages of malloc", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
    Option("-OO", words=("-OO",)),
)


def target(option: Option) -> Target:
    """The service with an option; raises Unavailable for a library that cannot be had."""
    usual = translator(name=option.name)
    environ = dict(option.environ)
    if option.package:
        environ["LD_PRELOAD"] = str(library(option.package))

    def command(folder: Path, port: int, upstream: int) -> list[str]:
        program, *words = usual.command(folder, port, upstream)
        return [program, *option.words, *words]

    return msgspec.structs.replace(usual, command=command, environ=environ)


def library(package: str) -> Path:
    """The shared library of an unpacked package."""
    found = sorted(unpacked(package).rglob("lib*.so.*"))
    if not found:
        raise Unavailable(f"{package} has no library for {sys.platform}")
    return found[0]


def sections(*, quick: bool, only: Sequence[str] = ()) -> Iterator[Section]:
    """CPU time per token and per request, start and memory, as ratios to the usual way."""
    targets = [translator(name=USUAL)]
    remarks: list[str] = []
    for option in OPTIONS:
        if only and option.name not in only:
            continue
        try:
            targets.append(target(option))
        except Unavailable as reason:
            remarks.append(f"{option.name} is left out: {reason}")
    yield from beside_first(targets, quick=quick, remarks=remarks)
