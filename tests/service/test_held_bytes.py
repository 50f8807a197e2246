"""Which answer ends when all of them hold too much."""

from __future__ import annotations

import pytest

from translator.service.turns.held import HeldAnswer, HeldBytes
from translator.wire.errors import AnswerTooLarge


def opened(held: HeldBytes, stopped: list[HeldAnswer]) -> HeldAnswer:
    answer = held.answer().__enter__()
    answer.stop = lambda _error: stopped.append(answer)
    return answer


def test_only_the_largest_ends_however_long_it_takes() -> None:
    """It counts no more from then on, so no other one ends for what it still holds."""
    held, stopped = HeldBytes(1000), list[HeldAnswer]()
    large, *small = (opened(held, stopped) for _ in range(4))
    large.account(700)
    for answer in small:
        answer.account(150)
    assert stopped == [large]
    assert held.total == 450
    with pytest.raises(AnswerTooLarge):
        large.account(800)
    assert held.total == 450
    large.__exit__(None, None, None)
    assert held.total == 450
    for answer in small:
        answer.__exit__(None, None, None)
    assert held.total == 0


def test_the_one_that_grows_may_be_the_largest() -> None:
    held, stopped = HeldBytes(1000), list[HeldAnswer]()
    one, other = opened(held, stopped), opened(held, stopped)
    other.account(400)
    one.account(500)
    with pytest.raises(AnswerTooLarge):
        one.account(700)
    assert stopped == []
    assert held.total == 400


def test_an_answer_may_begin_again() -> None:
    """Another attempt begins where the first one has ended."""
    held, stopped = HeldBytes(1000), list[HeldAnswer]()
    answer = opened(held, stopped)
    answer.account(600)
    answer.__exit__(None, None, None)
    answer.__enter__()
    answer.account(600)
    assert held.total == 600
