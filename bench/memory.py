"""Memory of a stream that waits for its next token, beside programs that translate nothing.

    python -m bench memory [--commit REV ...]

`relay` and `passthrough` (bench/floor.py) say what uvloop alone takes, and what uvicorn and aiohttp
take with it before a request is read. What the service takes above them is its own.
"""

from __future__ import annotations

import compileall
from collections.abc import Iterator, Sequence

from .floor import floor, floors
from .footprint import compile_ours, memory_of
from .load import mock_upstream
from .revisions import commit, working_tree
from .scheduler import TARGET_CPU
from .section import Section, table
from .targets import ROOT, Target, started, translator
from .ways import revision_target

HEAD = ("", "MiB before", "KiB per stream", "above passthrough", "streams open")


def sections(*, commits: Sequence[str] = ()) -> Iterator[Section]:
    """One table; each target is measured once: bytes do not depend on what else the machine does.

    Raises Unavailable.
    """
    earlier = [commit(name) for name in commits]
    for one in (working_tree(), *earlier):
        compile_ours(one.folder)  # else what compiling leaves free is filled first
    compileall.compile_dir(ROOT / "bench", quiet=1)
    yield section([translator(), *map(revision_target, earlier), *floors()])


def section(targets: Sequence[Target]) -> Section:
    """The memory of each target; one of them must be the floor `passthrough`."""
    found: dict[str, tuple[int, float, int]] = {}
    for target in targets:
        with mock_upstream() as mock, started(target, mock.port, TARGET_CPU) as running:
            found[target.name] = memory_of(mock, running)
    _, least, _ = found[floor("passthrough").name]
    return Section(
        title="Memory of open streams that wait",
        table=table(
            HEAD,
            [
                (
                    name,
                    *(f"{before / 1024:.0f}", f"{each:.1f}", f"{each - least:+.1f}"),
                    f"{streams:,}",
                )
                for name, (before, each, streams) in found.items()
            ],
        ),
        remarks=["Memory is the private memory of the process, as the kernel counts it."],
        facts={("kib_per_stream", name): each for name, (_, each, _) in found.items()},
    )
