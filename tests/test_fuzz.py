"""The targets of `make fuzz`, for some seconds: on each seed, and on a fixed set of mutations."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.corpus import seeds
from fuzz.draws import Draws
from fuzz.targets import TARGETS, calls, request, sse
from translator.reader import native_calls
from translator.reader.call_assembler import CallAssembler
from translator.reader.from_chat import ChatReader

SEEDS = {name: seeds(name) for name in TARGETS}
MUTATIONS = 250
"""Mutations for each target: a second or two."""

WORDS = [b"data: ", b"\n\n", b"\r", b"[DONE]", b"\xff", b'"', b"\\", b"\\ud83d", b"null", b"[", b"}", b"1e999", b"{}", b""]  # fmt: skip


def test_there_are_seeds_of_each_kind() -> None:
    assert all(len(found) > 50 for found in SEEDS.values()), {k: len(v) for k, v in SEEDS.items()}


def test_make_fuzz_runs_every_target() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    [line] = [line for line in makefile.splitlines() if line.startswith("FUZZ_TARGETS := ")]
    assert line.split()[2:] == list(TARGETS)


@pytest.mark.parametrize("name", ["sse", "request", "calls"])
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


def last_call(assembler: CallAssembler, *_: object) -> Any:
    """Fragments go to the last call, whatever they say."""
    return assembler._calls[-1] if assembler._calls else None


def one_value(*given: Any) -> Any:
    yield from list(VALUES(*given))[:1]


VALUES = native_calls._all

TIDY, NATIVE = 0, 2
LOSSES: dict[str, tuple[int, Any, str, Any]] = {
    "which call": (TIDY, CallAssembler, "_known", last_call),
    "half characters": (TIDY, ChatReader, "_with_whole_characters", lambda _, delta: delta),
    "values in text": (NATIVE, native_calls, "_all", one_value),
    "calls in text": (NATIVE, native_calls, "_SECTIONS", native_calls._SECTIONS[:1]),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_call_that_comes_back_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    kind, *change = LOSSES[loss]
    monkeypatch.setattr(*change)
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        for seed in SEEDS["calls"]:
            if seed[0] == kind:
                calls(seed)


@settings(max_examples=50)
@given(st.binary(max_size=40), st.text(max_size=12))
def test_choices_follow_from_bytes_and_never_end(data: bytes, text: str) -> None:
    """The same bytes give the same choices, and slices of a text are the text."""
    first, again = Draws(data), Draws(data)
    for draws in (first, again):
        draws.number(300)
    parts = first.slices(text, 4)
    assert parts == again.slices(text, 4)
    joined = "".join(parts).encode("utf-16-le", "surrogatepass")
    assert joined.decode("utf-16-le") == text
    while first.left:
        assert 0 <= first.number(7) < 7
    assert first.pick("abc") == "a"
    assert not first.flag()
    assert not first.rarely()
