"""Work in slices: others have their turn at each pause, and one piece of work runs at a time."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable

import pytest

from translator.common.pauses import Pause
from translator.service.turns import slices
from translator.service.turns.slices import Slices

from .wire import bounded

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def each_pause_ends_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)


def steps(name: str, count: int, log: list[str]) -> Callable[[Pause], str]:
    """Work of so many steps, each of which is logged."""

    def work(pause: Pause) -> str:
        for number in range(count):
            log.append(f"{name}{number}")
            pause()
        return name

    return work


async def turns(log: list[str]) -> None:
    """Log each turn of the event loop."""
    while True:
        log.append("-")
        await asyncio.sleep(0)


async def test_others_have_a_turn_at_each_pause() -> None:
    log: list[str] = []
    others = asyncio.create_task(turns(log))
    assert await bounded(Slices().run(steps("a", 50, log))) == "a"
    others.cancel()
    places = [log.index(f"a{number}") for number in range(50)]
    assert all("-" in log[one:other] for one, other in itertools.pairwise(places))


async def test_the_work_runs_only_while_the_loop_waits_for_it() -> None:
    running: list[str] = []
    seen: list[list[str]] = []

    def work(pause: Pause) -> None:
        for _ in range(50):
            running.append("work")
            assert threading.current_thread() is not threading.main_thread()
            running.pop()
            pause()

    async def look() -> None:
        while True:
            seen.append(list(running))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await bounded(Slices().run(work))
    looking.cancel()
    assert len(seen) >= 50
    assert not any(seen)


async def test_without_a_pause_that_is_due_it_is_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 1000.0)
    log: list[str] = []
    others = asyncio.create_task(turns(log))
    await bounded(Slices().run(steps("a", 50, log)))
    others.cancel()
    places = [log.index(f"a{number}") for number in range(50)]
    assert places == list(range(places[0], places[0] + 50))


async def test_what_the_work_raises_is_raised() -> None:
    def work(pause: Pause) -> None:
        pause()
        raise KeyError("x")

    run = Slices()
    with pytest.raises(KeyError, match="x"):
        await bounded(run.run(work))
    assert await bounded(run.run(steps("a", 2, []))) == "a"


async def test_one_piece_of_work_at_a_time_in_order() -> None:
    log: list[str] = []
    run = Slices()
    works = [run.run(steps(name, 5, log)) for name in "abc"]
    assert await bounded(asyncio.gather(*works)) == ["a", "b", "c"]
    assert log == [f"{name}{number}" for name in "abc" for number in range(5)]


async def test_cancelled_it_ends_at_the_next_pause() -> None:
    log: list[str] = []
    run = Slices()

    def work(pause: Pause) -> None:
        try:
            steps("a", 1_000_000, log)(pause)
        finally:
            log.append("unwound")

    before = threading.active_count()
    first = asyncio.create_task(run.run(work))
    second = asyncio.create_task(run.run(steps("b", 2, log)))
    while len(log) < 10:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    assert first.cancelled()
    assert await bounded(second) == "b"
    assert log[-3:] == ["unwound", "b0", "b1"]
    assert len(log) < 20
    assert threading.active_count() == before


async def test_cancelled_while_it_waits_it_never_begins() -> None:
    log: list[str] = []
    run = Slices()
    first = asyncio.create_task(run.run(steps("a", 50, log)))
    second = asyncio.create_task(run.run(steps("b", 50, log)))
    while len(log) < 10:
        await asyncio.sleep(0)
    second.cancel()
    assert await bounded(first) == "a"
    await asyncio.wait((second,))
    assert second.cancelled()
    assert not any(one.startswith("b") for one in log)


async def test_without_a_thread_it_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    log: list[str] = []
    assert await bounded(Slices().run(steps("a", 5, log))) == "a"
    assert len(log) == 5
