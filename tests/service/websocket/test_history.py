"""What the conversations of all WebSockets hold together."""

from __future__ import annotations

from msgspec import Raw

from translator.service.http.history import Histories, History, Link


def items(size: int) -> list[Raw]:
    return [Raw(b"x" * size)]


def kept(history: History, *names: str) -> list[str]:
    return [name for name in names if history.recall(name) is not None]


def test_a_shared_beginning_counts_once() -> None:
    histories = Histories(1000)
    history = histories.begin(1000)
    first = Link(None, items(100), None)
    history.keep("a", first)
    history.keep("b", Link(first, items(10), None))
    history.keep("c", Link(first, items(20), None))
    assert histories.size == history.size == 130
    history.forget("b")
    assert histories.size == history.size == 120


def test_the_largest_gives_way_with_its_oldest_response() -> None:
    histories = Histories(1000)
    small, large = histories.begin(1000), histories.begin(1000)
    small.keep("s", Link(None, items(300), None))
    for name in "abc":
        large.keep(name, Link(None, items(200), None))
    assert histories.size == 900
    small.keep("t", Link(None, items(150), None))
    assert kept(small, "s", "t") == ["s", "t"]
    assert kept(large, "a", "b", "c") == ["b", "c"]
    assert histories.size == 850
    large.keep("d", Link(None, items(700), None))
    assert kept(large, "b", "c", "d") == []
    assert histories.size == small.size == 450


def test_a_closed_connection_holds_nothing() -> None:
    histories = Histories(1000)
    history, other = histories.begin(1000), histories.begin(1000)
    history.keep("a", Link(None, items(600), None))
    history.close()
    assert histories.size == 0
    other.keep("b", Link(None, items(900), None))
    assert kept(other, "b") == ["b"]
