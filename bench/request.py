"""A request's way out: decode, translate, encode.

    python -m bench.request

The yardstick is `json.loads` and `json.dumps` of the same body.
"""

from __future__ import annotations

import itertools
import json

import translator

from .bodies import request
from .timing import best_of, seconds, table

BODIES = {
    "40 KB": request(40_000),
    "200 KB": request(200_000),
    "1 MB": request(1_000_000),
    "4 MB": request(4_000_000),
    "4 MB, 3 of it a screenshot": request(4_000_000, image_share=0.75),
}
ROUNDS = 7
DIALECTS = ("fireworks", "deepseek")


def translate(body: bytes, dialect: str) -> bytes:
    count = itertools.count(1)
    return translator.Translation(
        body,
        dialect=dialect,
        response_id="resp_1",
        created_at=1,
        new_id=lambda prefix: f"{prefix}{next(count)}",
    ).chat_body


def decode_and_encode(body: bytes) -> bytes:
    return json.dumps(json.loads(body)).encode()


def report() -> str:
    rows: list[tuple[str, ...]] = []
    for name, body in BODIES.items():
        repeat = max(1, 4_000_000 // len(body))
        candidates = {
            dialect: lambda body=body, dialect=dialect, repeat=repeat: seconds(
                lambda: [translate(body, dialect) for _ in range(repeat)]
            )
            for dialect in DIALECTS
        }
        candidates["json"] = lambda body=body, repeat=repeat: seconds(
            lambda: [decode_and_encode(body) for _ in range(repeat)]
        )
        best = best_of(ROUNDS, candidates)
        ms = {name: value / repeat * 1e3 for name, value in best.items()}
        rows.append(
            (
                name,
                *(f"{ms[dialect]:.2f}" for dialect in DIALECTS),
                f"{ms['json']:.2f}",
                *(f"{ms[dialect] / ms['json']:.2f}" for dialect in DIALECTS),
            )
        )
    head = ("body", *(f"{d}, ms" for d in DIALECTS), "json, ms", *(f"{d}, ratio" for d in DIALECTS))
    return table(head, rows)


if __name__ == "__main__":
    print(report())
