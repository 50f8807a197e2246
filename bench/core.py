"""The core alone, bytes to bytes: what a chunk costs, and whether that depends on how many came.

    python -m bench.core [--quick]

The yardstick beside each kind is `json.loads` and `json.dumps` of the same chunk: what a program
pays that decodes and encodes it, and does nothing else.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence

import translator

from .bodies import KINDS, frame, request, stream
from .section import Section, table
from .timing import best_of, seconds

CHUNKS = 20_000
ROUNDS = 7
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)

_REQUEST = request(8_000)


def translate(pieces: Sequence[bytes]) -> int:
    """Pieces of an upstream's body to the bytes of events; how many bytes."""
    count = itertools.count(1)
    translation = translator.Translation(
        _REQUEST,
        dialect="fireworks",
        response_id="resp_1",
        created_at=1,
        new_id=lambda prefix: f"{prefix}{next(count)}",
    )
    encode = translator.encode_sse
    written = 0
    for piece in pieces:
        written += len(b"".join(map(encode, translation.receive(piece))))
    return written + len(b"".join(map(encode, translation.close())))


def decode_and_encode(pieces: Sequence[bytes]) -> None:
    """The yardstick."""
    for piece in pieces:
        if piece != b"data: [DONE]\n\n":
            json.dumps(json.loads(piece[6:])).encode()


def kinds(rounds: int) -> Section:
    """What one chunk of each kind costs."""
    rows: list[tuple[str, ...]] = []
    facts: dict[tuple[str, str], float] = {}
    for kind in KINDS:
        pieces = list(stream(kind, CHUNKS))
        size = sum(map(len, pieces))
        one_read = [b"".join(pieces[n : n + 16]) for n in range(0, len(pieces), 16)]
        best = best_of(
            rounds,
            {
                "alone": lambda pieces=pieces: seconds(lambda: translate(pieces)),
                "sixteen": lambda pieces=one_read: seconds(lambda: translate(pieces)),
                "json": lambda pieces=pieces: seconds(lambda: decode_and_encode(pieces)),
            },
        )
        per_chunk = {name: value / len(pieces) * 1e6 for name, value in best.items()}
        facts["us_per_chunk", kind] = per_chunk["alone"]
        rows.append(
            (
                kind,
                f"{per_chunk['alone']:.2f}",
                f"{per_chunk['sixteen']:.2f}",
                f"{size / best['alone'] / 1e6:.0f}",
                f"{per_chunk['json']:.2f}",
                f"{per_chunk['alone'] / per_chunk['json']:.2f}",
            )
        )
    head = ("chunks of", "µs", "µs, 16 in a read", "MB/s", "json µs", "ratio")
    return Section(
        title="The core alone, bytes to bytes",
        table=table(head, rows),
        remarks=[
            f"A chunk is {len(frame({'content': 'words '}))} bytes; CPU time, best of {rounds} "
            "rounds. json is `json.loads` and `json.dumps` of the same chunk."
        ],
        facts=facts,
    )


def growth(lengths: Sequence[int]) -> Section:
    """What a chunk costs in streams of other lengths."""
    rows: list[tuple[str, ...]] = []
    first: dict[str, float] = {}
    for length in lengths:
        row = [f"{length:,}"]
        for kind in KINDS:
            pieces = list(stream(kind, length))
            rounds = 1 if length > 100_000 else 3
            best = min(seconds(lambda: translate(pieces)) for _ in range(rounds))  # noqa: B023
            cost = best / len(pieces) * 1e6
            row.append(f"{cost:.2f} ({cost / first.setdefault(kind, cost):.2f})")
        rows.append(tuple(row))
    return Section(
        title="The core's law of growth: µs per chunk in a stream of so many",
        table=table(("chunks", *(f"{kind} (× the shortest)" for kind in KINDS)), rows),
    )


def sections(*, quick: bool) -> Iterator[Section]:
    yield kinds(2 if quick else ROUNDS)
    yield growth(LENGTHS[:3] if quick else LENGTHS)


if __name__ == "__main__":
    for section in sections(quick="--quick" in sys.argv):
        print(section.markdown(), end="", flush=True)
