"""Which connection gives way, and when: the bookkeeping alone."""

from __future__ import annotations

import asyncio

import pytest

from translator.service.config.settings import Server
from translator.service.server import connections
from translator.service.server.connections import MAX_REFUSED, MAX_TOLD, Connections

pytestmark = pytest.mark.anyio


class Fake:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        self.counts = False
        self.told: list[str] = []
        self.unread = False

    def has_unread(self) -> bool:
        return self.unread

    def give_way(self) -> None:
        self.told.append("give way")

    def header_is_late(self) -> None:
        self.told.append("late")

    def refuse(self) -> None:
        self.told.append("refuse")


def opened(all_of_them: Connections, count: int = 1) -> list[Fake]:
    made = [Fake() for _ in range(count)]
    for one in made:
        all_of_them.opened(one, {})
    return made


def busy(all_of_them: Connections, count: int) -> list[Fake]:
    made = opened(all_of_them, count)
    for one in made:
        assert all_of_them.admits(one)
        all_of_them.is_busy(one)
    return made


async def test_idle_ones_give_way_in_their_order_but_not_with_a_request_on_its_way() -> None:
    known = Connections(Server(max_connections=3))
    first, second, third = busy(known, 3)
    for one in (second, first, third):
        known.is_idle(one)
    second.unread = True
    [new] = opened(known)
    assert known.admits(new)
    assert [one.told for one in (first, second, third)] == [["give way"], [], []]


async def test_a_request_takes_the_place_of_one_that_has_none_and_that_may_still_be_told() -> None:
    known = Connections(Server(max_connections=2))
    silent, _ = opened(known, 2)
    [new] = opened(known)
    assert not new.counts
    assert known.admits(new)
    assert (new.counts, silent.counts, silent.told) == (True, False, [])
    known.is_busy(new)
    known.closed(new)
    assert known.admits(silent)  # whose request comes late


async def test_who_is_refused_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REFUSE_S", 0.02)
    known = Connections(Server(max_connections=1))
    busy(known, 1)
    waits, probes = opened(known, 2)
    assert not known.admits(probes)
    known.lingers(probes)  # it is served all the same
    assert not known.admits(probes)
    await asyncio.sleep(0.1)
    assert (waits.told, probes.told) == (["refuse"], [])


async def test_of_those_who_are_refused_few_are_kept() -> None:
    known = Connections(Server(max_connections=1))
    busy(known, 1)
    waiting = opened(known, MAX_REFUSED + 3)
    assert [len(one.told) for one in waiting] == [1] * 3 + [0] * MAX_REFUSED
    assert known.room_for_refusals == 0
    told = opened(known, MAX_TOLD + 3)
    for one in told:
        known.lingers(one)
    assert [one.told[-1:] == ["give way"] for one in told] == [True] * 3 + [False] * MAX_TOLD
    for one in told:
        known.closed(one)
    assert known.room_for_refusals > 0


async def test_without_descriptors_those_of_least_use_are_closed_first() -> None:
    known = Connections(Server(max_connections=3))
    [idle] = busy(known, 1)
    known.is_idle(idle)
    busy(known, 2)
    refused = Fake()
    idle.unread = True
    known.opened(refused, {})
    idle.unread = False
    [told] = busy_and_lingering(known)
    for expected in (told, refused, idle):
        assert known.out_of_descriptors()
        assert len(expected.told) == 1
        known.closed(expected)
    assert not known.out_of_descriptors()


def busy_and_lingering(known: Connections) -> list[Fake]:
    told = Fake()
    known.lingers(told)
    return [told]


async def test_a_header_has_one_limit_from_its_first_byte() -> None:
    known = Connections(Server(client_timeout_s=0.05))
    early, late, fine = opened(known, 3)
    known.is_busy(fine)
    await asyncio.sleep(0.03)
    known.awaits_header(early)  # more of it, which does not count
    known.is_busy(late)
    known.awaits_header(late)  # the next one, which does
    await asyncio.sleep(0.03)
    assert early.told == ["late"]
    await asyncio.sleep(0.1)
    assert (late.told, fine.told) == (["late"], [])
