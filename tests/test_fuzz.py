"""The targets of `make fuzz`, for some seconds: on each seed, and on a fixed set of mutations."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.corpus import seeds
from fuzz.targets import TARGETS, request, sse

SEEDS = {name: seeds(name) for name in TARGETS}
MUTATIONS = 250
"""Mutations for each target: a second or two."""

WORDS = [b"data: ", b"\n\n", b"\r", b"[DONE]", b"\xff", b'"', b"\\", b"\\ud83d", b"null", b"[", b"}", b"1e999", b"{}", b""]  # fmt: skip


def test_there_are_seeds_of_each_kind() -> None:
    assert all(len(found) > 50 for found in SEEDS.values()), {k: len(v) for k, v in SEEDS.items()}


@pytest.mark.parametrize("name", ["sse", "request"])
def test_every_seed_keeps_the_rules(name: str) -> None:
    """The seeds of `receive` are fixtures, and tested there."""
    for seed in SEEDS[name]:
        TARGETS[name](seed)


def mutate(chance: random.Random, seed: bytes, others: list[bytes]) -> bytes:
    """A few random changes: a word, a byte, a repeated slice, or the rest of another seed."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.choice((0, 1, 1, 4, 40)))
        match chance.randint(0, 3):
            case 0:
                data[start:end] = chance.choice(WORDS)
            case 1:
                data[start:end] = bytes([chance.randint(0, 255)])
            case 2:
                data[start:start] = data[start:end]
            case _:
                other = chance.choice(others)
                data[start:] = other[chance.randint(0, len(other)) :]
    return bytes(data)


@pytest.mark.parametrize(("name", "target"), TARGETS.items(), ids=TARGETS)
def test_mutated_seeds_keep_the_rules(name: str, target: Callable[[bytes], None]) -> None:
    chance = random.Random(f"{name} 1")
    for _ in range(MUTATIONS):
        data = mutate(chance, chance.choice(SEEDS[name]), SEEDS[name])
        try:
            target(data)
        except Exception as error:  # pragma: no cover - the input belongs in a test
            raise AssertionError(f"{name}: {data!r}") from error


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_keep_the_rules(data: bytes) -> None:
    sse(data)
    request(data)


def test_a_broken_rule_is_found() -> None:
    """The targets can fail: a decoder that loses a payload is found."""
    from fuzz import targets

    def lossy(pieces: object) -> tuple[list[bytes], str]:
        return ([b"x"] if isinstance(pieces, list) else []), ""

    original = targets._decoded
    targets._decoded = lossy
    try:
        with pytest.raises(AssertionError):
            sse(b"\x00data: x\n\n")
    finally:
        targets._decoded = original
