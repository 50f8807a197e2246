"""The table of `translator check`: read at a glance, wherever it is written to."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.check.results import Report, Row
from translator.check.table import can_encode, table

from .test_check import KEY, SETTINGS

REPORT = Report(
    [
        Row(kind="settings", name="a.toml", status="ok", summary="1 upstream"),
        Row(kind="upstream", name="up", status="warning", summary="http://up: x", advice="Do it."),
        Row(kind="model", name="m", status="failed", summary="a “b” " + "word " * 20, advice="Éa…"),
        Row(kind="model", name="n" * 40, status="skipped", summary="not asked"),
    ]
)


def test_the_table_is_read_at_a_glance() -> None:
    lines = table(REPORT, width=80, colour=False, plain=False).splitlines()
    assert lines[:3] == [
        "✓ settings a.toml  1 upstream",
        "! upstream up      http://up: x",
        "                   → Do it.",
    ]
    assert lines[3].startswith("✗ model    m       a “b” word word")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "4 checks: 1 fine, 1 to look at, 1 failed, 1 skipped."
    coloured = table(REPORT, width=80, colour=True, plain=False)
    assert "\x1b[32m✓\x1b[0m settings" in coloured
    assert "\x1b[31m✗\x1b[0m model" in coloured


def test_the_table_falls_back_to_ascii() -> None:
    text = table(REPORT, width=80, colour=False, plain=True)
    assert text.isascii()
    assert text.startswith("ok   settings a.toml")
    assert "\nFAIL model    m " in text
    assert '"b"' in text
    assert "-> Do it." in text
    assert [can_encode(name) for name in ("utf-8", "ascii", "cp1252", None, "x")] == [
        True, False, False, False, False
    ]  # fmt: skip


class Output(io.TextIOWrapper):
    """Standard output of some encoding, which may be a terminal."""

    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("encoding", "terminal", "no_colour", "begins"),
    [
        ("utf-8", True, "", "\x1b[32m✓\x1b[0m settings "),
        ("utf-8", True, "1", "✓ settings "),
        ("utf-8", False, "", "✓ settings "),
        ("ascii", False, "", "ok   settings "),
        ("cp1252", True, "1", "ok   settings "),
    ],
)
def test_the_output_decides_on_colour_and_marks(
    encoding: str,
    terminal: bool,
    no_colour: str,
    begins: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UP_KEY", KEY)
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm")
    out = Output(encoding, terminal=terminal)
    monkeypatch.setattr(sys, "stdout", out)
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS.replace("URL", "http://127.0.0.1:9/v1"))
    assert main(["check", str(file), "--offline"]) == 0
    assert out.text.startswith(begins)
