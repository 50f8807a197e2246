"""The service beside its peers in one run: CPU time per token, capacity, latency, memory.

    python -m bench.service [--quick] [--only WORD ...]

Rounds are interleaved: each scenario measures every target once per round, and the best round
counts. CPU time is what the scheduler accounts to the target and its descendants.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from .footprint import footprint
from .pace import capacity, flat_out, own_limits, steady
from .peers import peers
from .rig import QUICK, THOROUGH, rig
from .section import Section, table
from .targets import nginx, translator
from .waits import large_requests, short_requests, workers


def sections(*, quick: bool, only: Sequence[str] = ()) -> Iterator[Section]:
    """The report, section by section as each is measured."""
    targets = [
        target
        for target in (translator(), nginx(), *peers())
        if not only or any(word in target.name for word in only)
    ]
    with rig(targets, QUICK if quick else THOROUGH) as rigged:
        there = [running.target for running in rigged.running]
        yield Section(
            title="Targets measured",
            table=table(("", "version"), [(one.name, one.version()) for one in there]),
            remarks=rigged.left_out,
        )
        yield short_requests(rigged)
        yield flat_out(rigged)
        for streams in (5, 200) if quick else (5, 50, 200, 500):
            yield steady(rigged, streams)
        yield capacity(rigged)
        yield large_requests(rigged)
        yield footprint(rigged, there)
        yield own_limits(rigged)
        added = workers(rigged)
        if added is not None:
            yield added


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--only", nargs="*", default=[], help="targets whose name holds a word")
    options = parser.parse_args()
    for section in sections(quick=options.quick, only=options.only):
        print(section.markdown(), end="", flush=True)
