"""What is read of an answer that passes, to charge its client."""

from __future__ import annotations

import json

import pytest

from translator.service.access.token_meter import MAX_TAIL_BYTES, TokenMeter

from .clients import (
    USAGE,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_usage_is_found_however_the_answer_is_cut(size: int) -> None:
    text = json.dumps({"content": 'a "usage": {"total_tokens": 9} b', "usage": USAGE}).encode()
    tally = TokenMeter()
    for start in range(0, len(text), size):
        tally.add(text[start : start + size])
    assert tally.total == 50


def test_what_a_model_says_of_usage_is_not_believed() -> None:
    tally = TokenMeter()
    tally.add(json.dumps({"content": '"usage": {"total_tokens": 9}'}).encode())
    assert tally.total is None


def test_only_the_end_of_an_answer_is_kept() -> None:
    tally = TokenMeter()
    for _ in range(100):
        tally.add(b"data: x\n" * 2048)
        assert len(tally._tail) <= 2 * MAX_TAIL_BYTES + 16384
    tally.add(json.dumps({"usage": USAGE}).encode())
    assert tally.total == 50
    assert tally.events == 204_800
