"""The cache of descriptions: its bounds in memory, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from translator.service.turns import descriptions
from translator.service.turns.descriptions import Descriptions


def test_the_least_recently_used_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number, and by their bytes."""
    monkeypatch.setattr(descriptions, "MAX_DESCRIPTIONS", 3)
    cache = Descriptions(None)
    for key in "abc":
        cache.add(key, key)
    assert cache.get("a") == "a"
    cache.add("d", "d")
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    monkeypatch.setattr(descriptions, "MAX_TEXT_BYTES", 1400)
    cache.add("e", "é" * 350)
    assert [cache.get(key) for key in "acde"] == [None, None, "d", "é" * 350]


def test_a_description_that_is_known_stays() -> None:
    """It stands in conversations already."""
    cache = Descriptions(None)
    cache.add("a", "first")
    cache.add("a", "second")
    assert cache.get("a") == "first"


def test_the_file_is_read_from_where_it_was_read_to(tmp_path: Path) -> None:
    """Also where another process has written it anew; a line that is not whole waits."""
    file = tmp_path / "kept"
    one, other = Descriptions(file), Descriptions(file)
    assert one.news() == []
    other.append("a", "A")
    assert one.news() == [("a", "A")]
    assert one.news() == []
    with file.open("ab") as half:
        half.write(b'{"key":"b",')
    assert one.news() == []
    with file.open("ab") as rest:
        rest.write(b'"text":"B"}\n')
    assert one.news() == [("b", "B")]
    beside = tmp_path / "new"
    beside.write_bytes(b'{"key":"c","text":"C"}\n' * 10)
    beside.replace(file)
    assert dict(one.news()) == {"c": "C"}


def test_a_file_that_grows_too_large_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the descriptions used last; it never has more bytes than it may."""
    monkeypatch.setattr(descriptions, "MAX_FILE_BYTES", 1000)
    file = tmp_path / "kept"
    cache = Descriptions(file)
    for number in range(100):
        cache.add(str(number), "x" * 50)
        cache.append(str(number), "x" * 50)
        assert file.stat().st_size <= 1000
    kept = dict(Descriptions(file).news())
    assert list(kept)[-1] == "99"
    assert 5 <= len(kept) < 15
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with file.open("ab") as more:
        more.write(b'{"key":"z","text":"Z"}\n' * 100)
    assert dict(Descriptions(file).news()) == {"z": "Z"}, "of a larger file the end is read"


def test_without_a_file_nothing_is_written() -> None:
    cache = Descriptions(None)
    cache.append("a", "A")
    assert cache.news() == []
