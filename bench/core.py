"""CPU time of the core per chunk, bytes to bytes, and how it grows with the stream.

    python -m bench.core [--quick]

The yardstick beside each kind is `json.loads` and `json.dumps` of the same chunk: the cost of a
program that decodes and encodes it, and does nothing else.
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
READ_BYTES = 65536
ROUNDS = 7
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)

_REQUEST = request(8_000)


def translate(chunks: Sequence[bytes]) -> int:
    """Translate the chunks of an upstream's body; the number of bytes written."""
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
    for chunk in chunks:
        written += len(b"".join(map(encode, translation.receive(chunk))))
    return written + len(b"".join(map(encode, translation.close())))


def in_reads(chunks: Sequence[bytes], size: int = READ_BYTES) -> list[bytes]:
    """The same bytes as an upstream ahead of us gives them: full reads, cut anywhere."""
    body = b"".join(chunks)
    return [body[place : place + size] for place in range(0, len(body), size)]


def decode_and_encode(chunks: Sequence[bytes]) -> None:
    """The yardstick."""
    for chunk in chunks:
        if chunk != b"data: [DONE]\n\n":
            json.dumps(json.loads(chunk[6:])).encode()


def kinds(rounds: int, names: Sequence[str] = KINDS) -> Section:
    """CPU time per chunk of each kind."""
    rows: list[tuple[str, ...]] = []
    facts: dict[tuple[str, str], float] = {}
    for kind in names:
        chunks = list(stream(kind, CHUNKS))
        size = sum(map(len, chunks))
        one_read = [b"".join(chunks[n : n + 16]) for n in range(0, len(chunks), 16)]
        full_reads = in_reads(chunks)
        best = best_of(
            rounds,
            {
                "alone": lambda chunks=chunks: seconds(lambda: translate(chunks)),
                "sixteen": lambda chunks=one_read: seconds(lambda: translate(chunks)),
                "full": lambda chunks=full_reads: seconds(lambda: translate(chunks)),
                "json": lambda chunks=chunks: seconds(lambda: decode_and_encode(chunks)),
            },
        )
        per_chunk = {name: value / len(chunks) * 1e6 for name, value in best.items()}
        facts["us_per_chunk", kind] = per_chunk["alone"]
        rows.append(
            (
                kind,
                f"{per_chunk['alone']:.2f}",
                f"{per_chunk['sixteen']:.2f}",
                f"{per_chunk['full']:.2f}",
                f"{size / best['alone'] / 1e6:.0f}",
                f"{per_chunk['json']:.2f}",
                f"{per_chunk['alone'] / per_chunk['json']:.2f}",
            )
        )
    head = (
        "chunks of",
        "µs",
        "µs, 16 in a read",
        "µs, reads of 64 KiB",
        "MB/s",
        "json µs",
        "ratio",
    )
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
    """CPU time per chunk in streams of several lengths."""
    rows: list[tuple[str, ...]] = []
    first: dict[str, float] = {}
    for length in lengths:
        row = [f"{length:,}"]
        for kind in KINDS:
            chunks = list(stream(kind, length))
            rounds = 1 if length > 100_000 else 3
            best = min(seconds(lambda: translate(chunks)) for _ in range(rounds))  # noqa: B023
            cost = best / len(chunks) * 1e6
            row.append(f"{cost:.2f} ({cost / first.setdefault(kind, cost):.2f})")
        rows.append(tuple(row))
    return Section(
        title="Growth of the core: µs per chunk by the length of the stream",
        table=table(("chunks", *(f"{kind} (× the shortest)" for kind in KINDS)), rows),
    )


def sections(*, quick: bool) -> Iterator[Section]:
    yield kinds(2 if quick else ROUNDS)
    yield growth(LENGTHS[:3] if quick else LENGTHS)


if __name__ == "__main__":
    for section in sections(quick="--quick" in sys.argv):
        print(section.markdown(), end="", flush=True)
