"""Corpus: the seeds of each target, built from the fixtures; those of `calls` are drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

from .targets import DIALECTS

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
MAX_SEED_BYTES = 4096
"""Largest seed: mutations of a larger one rarely hit an interesting byte."""


DRAWN_SEEDS = 120
"""Seeds of `calls`: a third of each kind of answer."""


def seeds(target: str) -> list[bytes]:
    """The distinct seeds of a target, in a stable order."""
    makers = {"sse": _streams, "request": _requests, "receive": _answers, "calls": _choices}
    found = makers[target]()
    return sorted({seed for seed in found if len(seed) <= MAX_SEED_BYTES})


def write(target: str, folder: Path) -> None:
    """Write the seeds to a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds(target):
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def _streams() -> Iterator[bytes]:
    for path in FIXTURES.glob("*/*/upstream.sse"):
        yield b"\x00" + path.read_bytes()
        yield b"\x06" + path.read_bytes().replace(b"\n", b"\r\n")


def _requests() -> Iterator[bytes]:
    for path in FIXTURES.glob("*/*/request.json"):
        yield path.read_bytes()


def _answers() -> Iterator[bytes]:
    for path in FIXTURES.glob("*/*/upstream.*"):
        dialect = path.parts[-3]
        number = DIALECTS.index(dialect) if dialect in DIALECTS else 0
        body = path.read_bytes()
        if path.suffix == ".http":
            body = body.partition(b"\n\n")[2]
        yield bytes([number, 15]) + body


def _choices() -> Iterator[bytes]:
    for number in range(DRAWN_SEEDS):
        chance = random.Random(number)
        yield bytes([number % 3]) + chance.randbytes(chance.choice((20, 40, 80, 160)))
