"""The light queue and event do what those of the standard library do."""

from __future__ import annotations

import asyncio
import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translator.service.base.light import LightEvent, LightQueue

ENDS = st.lists(st.sampled_from(["append", "appendleft", "pop", "popleft", "clear"]), max_size=30)


@given(ENDS)
def test_a_queue_is_a_deque(steps: list[str]) -> None:
    light, usual = LightQueue[int](), deque[int]()
    for number, step in enumerate(steps):
        if step.startswith("append"):
            assert getattr(light, step)(number) == getattr(usual, step)(number)
        elif usual or step == "clear":
            assert getattr(light, step)() == getattr(usual, step)()
        else:
            with pytest.raises(IndexError):
                getattr(light, step)()
        assert (list(light), len(light), bool(light)) == (list(usual), len(usual), bool(usual))


@given(st.lists(st.sampled_from(["set", "clear", "wait", "cancel", "turn"]), max_size=30))
def test_an_event_is_one_of_asyncio(steps: list[str]) -> None:
    async def told(event: asyncio.Event | LightEvent) -> list[object]:
        waiting: list[asyncio.Task[object]] = []
        found: list[object] = []
        for step in steps:
            if step == "wait":
                waiting.append(asyncio.create_task(event.wait()))
            elif step == "cancel" and waiting:
                waiting[len(waiting) // 2].cancel()
            elif step == "turn":
                await asyncio.sleep(0)
            elif step in ("set", "clear"):
                getattr(event, step)()
            found += [event.is_set(), *(task.done() for task in waiting)]
        for task in waiting:
            task.cancel()
        found += await asyncio.gather(*waiting, return_exceptions=True)
        return [repr(one) for one in found]

    async def run() -> None:
        assert await told(LightEvent()) == await told(asyncio.Event())

    asyncio.run(run())


def test_an_event_may_be_set_from_the_start() -> None:
    assert LightEvent(is_set=True).is_set()
    assert asyncio.run(LightEvent(is_set=True).wait())


def test_both_are_small() -> None:
    assert sys.getsizeof(LightQueue()) * 5 < sys.getsizeof(deque())
    assert sys.getsizeof(LightEvent()) < 100
