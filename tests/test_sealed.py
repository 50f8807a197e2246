"""Reasoning that travels through the client."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from translator.common import sealed
from translator.common.sealed import PREFIX, Thought, merge_details, seal, unseal


@given(st.text(), st.sampled_from(["reasoning_content", "reasoning"]))
def test_what_was_sealed_comes_out_word_for_word(text: str, field: str) -> None:
    thought = Thought(text, field, [{"type": "reasoning.encrypted", "data": "x"}])
    blob = seal(thought)
    assert blob is not None
    assert blob.isascii()
    assert unseal(blob) == thought


def test_what_is_signed_goes_only_to_its_maker() -> None:
    """The text is part of the conversation, and goes to anyone."""
    signed = Thought("Look.", "reasoning", [{"data": "x"}], {"": 1}, origin="up/a")
    blob = seal(signed)
    assert blob is not None
    assert unseal(blob) == signed
    assert signed.taken_by("up/a") is signed
    assert signed.taken_by(None) is signed
    assert signed.taken_by("up/b") == Thought("Look.", "reasoning", origin="up/a")
    unknown = Thought("Look.", "reasoning", [{"data": "x"}])
    assert unknown.taken_by("up/b") is unknown


def test_a_seal_without_an_origin_is_as_before() -> None:
    blob = seal(Thought("Look.", "reasoning"))
    assert blob is not None
    assert sealed.unpack(PREFIX, blob, 1000) == (
        b'{"text":"Look.","field":"reasoning","details":[],"extras":{}}'
    )


@pytest.mark.parametrize(
    "blob",
    [
        "",
        "gAAAAABforeign",
        PREFIX,
        PREFIX + "not base64!",
        PREFIX + base64.urlsafe_b64encode(b"not zlib").decode(),
        PREFIX + base64.urlsafe_b64encode(zlib.compress(b"not json")).decode(),
        PREFIX + base64.urlsafe_b64encode(zlib.compress(b"[1]")).decode(),
        PREFIX + base64.urlsafe_b64encode(zlib.compress(b'{"text":"a","field":"b"}')[:-3]).decode(),
        PREFIX + "é",
    ],
)
def test_what_was_not_sealed_here_is_nothing(blob: str) -> None:
    assert unseal(blob) is None


@given(st.integers(0, 200), st.binary(min_size=1, max_size=1))
def test_damage_shows(place: int, byte: bytes) -> None:
    blob = seal(Thought("a thought of some length, so that there is something to damage", "f"))
    assert blob is not None
    place = len(PREFIX) + place % (len(blob) - len(PREFIX))
    damaged = blob[:place] + byte.decode("latin-1") + blob[place + 1 :]
    opened = unseal(damaged)
    assert opened is None or damaged == blob or opened == unseal(blob)


def test_size_is_bounded_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = seal(Thought("a" * 1000, "f"))
    assert blob is not None
    monkeypatch.setattr(sealed, "MAX_REASONING_BYTES", 500)
    assert seal(Thought("a" * 1000, "f")) is None
    assert unseal(blob) is None, "a blob must not expand without end"


def test_fragments_of_details_become_the_entries_they_were_cut_from() -> None:
    pieces = [
        Raw(b'[{"type":"reasoning.text","text":"a","index":0,"format":null}]'),
        Raw(b'[{"type":"reasoning.text","text":"b","index":0,"signature":null}]'),
        Raw(b'[{"type":"reasoning.text","index":0,"signature":"sig"}]'),
        Raw(
            b'[{"type":"reasoning.encrypted","data":"x","index":1},{"type":"other"},{"type":"other"}]'
        ),
        Raw(b'[{"type":"other","index":2,"data":null},{"type":"other","index":2,"data":null}]'),
        Raw(b"[]"),
    ]
    assert merge_details(pieces) == [
        {"type": "reasoning.text", "text": "ab", "index": 0, "format": None, "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "x", "index": 1},
        {"type": "other"},
        {"type": "other"},
        {"type": "other", "index": 2, "data": None},
    ]
