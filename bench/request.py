"""Translation of a request: decode, translate, encode.

    python -m bench.request [--quick]

The yardsticks are `json.loads` and `json.dumps` of the same body, and LiteLLM's own translation of
it, called as a library.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import translator

from .bodies import requests
from .environments import installed
from .peers import LITELLM
from .section import Section, table
from .targets import ROOT, Unavailable
from .timing import milliseconds

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


def beside_json(rounds: int, body: bytes) -> dict[str, float]:
    """CPU milliseconds of each dialect, and of json, for a body."""
    ways: dict[str, Callable[[bytes], object]] = {
        dialect: lambda body, dialect=dialect: translate(body, dialect) for dialect in DIALECTS
    }
    return milliseconds(rounds, body, {**ways, "json": decode_and_encode})


def most_to_json(ms: Mapping[str, float]) -> float:
    """The slowest dialect, relative to json."""
    return max(ms[dialect] for dialect in DIALECTS) / ms["json"]


def litellm_ms(rounds: int) -> tuple[dict[str, float], str]:
    """LiteLLM's milliseconds for each body, or none and the reason."""
    try:
        python = installed(LITELLM) / "python"
    except Unavailable as reason:
        return {}, f"LiteLLM is left out: {reason}"
    done = subprocess.run(
        [str(python), "-m", "bench.litellm_request", str(rounds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {}, f"LiteLLM is left out: {done.stderr.strip()[-300:]}"
    return json.loads(done.stdout.splitlines()[-1]), ""


def sections(*, quick: bool) -> Iterator[Section]:
    rounds = 2 if quick else ROUNDS
    theirs, missing = litellm_ms(max(1, rounds // 2))
    rows: list[tuple[str, ...]] = []
    facts: dict[tuple[str, str], float] = {}
    for name, body in requests().items():
        ms = beside_json(rounds, body)
        ratios = [ms[dialect] / ms["json"] for dialect in DIALECTS]
        facts["request_to_json", name] = most_to_json(ms)
        rows.append(
            (
                name,
                *(f"{ms[dialect]:.2f}" for dialect in DIALECTS),
                f"{ms['json']:.2f}",
                *(f"{ratio:.2f}" for ratio in ratios),
                f"{theirs[name]:.2f}" if name in theirs else "–",
                f"{theirs[name] / ms[DIALECTS[0]]:.0f}" if name in theirs else "–",
            )
        )
    head = (
        "body",
        *(f"{dialect}, ms" for dialect in DIALECTS),
        "json, ms",
        *(f"{dialect} / json" for dialect in DIALECTS),
        "LiteLLM, ms",
        f"LiteLLM / {DIALECTS[0]}",
    )
    yield Section(
        title="Translation of a request: decode, translate, encode",
        table=table(head, rows),
        remarks=[
            f"CPU time, best of {rounds} rounds. json is `json.loads` and `json.dumps` of the same "
            f"body, LiteLLM ({LITELLM.rpartition('=')[2]}) its translation between the two.",
            *([missing] if missing else []),
        ],
        facts=facts,
    )


if __name__ == "__main__":
    for section in sections(quick="--quick" in sys.argv):
        print(section.markdown(), end="", flush=True)
